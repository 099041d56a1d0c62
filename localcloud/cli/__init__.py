"""What a person runs: `up`, `demo`, and what they print."""
