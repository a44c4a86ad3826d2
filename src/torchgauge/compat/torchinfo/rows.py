"""From a run to the rows of the table: which layers are listed, where, and with what numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from torchgauge.compat.running import ModelRun
from torchgauge.compat.torchinfo.enums import ColumnSettings
from torchgauge.compat.torchinfo.layer_info import LayerInfo
from torchgauge.compat.torchinfo.sizes import ShownSizes
from torchgauge.facts.codec.quick import made_quickly
from torchgauge.facts.trace import ModuleCall, NamedValue, ParameterInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a module is registered."""

    name: str
    module: nn.Module
    depth: int
    ancestors: tuple[_Place, ...] = ()
    """The places above, the root first."""
    rows: list[LayerInfo] = field(default_factory=list)
    """The first row, once there is one."""

    def row(self) -> LayerInfo:
        """Return a row without numbers."""
        if self.rows:
            return LayerInfo(self.name, self.module, self.depth, like=self.rows[0])
        self.rows.append(LayerInfo(self.name, self.module, self.depth))
        return self.rows[0]


def make_rows(model: nn.Module, run: ModelRun) -> list[LayerInfo]:
    """Return the rows of a run in order; without a run, every layer as it is registered.

    ``model`` is what the user gave, wrappers included.
    """
    places = list(_places(model))
    if not run.calls:
        rows = [place.row() for place in places]
        _link(rows)
    else:
        rows = _executed_rows(places, run)
    _Parameters(run).fill(rows)
    return rows


def _places(model: nn.Module) -> Iterator[_Place]:
    """Yield every place where a module is registered, also those of a module used repeatedly.

    A module that contains itself is not entered again.
    """
    stack = [_Place(name=type(model).__name__, module=model, depth=0)]
    while stack:
        place = stack.pop()
        yield place
        ancestors = (*place.ancestors, place)
        above = {id(other.module) for other in ancestors}
        children = [
            _Place(name=name, module=module, depth=place.depth + 1, ancestors=ancestors)
            for name, module in place.module._modules.items()
            if module is not None and id(module) not in above
        ]
        stack.extend(reversed(children))


# ---------------------------------------------------------------------- rows of a run


def _executed_rows(places: Sequence[_Place], run: ModelRun) -> list[LayerInfo]:
    """Return a row per call, in order of entry, below the containers that hold the layer."""
    called_at = _CalledAt(places)
    observed = {index: found for index, found in run.observed if isinstance(found, ShownSizes)}
    rows: list[LayerInfo] = []
    open_containers: dict[int, nn.Module] = {}
    for call in run.calls:
        place = called_at.place(call, run.modules[call.path])
        for above in place.ancestors:
            if open_containers.get(above.depth) is not above.module:
                rows.append(above.row())
                _close(open_containers, above)
        rows.append(_called(place, call, observed.get(call.index), run))
        _close(open_containers, place)
    _show_wrappers(rows, run.model)
    rows = _with_scripted(places, rows, {id(run.modules[call.path]) for call in run.calls})
    if rows:
        total = run.forward_compute.totals["forward"] // 2
        rows[0].own_macs += total - sum(row.own_macs for row in rows)
    _link(rows)
    return rows


class _CalledAt:
    """Finds where a call of a module that is registered repeatedly took place."""

    def __init__(self, places: Sequence[_Place]) -> None:
        self._places: dict[int, list[_Place]] = {}
        for place in places:
            self._places.setdefault(id(place.module), []).append(place)
        self._by_call: dict[int, _Place] = {}

    def place(self, call: ModuleCall, module: nn.Module) -> _Place:
        """Return the place nearest below the module that called it, the last one of several.

        Calls come in order of entry. torchinfo takes the last place of all, and so shows what
        siblings share in one that has not run. What is called from elsewhere stands there too.
        """
        registered = self._places[id(module)]
        found = registered[-1]
        if len(registered) > 1:
            caller = self._by_call.get(call.parent)
            below = [p for p in registered if any(above is caller for above in p.ancestors)]
            found = min(reversed(below), key=lambda place: place.depth, default=found)
        self._by_call[call.index] = found
        return found


def _close(open_containers: dict[int, nn.Module], place: _Place) -> None:
    """Make a place the current one of its depth, with nothing open below it."""
    for depth in [depth for depth in open_containers if depth > place.depth]:
        del open_containers[depth]
    open_containers[place.depth] = place.module


