"""The way to a goal: which changes together, and how far each combination goes."""
