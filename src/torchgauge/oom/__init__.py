"""Explain an out-of-memory error: read its message, replay the step, find what failed."""
