"""Other tools' module names, answered by torchgauge for a whole program."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torchgauge.errors import UsageError

_HOME = "torchgauge.compat."
TOOLS: dict[str, tuple[str, ...]] = {
    "torchsummary": ("torchsummary", "torchsummary.torchsummary"),
    "torchinfo": (
        "torchinfo",
        "torchinfo.enums",
        "torchinfo.formatting",
        "torchinfo.layer_info",
        "torchinfo.model_statistics",
        "torchinfo.torchinfo",
    ),
    "thop": ("thop", "thop.profile", "thop.utils", "thop.vision", "thop.vision.basic_hooks"),
    "fvcore": (
        "fvcore",
        "fvcore.nn",
        "fvcore.nn.flop_count",
        "fvcore.nn.activation_count",
        "fvcore.nn.jit_analysis",
        "fvcore.nn.jit_handles",
        "fvcore.nn.parameter_count",
        "fvcore.nn.print_model_statistics",
    ),
    "ptflops": ("ptflops", "ptflops.flops_counter", "ptflops.utils"),
}
"""Module names by tool. What has no name here is not taken over."""
_PARTLY = {"fvcore": ("fvcore", "fvcore.nn")}
"""Packages that do more than what is stood in for: where they are installed they stay, and the
names that torchgauge has are put into them."""


@dataclass(slots=True)
class StandIn:
    """What ``install`` did; ``uninstall`` or the end of a ``with`` block takes it back."""

    tools: tuple[str, ...]
    _modules: dict[str, ModuleType | None] = field(default_factory=dict)
    _attributes: list[tuple[ModuleType, str, Any]] = field(default_factory=list)

    def uninstall(self) -> None:
        """Give the names back. What a program has already imported by name stays as it is."""
        for module, name, before in reversed(self._attributes):
            if before is _ABSENT:
                delattr(module, name)
            else:
                setattr(module, name, before)
        for name, before in self._modules.items():
            if before is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = before
        self._attributes.clear()
        self._modules.clear()

    def replace(self, name: str, module: ModuleType) -> None:
        """Put a module under another's name."""
        self._modules.setdefault(name, sys.modules.get(name))
        sys.modules[name] = module

    def put_into(self, original: ModuleType, module: ModuleType) -> None:
        """Put the public names of a module into the one that it stands in for."""
        for name in module.__all__:
            before = original.__dict__.get(name, _ABSENT)
            self._attributes.append((original, name, before))
            setattr(original, name, getattr(module, name))

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.uninstall()


_ABSENT: Any = object()


def install(*tools: str, quiet: bool = False) -> StandIn:
    """Answer ``import torchinfo`` and the like with torchgauge, in this process from now on.

    Only you call this. One line on stderr says what was taken over, unless ``quiet``.
    Names that a module imported before (``from torchinfo import summary``) stay what they were.

    Args:
        *tools: ``torchsummary``, ``torchinfo``, ``thop``, ``fvcore``, ``ptflops``; all of them
            when none is named.
        quiet: do not say so.

    Returns:
        A handle whose ``uninstall()`` gives the names back; usable in a ``with`` statement.

    Raises:
        UsageError: a tool is not known.

    >>> with install("torchinfo", quiet=True):
    ...     import torchinfo
    ...     torchinfo.__name__
    'torchgauge.compat.torchinfo'
    """
    for tool in tools:
        if tool not in TOOLS:
            raise UsageError(
                f"torchgauge does not stand in for {tool!r}", hint=f"one of {', '.join(TOOLS)}"
            )
    chosen = tuple(dict.fromkeys(tools)) or tuple(TOOLS)
    early = [tool for tool in chosen if tool in sys.modules]
    stand_in = StandIn(chosen)
    try:
        for tool in chosen:
            _take_over(tool, stand_in)
    except BaseException:
        stand_in.uninstall()
        raise
    if not quiet:
        note = f" ({', '.join(early)} had been imported: names taken from there stay)" * bool(early)
        print(f"torchgauge stands in for {', '.join(chosen)}{note}", file=sys.stderr)
    return stand_in


def _take_over(tool: str, stand_in: StandIn) -> None:
    kept = _PARTLY.get(tool, ())
    if kept and not _is_there(tool):
        kept = ()
    for name in TOOLS[tool]:
        module = importlib.import_module(_HOME + name)
        if name in kept:
            stand_in.put_into(importlib.import_module(name), module)
        else:
            stand_in.replace(name, module)


def _is_there(tool: str) -> bool:
    """Return whether the original can be imported."""
    module = sys.modules.get(tool)
    if module is not None:
        return not module.__name__.startswith(_HOME)
    return importlib.util.find_spec(tool) is not None
