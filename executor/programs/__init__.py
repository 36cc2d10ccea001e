"""Programs in the loop: each call of a skill is a step of the run, each answer goes back into the program."""
