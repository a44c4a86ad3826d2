"""Public out-of-memory messages, and public reports that a step ran."""
