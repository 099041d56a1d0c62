"""Put a network's pretrained weights into a stage's bucket: `make weights`."""
