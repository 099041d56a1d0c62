"""Save tensors while the profiled training runs, and judge them by rules."""
