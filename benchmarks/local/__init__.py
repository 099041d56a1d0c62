"""What the local cloud costs: its start, its jobs and endpoints, and the whole demo."""
