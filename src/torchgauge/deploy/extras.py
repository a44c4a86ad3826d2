"""Import what is optional, or say which extra brings it."""

from __future__ import annotations

import importlib
from types import ModuleType

from torchgauge.errors import MissingExtraError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Return an imported module.

    Raises:
        MissingExtraError: it is not installed; the hint has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module.partition('.')[0]} is needed to {purpose} and is not installed",
            hint=f'pip install "torchgauge[{extra}]"',
        ) from error
