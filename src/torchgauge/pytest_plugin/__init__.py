"""Budgets in tests: the ``gauge`` fixture of pytest. Nothing is imported before it is called."""
