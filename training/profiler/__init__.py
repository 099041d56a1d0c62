"""Measure where a training's time goes, and choose faster settings."""
