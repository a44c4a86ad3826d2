"""A traced step → what could be recomputed, and the program over it."""
