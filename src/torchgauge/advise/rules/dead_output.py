"""Modules that are called and whose result nothing reads."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.subject import Subject, put
from torchgauge.changes.change import Change
from torchgauge.facts.trace import ModuleCall
from torchgauge.units import format_number_of


class DeadOutput:
    """Find calls whose output no operator reads and the model does not return."""

    name = "dead-output"
    about = "modules whose result nothing reads"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for the outermost of them."""
        found: list[str] = []
        watched: list[str] = []
        for path, calls in subject.calls.items():
            inside = any(path.startswith(f"{other}.") for other in (*found, *watched))
            if path and not inside and all(_is_dead(subject, call) for call in calls):
                if (watcher := subject.watcher(path)) is not None:
                    yield f"nothing reads the result of {path}, but hooks of {watcher} may"
                    watched.append(path)
                    continue
                found.append(path)
        if not found:
            if not watched:
                yield "every module's result is read"
            return
        yield Change(
            rule=self.name,
            text=f"leave out {format_number_of(len(found), 'module')} whose result nothing reads",
            why="no operator reads it and the model does not return it",
            where=tuple(found),
            snippet=tuple(f"# in forward: do not call self.{path}" for path in found[:3]),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Put the identity into their places."""
        for path in change.where:
            put(model, path, nn.Identity())


def _is_dead(subject: Subject, call: ModuleCall) -> bool:
    """Return whether nothing reads what a call has made, itself aside."""
    trace = subject.trace
    if call.parent < 0 or not call.completed or not call.output_storages:
        return False
    for storage in call.output_storages:
        is_made_here = trace.storages[storage].op >= call.first_op
        if not is_made_here or storage in trace.calls[0].output_storages:
            return False
        if storage in subject.kept:  # on the module, for whoever asks for it later
            return False
        if any(op.index >= call.end_op for op in subject.readers.get(storage, ())):
            return False
    return True
