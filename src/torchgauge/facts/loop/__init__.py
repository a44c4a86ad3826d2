"""Answers about a model that changes."""
