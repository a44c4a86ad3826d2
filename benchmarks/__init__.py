"""Benchmarks: run beside the package, never installed with it."""
