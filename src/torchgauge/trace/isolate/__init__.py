"""State that a run may disturb: saved before, put back after."""
