"""Check a zip of labelled images before anything is launched: its directory, its layout and a few samples."""
