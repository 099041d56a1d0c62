"""Measurements behind every figure that the documentation claims: `python -m benchmarks` runs them all."""
