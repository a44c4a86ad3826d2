"""Plan what to compute again: which modules, so that a step fits at the least extra work."""
