"""Benchmarks: run each as `python -m benchmarks.NAME --quick|--full`; the last line is JSON."""
