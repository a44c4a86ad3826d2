"""Pages of answers about a model that changes."""
