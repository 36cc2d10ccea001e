"""A record for other programs: MCAP for Foxglove, Rerun, OpenTelemetry spans."""
