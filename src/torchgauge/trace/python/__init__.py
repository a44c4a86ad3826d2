"""What a model's own Python does besides operators: calls, threads, arrays, loops."""
