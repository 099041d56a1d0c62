"""Compare a finished training's candidates with each other and with the live model."""
