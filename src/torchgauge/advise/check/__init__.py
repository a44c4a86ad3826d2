"""How well a model does before a change and after it, on the user's own data."""
