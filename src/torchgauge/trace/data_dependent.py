"""What is raised where a simulated run would need the data of tensors that have none."""

from __future__ import annotations


class DataDependentError(RuntimeError):
    """The model asked for a value that a simulated run does not have."""
