"""From an instruction and an observation to a typed plan."""
