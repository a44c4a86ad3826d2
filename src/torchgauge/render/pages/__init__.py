"""Answers → ``Page``: each answer describes itself here once, for every format."""