def _called(place: _Place, call: ModuleCall, sizes: ShownSizes | None, run: ModelRun) -> LayerInfo:
    row = place.row()
    row.class_name = run.types[call.path]
    row.executed = call.completed
    row.input_sizes, row.output_sizes = _all_sizes(call.inputs), _all_sizes(call.outputs)
    if sizes is not None:
        row.input_size, row.output_size = sizes.input_size, sizes.output_size
        row.output_bytes = sizes.output_bytes
    else:  # the layer failed: what went in is known
        row.input_size = next(iter(row.input_sizes.values()), [])
    row.macs, row.own_macs = run.macs_of(call), run.own_macs_of(call)
    return row


def _all_sizes(values: Sequence[NamedValue]) -> dict[str, list[int]]:
    return {value.name: list(value.tensor.shape) for value in values if value.tensor is not None}


def _show_wrappers(rows: Sequence[LayerInfo], inner: nn.Module) -> None:
    """Give what wraps the model (``torch.compile``, DataParallel) the sizes of the model's call."""
    position = next((i for i, row in enumerate(rows) if row.module is inner), 0)
    called = rows[position] if rows else None
    for row in rows[:position]:
        assert called is not None
        row.input_size, row.output_size = called.input_size, called.output_size
        row.executed, row.macs = called.executed, called.macs


def _with_scripted(
    places: Sequence[_Place], rows: list[LayerInfo], called: set[int]
) -> list[LayerInfo]:
    """Add the scripted modules, whose calls nobody sees, behind what ran in their parents."""
    for place in places:
        hidden = isinstance(place.module, torch.jit.ScriptModule) and id(place.module) not in called
        if hidden and place.ancestors:
            position = _end_of(rows, place.ancestors[-1].module)
            if position is not None:
                rows.insert(position, place.row())
    return rows


def _end_of(rows: Sequence[LayerInfo], parent: nn.Module) -> int | None:
    """Return the position behind the last row below the first row of ``parent``."""
    start = next((i for i, row in enumerate(rows) if row.module is parent), None)
    if start is None:
        return None
    end = start + 1
    while end < len(rows) and rows[end].depth > rows[start].depth:
        end += 1
    return end


def _link(rows: Sequence[LayerInfo]) -> None:
    """Number the rows, connect them with those above and below, and mark repeated modules."""
    first: dict[int, LayerInfo] = {}
    numbers: dict[int, int] = {}
    above: list[LayerInfo] = []
    for row in rows:
        numbers[row.depth] = numbers.get(row.depth, 0) + 1
        row.depth_index = numbers[row.depth]
        while above and above[-1].depth >= row.depth:
            above.pop()
        row.parent_info = above[-1] if above else None
        for other in above:
            other.children.append(row)
        above.append(row)
        earlier = first.setdefault(row.layer_id, row)
        if earlier is not row:
            row.is_recursive = True
            earlier.repeats.append(row)


