"""What a scenario's fields may be, and what they are called elsewhere."""
