"""A model spec to a model: Python files, libraries, hubs, checkpoints."""
