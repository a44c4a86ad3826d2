"""What a model and its changed copies do when they run: on random inputs, on the user's data."""
