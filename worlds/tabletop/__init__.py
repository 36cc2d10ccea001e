"""The embedded world: a Franka Panda at a table with household things, in MuJoCo."""
