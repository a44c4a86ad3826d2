"""Scratch memory of the CPU's kernels."""
