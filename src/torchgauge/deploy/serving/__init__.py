"""HTTP inference on a package: validation, batching, back-pressure, graceful end."""
