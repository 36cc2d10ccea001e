"""Demonstrations, datasets, and the training of planner and policies."""
