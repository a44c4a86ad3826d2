"""Parameters of modules in use that no operator reads."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.units import format_integer, format_number_of


class UnusedParameter:
    """Find parameters that the forward of their module leaves alone."""

    name = "unused-parameter"
    about = "parameters of modules in use that no operator reads"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all of them."""
        storages = subject.trace.storages
        read = {storages[storage].label for op in subject.trace.ops for storage in op.reads}
        shared = {
            parameter.name
            for module in subject.trace.modules
            for parameter in module.parameters
            if parameter.shared_with is not None
        }
        found = {
            f"{path}.{name}".lstrip("."): tensor.numel()
            for path, module in subject.modules.items()
            if path in subject.calls
            for name, tensor in module.named_parameters(recurse=False)
            if f"{path}.{name}".lstrip(".") not in read | shared
        }
        if not found:
            yield "every parameter of a module in use is read"
            return
        yield Change(
            rule=self.name,
            text=f"remove {format_number_of(len(found), 'parameter')} that nothing reads",
            why=f"{format_integer(sum(found.values()))} elements take no part in the step",
            where=tuple(found),
            cost="other inputs or modes may read them",
            snippet=tuple(f"model.{name} = None" for name in list(found)[:3]),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Set them to ``None``, as ``bias=False`` does."""
        for full in change.where:
            path, _, name = full.rpartition(".")
            module = model.get_submodule(path)
            if name not in module._parameters:
                raise ValueError(f"{full} is not a parameter")
            module.register_parameter(name, None)
