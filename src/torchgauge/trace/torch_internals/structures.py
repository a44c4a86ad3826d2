"""Modules and nested structures of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def global_module_hooks() -> list[Callable[..., Any]]:
    """Return the hooks that run around every module, in ``torch.nn.modules.module`` (2.6–2.13)."""
    names = (
        "_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_hooks",
        "_global_backward_pre_hooks",
    )  # fmt: skip
    module = torch.nn.modules.module
    return [hook for name in names for hook in getattr(module, name, {}).values()]


def unwrap_compiled(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module that ``torch.compile`` wrapped (``_orig_mod``: 2.6–2.13)."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    original = module._modules.get("_orig_mod")
    return module if original is None else original


def flatten_with_names(value: Any) -> tuple[list[tuple[str, ...]], list[Any], Any]:
    """Return the path of each leaf as keys, indices and field names, the leaves, the structure.

    2.6–2.13; ``torch.utils._pytree`` has no public function that knows transformers' outputs.
    """
    from torch.utils import _pytree

    pairs, spec = _pytree.tree_flatten_with_path(value)
    paths = [tuple(str(_key(entry)) for entry in path) for path, _ in pairs]
    return paths, [leaf for _, leaf in pairs], spec


def unflatten(leaves: Sequence[Any], spec: Any) -> Any:
    """Return the structure with ``leaves`` in it; see ``flatten_with_names``."""
    from torch.utils import _pytree

    return _pytree.tree_unflatten(list(leaves), spec)


def _key(entry: Any) -> Any:
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry
