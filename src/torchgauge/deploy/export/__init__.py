"""A model and its example inputs to an exported program."""
