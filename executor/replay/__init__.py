"""Time travel: run the same orchestrator on a record, exchange one part for a live one, fork, compare and blame."""
