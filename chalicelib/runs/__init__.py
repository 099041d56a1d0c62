"""A run: its identity and names, its folder in the bucket, and the steps it can take."""