# ---------------------------------------------------------------------- parameters


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A parameter as the table counts it."""

    key: str
    """Its first name: tied ones have the same."""
    name: str
    shape: tuple[int, ...]
    count: int
    nbytes: int
    trainable: bool
    is_lazy: bool


class _Parameters:
    """Counts parameters: all of a module, and those that a row shows."""

    def __init__(self, run: ModelRun) -> None:
        self._paths = {id(module): path for path, module in reversed(tuple(run.modules.items()))}
        self._infos = run.own_parameters
        self._owned: dict[int, tuple[_Counted, ...]] = {}

    def fill(self, rows: Sequence[LayerInfo]) -> None:
        """Set the parameter counts of all rows."""
        known: dict[int, LayerInfo] = {}
        for row in rows:
            first = known.setdefault(row.layer_id, row)
            if first is not row and first.depth == row.depth:  # a layer that is called again
                row.contains_lazy_param = first.contains_lazy_param
                row.num_params, row.trainable_params = first.num_params, first.trainable_params
                row.param_bytes = first.param_bytes
                row.inner_layers = {name: {**line} for name, line in first.inner_layers.items()}
                continue
            parameters = self._of(row.module)
            row.contains_lazy_param = any([item.is_lazy for item in parameters])
            row.num_params = sum([item.count for item in parameters])
            row.trainable_params = sum([item.count for item in parameters if item.trainable])
            row.param_bytes = sum([item.nbytes for item in parameters])
            row.inner_layers = _inner_layers(row, parameters)
        self._share_out([row for row in rows if not row.is_recursive])

    def _share_out(self, rows: Sequence[LayerInfo]) -> None:
        """Let each parameter be shown once.

        By the first row whose module owns it; where none does, by the nearest row above.
        """
        listed = {row.layer_id for row in rows}
        counted: set[str] = set()
        for row in rows:
            _count(row, self._own(row.module), counted)
        for row in rows:
            _count(row, self._without_rows(row.module, listed, set()), counted)

    def _own(self, module: nn.Module) -> tuple[_Counted, ...]:
        """Return the parameters that a module holds itself."""
        known = self._owned.get(id(module))
        if known is None:
            known = self._owned[id(module)] = tuple(self._look_up(module))
        return known

    def _look_up(self, module: nn.Module) -> Iterator[_Counted]:
        path = self._paths.get(id(module))
        for info in self._infos.get(path, ()) if path is not None else ():
            short = info.name.rpartition(".")[2]
            name, count = _unpruned(module, short, info)
            yield _Counted(
                key=info.shared_with or info.name,
                name=name,
                shape=info.shape,
                count=count,
                nbytes=info.stored_bytes,
                trainable=info.trainable,
                is_lazy=info.is_lazy,
            )

    def _of(self, module: nn.Module) -> tuple[_Counted, ...]:
        """Return the distinct parameters of a module and all below it, by names within it."""
        if not module._modules:
            return tuple({item.key: item for item in reversed(self._own(module))}.values())[::-1]
        found: dict[str, _Counted] = {}
        for prefix, part in module.named_modules():
            for item in self._own(part):
                found.setdefault(item.key, _renamed(item, prefix) if prefix else item)
        return tuple(found.values())

    def _without_rows(
        self, module: nn.Module, listed: set[int], entered: set[int]
    ) -> Iterator[_Counted]:
        """Yield a module's own parameters, and those of modules below it that have no row."""
        entered.add(id(module))
        yield from self._own(module)
        for child in module._modules.values():
            if child is not None and id(child) not in listed and id(child) not in entered:
                yield from self._without_rows(child, listed, entered)


def _count(row: LayerInfo, parameters: Iterable[_Counted], counted: set[str]) -> None:
    """Add the parameters that have not been counted yet to those that a row shows."""
    for item in parameters:
        if item.key not in counted:
            counted.add(item.key)
            row.own_params += item.count
            row.own_trainable_params += item.count if item.trainable else 0
            row.own_param_bytes += item.nbytes


def _renamed(item: _Counted, prefix: str) -> _Counted:
    return _Counted(
        key=item.key,
        name=f"{prefix}.{item.name}",
        shape=item.shape,
        count=item.count,
        nbytes=item.nbytes,
        trainable=item.trainable,
        is_lazy=item.is_lazy,
    )


def _unpruned(module: nn.Module, name: str, info: ParameterInfo) -> tuple[str, int]:
    """Return the name and count of a parameter; of a pruned one, what its mask keeps.

    ``torch.nn.utils.prune`` leaves ``weight_orig`` and a buffer ``weight_mask`` of ones and zeros.
    """
    if name.endswith("_orig"):
        mask: Any = module._buffers.get(f"{name.removesuffix('_orig')}_mask")
        if isinstance(mask, torch.Tensor) and not mask.is_meta:
            return name.removesuffix("_orig"), int(mask.sum())
    return name, info.numel


def _inner_layers(
    row: LayerInfo, parameters: Sequence[_Counted]
) -> dict[str, dict[ColumnSettings, str]]:
    """Return the lines that ``verbose=2`` adds: each weight's shape and count.

    The root lists its own only. A weight's first two dimensions are swapped: in, out, kernel.
    """
    shown = [
        item
        for item in parameters
        if (row.depth > 0 or "." not in item.name) and not (item.is_lazy and item.count == 0)
    ]
    lines: dict[str, dict[ColumnSettings, str]] = {}
    for item in shown:
        shape = list(item.shape)
        if item.name == "weight" and len(shape) > 1:
            shape[0], shape[1] = shape[1], shape[0]
        branch = "└─" if item is shown[-1] else "├─"
        lines[item.name] = {
            ColumnSettings.KERNEL_SIZE: str(shape),
            ColumnSettings.NUM_PARAMS: f"{branch}{item.count:,}",
        }
    return lines
