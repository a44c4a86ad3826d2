"""Formats: ``Page`` → ``str``. A format knows blocks, not answers."""
