"""Modules that no forward calls: their parameters are stored, loaded and trained for nothing."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.subject import Subject, put
from torchgauge.changes.change import Change
from torchgauge.facts.query import never_called
from torchgauge.units import format_integer, format_number_of


class LeftOut(nn.Module):
    """Stands where a module was that nothing called."""

    def forward(self, *_: object, **__: object) -> None:
        """Say so, instead of passing something on."""
        raise RuntimeError("this module was left out because no forward called it")


def _is_named(model: nn.Module, path: str) -> bool:
    """Return whether code of the module that holds it names it, in more than its constructor."""
    owner, _, name = path.rpartition(".")
    functions = (
        function
        for kind in type(model.get_submodule(owner)).__mro__
        if kind is not nn.Module
        for key, function in vars(kind).items()
        if key != "__init__"
    )
    return any(name in getattr(f, "__code__", _NO_CODE).co_names for f in functions)


def _is_one_of_several(subject: Subject, path: str) -> bool:
    """Return whether a list or dict holds a module of which the forward takes others.

    Which ones may depend on the input, or be drawn at random.
    """
    owner, _, name = path.rpartition(".")
    holder = subject.modules.get(owner)
    if not isinstance(holder, (nn.ModuleList, nn.ModuleDict)):
        return False
    names = (other for other, _ in holder.named_children() if other != name)
    return any(f"{owner}.{other}".lstrip(".") in subject.calls for other in names)


_NO_CODE = (lambda: None).__code__


class NeverCalled:
    """Find modules with parameters that the step did without."""

    name = "never-called"
    about = "modules with parameters that no forward calls"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all of them."""
        report = subject.report
        read = {storage for op in subject.trace.ops for storage in op.reads}
        labels = {s.label for s in subject.trace.storages if s.index in read}
        idle = [
            module
            for module in never_called(report)
            if module.params and not any(label.startswith(f"{module.path}.") for label in labels)
        ]
        named = [module for module in idle if _is_named(subject.request.model, module.path)]
        if named:
            yield f"{named[0].path} is not called here, and may be with other inputs or modes"
        idle = [module for module in idle if module not in named]
        chosen = [module for module in idle if _is_one_of_several(subject, module.path)]
        if chosen:
            yield f"{chosen[0].path} is not called here, but others of its container are"
        idle = [module for module in idle if module not in chosen]
        if not idle and (named or chosen):
            return
        if not idle:
            yield "every module with parameters takes part in the step"
            return
        params = sum(module.params for module in idle)
        yield Change(
            rule=self.name,
            text=f"remove {format_number_of(len(idle), 'module')} that nothing calls",
            why=f"{format_integer(params)} parameters take no part in the step",
            where=tuple(module.path for module in idle),
            cost="other inputs or modes may call them",
            snippet=tuple(f"del model.{module.path}" for module in idle[:3]),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Put a module that can't be called into their places."""
        for path in change.where:
            put(model, path, LeftOut())
