"""The commands that a person runs, `up` and `demo`, and what they print."""
