"""Pure functions from a trace to numbers; none of them imports torch."""
