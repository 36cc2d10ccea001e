"""From action chunks to joint commands: kinematics, timing, transit and the safety envelope."""
