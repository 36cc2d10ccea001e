"""Several arms carry out one plan: who does what, who may go where, and all of it in one simulated time."""
