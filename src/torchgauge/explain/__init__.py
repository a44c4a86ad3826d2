"""How a figure of a report came about. Pure: reads a trace and its report, imports no torch."""
