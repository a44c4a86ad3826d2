"""Scratch memory of oneDNN's kernels, as its source sizes it."""
