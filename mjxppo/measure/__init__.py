"""Measurements: speed, compilation, reliability, and what is installed."""
