"""Models of transformers from a name or a config, and the inputs that they take."""
