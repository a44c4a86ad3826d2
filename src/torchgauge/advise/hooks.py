"""Hooks of the user's: they may keep or change any tensor that they see."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from torch import nn

from torchgauge.trace.torch_internals.structures import global_module_hooks

HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_TORCHS: Final = "torch.nn.utils."
"""Weight and spectral norm and pruning by hooks: they write a weight, and keep no tensor."""
UNSEEN: Final = ("untied-copy", "never-called", "unused-parameter", "constant-folding")
"""Rules after which every module gets and returns the same tensors."""


def hooked(model: nn.Module) -> frozenset[str]:
    """Return the modules with hooks of the user's; with hooks around every module, all."""
    if any(_is_users(hook) for hook in global_module_hooks()):
        return frozenset(path for path, _ in model.named_modules())
    return frozenset(
        path
        for path, module in model.named_modules(remove_duplicate=False)
        if any(_is_users(hook) for hook in _hooks_of(module))
    )


def seen_by_hooks(path: str) -> str:
    """Return why a change is left alone that a hook would notice."""
    return f"hooks of {path or 'the model'} may see other tensors"


def _hooks_of(module: nn.Module) -> Iterator[Any]:
    for name in HOOKS:
        yield from getattr(module, name).values()


def _is_users(hook: Any) -> bool:
    while isinstance(hook, partial):
        hook = hook.func
    home = getattr(hook, "__module__", None) or type(hook).__module__
    return not str(home).startswith(_TORCHS)
