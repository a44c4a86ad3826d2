"""Scratch memory of CUDA's kernels."""
