"""What modules and tensors are, read without changing them."""
