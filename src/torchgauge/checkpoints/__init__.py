"""Plan what to recompute: which modules, so that a step fits at the least extra work."""
