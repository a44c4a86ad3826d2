"""Real values beside meta tensors, and what is said where there are none."""
