"""What ``python -m benchmarks.record`` measures, part by part."""
