"""The phases of a scenario, and which runs it takes to get a trace."""
