"""Decide what a recipe leaves open, from counts and measured answers alone."""
