"""Sizes and tensors to the arguments of a forward."""
