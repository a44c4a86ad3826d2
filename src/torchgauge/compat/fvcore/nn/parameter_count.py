"""``parameter_count`` and its table: every parameter once, under its first name."""

from __future__ import annotations

from collections import defaultdict

from torch import nn
from torch.nn.parameter import is_lazy

from torchgauge.compat.tables import pipe_table

_SIZES = ((1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K"))
"""Above, divided by, with: fvcore changes units below a whole one."""


def parameter_count(model: nn.Module) -> defaultdict[str, int]:
    """Return elements by the name of every parameter and of every module above one.

    ``""`` is the model. A parameter without a shape yet (``nn.LazyLinear``) has none.
    """
    found: defaultdict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        elements = 0 if is_lazy(parameter) else parameter.numel()
        parts = name.split(".")
        for count in range(len(parts) + 1):
            found[".".join(parts[:count])] += elements
    return found


def parameter_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return shapes by the name of the parameter."""
    return {
        name: () if is_lazy(parameter) else tuple(parameter.shape)
        for name, parameter in model.named_parameters()
    }


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """Return a table of elements by module and of shapes by parameter, down to a depth."""
    counts = parameter_count(model)
    shapes = parameter_shapes(model)
    rows = [["model", _size(counts.pop("", 0))]]

    def add(level: int, prefix: str) -> None:
        for name, elements in counts.items():
            if level < max_depth and name.count(".") == level and name.startswith(prefix):
                indent = " " * (level + 1)
                text = str(shapes[name]) if name in shapes else _size(elements)
                rows.append([indent + name, indent + text])
                if name not in shapes:
                    add(level + 1, f"{name}.")

    add(0, "")
    return pipe_table(("name", "#elements or shape"), rows)


def _size(value: int) -> str:
    for limit, divisor, unit in _SIZES:
        if value > limit:
            return f"{value / divisor:.1f}{unit}"
    return str(value)
