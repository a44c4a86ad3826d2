"""Pure data: what a trace and a report consist of. Standard library only."""
