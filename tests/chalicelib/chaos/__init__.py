"""Simulate thousands of histories of the control plane, each replayable by its seed, and judge how each one ends."""
