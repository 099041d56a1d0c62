"""What the control plane costs: its import, its archive and memory, pre-flight, and the page."""
