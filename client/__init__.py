"""The `whippet` command: upload, watch, predict and manage, on the public API alone."""
