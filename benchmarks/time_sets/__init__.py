"""Published measurements of time, each with what has to be predicted for it."""
