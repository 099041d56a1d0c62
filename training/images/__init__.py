"""From the zip to batches of pixels: which files are images, which split each belongs to, and how they are decoded."""
