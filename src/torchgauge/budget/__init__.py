"""Budgets: limits of models in ``pyproject.toml``, and what a check of them says."""
