"""Turn the zip into batches of pixels: find the images, assign each to a split, and decode them."""
