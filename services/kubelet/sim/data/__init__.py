"""What images do in simulation: the built-in image profiles."""
