"""Policies behind NVIDIA's GR00T inference server: ``groot:HOST:PORT``."""
