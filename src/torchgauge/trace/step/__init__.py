"""What a step does with the copy: loss, optimizer, checkpointing, offloading, hooks."""
