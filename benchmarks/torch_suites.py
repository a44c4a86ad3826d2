"""The suites that PyTorch tests itself with, as ``torch.testing._internal`` has them."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from typing import Any

import torch


@cache
def entries(module: str, name: str) -> tuple[Any, ...]:
    """Return the entries of a suite; importing one takes seconds.

    The import forbids to set flags of ``torch.backends`` for the rest of the process, which others
    do: when it is over, that is as it was before.
    """
    flags_as_they_were = getattr(torch.backends, "__allow_nonbracketed_mutation")
    with flags_as_they_were(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(getattr(importlib.import_module(f"torch.testing._internal.{module}"), name))


def module_db() -> tuple[Any, ...]:
    """Return the modules of ``torch.nn`` with their inputs."""
    return entries("common_modules", "module_db")


def op_db() -> tuple[Any, ...]:
    """Return the operators with their samples."""
    return entries("common_methods_invocations", "op_db")
