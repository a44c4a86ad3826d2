"""Suggestions as patches against the user's own source, by libcst: comments and style are kept."""
