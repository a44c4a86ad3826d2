"""Activations that could write their result over their input, which nothing else reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from torchgauge.advise.flow import entry
from torchgauge.advise.hooks import seen_by_hooks
from torchgauge.advise.subject import Subject, in_code
from torchgauge.changes.change import Change
from torchgauge.facts.trace import ModuleCall, Role
from torchgauge.units import format_number_of

_KINDS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.Hardtanh, nn.Hardswish, nn.SiLU)
_KEPT = (Role.PARAMETER, Role.BUFFER, Role.INPUT)


class InPlace:
    """Find activations with ``inplace=False`` whose input has no other reader."""

    name = "in-place"
    about = "activations that could write over their input, which nothing else reads"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all of them."""
        others = 0
        found = []
        watchers: list[str] = []
        for path, module in subject.of_type(*_KINDS):
            if getattr(module, "inplace", True) or path not in subject.calls:
                continue
            calls = subject.calls[path]
            if not all(_is_free(subject, call) for call in calls):
                others += 1
            elif (watcher := _watcher(subject, path, calls)) is not None:
                watchers.append(watcher)
            else:
                found.append(path)
        yield from (seen_by_hooks(watcher) for watcher in dict.fromkeys(watchers))
        if not found:
            if others:
                yield f"the input of {format_number_of(others, 'activation')} is read again"
            elif not watchers:
                yield "no activation has inplace=False"
            return
        yield Change(
            rule=self.name,
            text=f"run {format_number_of(len(found), 'activation')} in place",
            why="nothing reads the input afterwards, neither forward nor backward",
            where=tuple(found),
            cost="a later change that reads the input finds the result there",
            snippet=tuple(f"{in_code(path)}.inplace = True" for path in found[:3]),
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Set the flag."""
        for path in change.where:
            module = model.get_submodule(path)
            if not isinstance(module, _KINDS):
                raise ValueError(f"{path} is not an activation")
            module.inplace = True


def _is_free(subject: Subject, call: ModuleCall) -> bool:
    """Return whether nothing reads the input of an activation after it."""
    found = entry(subject, call)
    if found is None:
        return False
    op, storage = found
    record = subject.trace.storages[storage]
    returned = storage in subject.trace.calls[0].output_storages
    if record.role in _KEPT or returned or storage in op.writes:
        return False
    if storage in subject.kept:
        return False
    later = [reader for reader in subject.readers.get(storage, ()) if reader.index > op.index]
    return not later and not _is_viewed_later(subject, storage, op.index)


def _watcher(subject: Subject, path: str, calls: Sequence[ModuleCall]) -> str | None:
    """Return a module whose hooks may keep the input of an activation, or that may hold one."""
    if not subject.hooked:
        return None
    involved = {path}
    for call in calls:
        storage = entry(subject, call)
        if storage is None:
            continue
        ops = (*subject.readers.get(storage[1], ()), *subject.writers.get(storage[1], ()))
        involved |= {subject.path_of(op) for op in ops}
    parts = [name.split(".") for name in involved if name]
    around = {".".join(part[: count + 1]) for part in parts for count in range(len(part))}
    return next(iter(sorted(subject.hooked & around)), None)


def _is_viewed_later(subject: Subject, storage: int, index: int) -> bool:
    """Return whether a view of a storage is made after an operator: its reader may be Python."""
    return storage in subject.last_view and subject.last_view[storage] > index
