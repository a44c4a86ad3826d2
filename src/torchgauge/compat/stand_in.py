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
        "fvcore.nn.parameter_count",
        "fvcore.nn.print_model_statistics",
    ),
    "ptflops": ("ptflops", "ptflops.flops_counter", "ptflops.utils"),
}
"""Module names by tool. What has no name here is not taken over."""
_WHOLE = frozenset(["torchsummary", "torchinfo", "thop", "ptflops"])
"""Tools that are nothing but what is stood in for; of fvcore, which is more, only parts are."""


@dataclass(slots=True)
class StandIn:
    """What ``install`` did; ``uninstall`` or the end of a ``with`` block takes it back."""

    tools: tuple[str, ...]
    _before: dict[str, ModuleType | None] = field(default_factory=dict)

    def uninstall(self) -> None:
        """Give the names back. What a program has already imported by name stays as it is."""
        for name, module in self._before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
        self._before.clear()

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.uninstall()


def install(*tools: str, quiet: bool = False) -> StandIn:
    """Answer ``import torchinfo`` and the like with torchgauge, in this process from now on.

    Nothing calls this by itself. One line on stderr says what was taken over, unless ``quiet``.
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
    modules = {
        name: importlib.import_module(_HOME + name) for tool in chosen for name in _names(tool)
    }
    stand_in = StandIn(chosen)
    for name, module in modules.items():
        stand_in._before[name] = sys.modules.get(name)
        sys.modules[name] = module
    if not quiet:
        early = [tool for tool in chosen if stand_in._before.get(tool) is not None]
        note = f" ({', '.join(early)} had been imported: names taken from there stay)" * bool(early)
        print(f"torchgauge stands in for {', '.join(chosen)}{note}", file=sys.stderr)
    return stand_in


def _names(tool: str) -> tuple[str, ...]:
    """Return the names to take; of a tool that is there and does more, its package is not."""
    if tool in _WHOLE or (tool not in sys.modules and importlib.util.find_spec(tool) is None):
        return TOOLS[tool]
    return tuple(name for name in TOOLS[tool] if name != tool)
