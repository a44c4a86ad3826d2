"""What the callbacks and the loop share: a step before it runs, and its first runs."""
