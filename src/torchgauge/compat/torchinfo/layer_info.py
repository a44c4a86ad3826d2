"""One row of the table: a call of a layer, or a layer that is only listed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from torchgauge.compat.torchinfo.enums import ColumnSettings
from torchgauge.trace.inspect.tree import type_name

_PERCENT_PRECISION = 2
_PERCENT_SPACING = 5
_HELD = ("_parameters", "_buffers", "_modules")


class LayerInfo:
    """What is known of one row. ``module`` is the user's own, live module.

    Sizes are those of the one tensor that the table shows; ``input_sizes`` and ``output_sizes``
    hold all of them by name. ``macs`` are those of the call, sub-modules included, ``own_macs``
    those of what the layer computes itself. ``num_params`` are all parameters of the layer,
    ``own_params`` those that the row shows: no earlier row has, and no row below does.
    """

    def __init__(
        self,
        var_name: str,
        module: nn.Module,
        depth: int,
        parent_info: LayerInfo | None = None,
        *,
        like: LayerInfo | None = None,
    ) -> None:
        """Begin a row; another of the same module may be given that it is ``like``."""
        self.layer_id = id(module)
        self.module = module
        self.class_name = type_name(module)
        self.var_name = var_name
        self.depth = depth
        self.depth_index: int | None = None
        self.parent_info = parent_info
        self.children: list[LayerInfo] = []
        """Every row below this one, in order; not the next level alone."""
        self.repeats: list[LayerInfo] = []
        """The later rows of the same module, for its first row."""
        if like is None:
            children = [child for child in module._modules.values() if child is not None]
            self.is_leaf_layer = not children
            self.kernel_size = self.get_kernel_size(module)
            self.groups = _groups(module)
        else:
            self.is_leaf_layer = like.is_leaf_layer
            self.kernel_size, self.groups = like.kernel_size, like.groups
        self.is_recursive = False
        self.executed = False
        self.contains_lazy_param = False
        self.inner_layers: dict[str, dict[ColumnSettings, str]] = {}
        self.input_size: list[Any] = []
        self.output_size: list[Any] = []
        self.input_sizes: dict[str, list[int]] = {}
        self.output_sizes: dict[str, list[int]] = {}
        self.num_params = 0
        self.trainable_params = 0
        self.own_params = 0
        self.own_trainable_params = 0
        self.own_param_bytes = 0
        self.param_bytes = 0
        self.output_bytes = 0
        self.macs = 0
        self.own_macs = 0

    def __repr__(self) -> str:
        return f"{self.class_name}: {self.depth}"

    @property
    def trainable(self) -> str:
        """Return ``True``, ``False`` or ``Partial``; ``--`` without parameters."""
        if self.num_params == 0:
            return "--"
        if self.trainable_params == 0:
            return "False"
        return "True" if self.trainable_params == self.num_params else "Partial"

    @staticmethod
    def get_kernel_size(module: nn.Module) -> int | list[Any] | None:
        """Return a module's ``kernel_size``, in plain numbers."""
        size = _attribute(module, "kernel_size")
        if isinstance(size, torch.Tensor):
            size = None if size.is_meta else size.tolist()
        if isinstance(size, Iterable) and not isinstance(size, str):
            return [_number(item) for item in size]
        return size if isinstance(size, int) else None

    def get_layer_name(self, show_var_name: bool, show_depth: bool) -> str:
        """Return ``Conv2d (conv1): 1-1``, or the parts of it that are asked for."""
        name = self.class_name
        if show_var_name and self.var_name:
            name += f" ({self.var_name})"
        if show_depth and self.depth > 0:
            name += f": {self.depth}"
            if self.depth_index is not None:
                name += f"-{self.depth_index}"
        return name

    # ------------------------------------------------------------------ numbers of the row

    def leftover_params(self) -> int:
        """Return the parameters that this row shows and none below it does."""
        return self.own_params

    def leftover_trainable_params(self) -> int:
        """Return the trainable ones of ``leftover_params``."""
        return self.own_trainable_params

    def shown_params(self, reached_max_depth: bool) -> int:
        """Return the parameters that the row stands for; at the depth limit all below it too."""
        if self.is_recursive:
            return 0
        if not reached_max_depth:
            return self.own_params
        below = (*self.children, *(row for again in self.repeats for row in again.children))
        return self.own_params + sum(row.own_params for row in below)

    def shown_macs(self, reached_max_depth: bool) -> int:
        """Return the MACs that the row stands for; at the depth limit all below it too."""
        if not reached_max_depth:
            return self.own_macs
        return self.own_macs + sum(row.own_macs for row in self.children)

    def macs_to_str(self, reached_max_depth: bool) -> str:
        """Return the cell of the column ``mult_adds``."""
        macs = self.shown_macs(reached_max_depth)
        return f"{macs:,}" if macs > 0 else "--"

    def num_params_to_str(self, reached_max_depth: bool) -> str:
        """Return the cell of the column ``num_params``; in parentheses what is frozen."""
        if self.num_params == 0:
            return "--"
        shown = self.shown_params(reached_max_depth)
        whole = reached_max_depth or self.is_leaf_layer
        if self.is_recursive or (whole and shown == 0):
            return "(recursive)"
        if not whole:
            return f"{shown:,}" if shown > 0 else "--"
        return f"{shown:,}" if self.trainable_params else f"({shown:,})"

    def params_percent(
        self, total_params: int, reached_max_depth: bool, precision: int = _PERCENT_PRECISION
    ) -> str:
        """Return the cell of the column ``params_percent``."""
        nothing = f"{' ' * _PERCENT_SPACING}--"
        if total_params == 0:
            return nothing
        if self.is_recursive:
            return "(recursive)"
        shown = self.shown_params(reached_max_depth)
        if shown == 0:
            return nothing
        return f"{shown / total_params:>{precision + _PERCENT_SPACING}.{precision}%}"


def _number(value: Any) -> Any:
    """Return the plain number inside a zero-dimensional tensor or NumPy scalar."""
    if isinstance(value, torch.Tensor):
        return value.tolist() if not value.is_meta else "?"
    return value.item() if hasattr(value, "item") else value


def _groups(module: nn.Module) -> int | None:
    groups = _attribute(module, "groups")
    return groups if isinstance(groups, int) else None


def _attribute(module: nn.Module, name: str) -> Any:
    """Return an attribute, ``None`` where there is none: PyTorch takes long to say so."""
    state = module.__dict__
    if type(module).__getattr__ is not nn.Module.__getattr__ or hasattr(type(module), name):
        return getattr(module, name, None)
    return next(
        (held[name] for held in (state, *(state[kind] for kind in _HELD)) if name in held), None
    )
