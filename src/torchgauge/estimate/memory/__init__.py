"""How many bytes a step occupies: lifetimes, workspaces, the allocator, the device."""
