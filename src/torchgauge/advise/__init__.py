"""What to change in a model: rules look, the engine applies, traces and proves."""
