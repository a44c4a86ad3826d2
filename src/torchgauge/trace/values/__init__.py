"""Real values of meta tensors, and what the report says where there are none."""
