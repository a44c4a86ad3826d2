"""The HTTP side of a server: connections, bodies, JSON, errors, descriptions, counters."""
