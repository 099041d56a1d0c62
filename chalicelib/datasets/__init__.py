"""Check a zip of labelled images before it costs anything: its directory, its layout, and a few samples."""
