"""The same step run for real: timed without any instrument, then attributed with a profiler."""
