"""How long a step takes: what the CPU and the GPU models share."""
