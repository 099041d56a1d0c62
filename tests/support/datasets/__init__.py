"""Datasets as people pack them, and how both units read them."""
