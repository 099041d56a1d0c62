"""Move a run from its upload to its result: observe, decide, act."""
