"""Runs a plan: orchestration, learned policies, monitors and the run record."""
