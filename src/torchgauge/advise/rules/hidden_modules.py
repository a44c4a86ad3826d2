"""Layers in a plain list or dict: no optimizer, no ``.to()`` and no ``state_dict`` knows them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.rules.only_finds import OnlyFinds, named
from torchgauge.advise.subject import Subject
from torchgauge.facts.loop.advice import Fault
from torchgauge.units import format_integer


class HiddenModules(OnlyFinds):
    """Find modules that an attribute holds without registering them.

    One module alone in a list is left alone: that is how a link to another model is kept out of
    ``parameters()`` on purpose.
    """

    name = "hidden-modules"
    about = "layers in a plain list or dict, which registers none of their parameters"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield each attribute."""
        known = {id(tensor) for tensor in subject.model.parameters()}
        for path, module in subject.modules.items():
            for name, value in vars(module).items():
                if name.startswith("_") or not isinstance(value, (list, tuple, dict)):
                    continue
                parts = list(value.values() if isinstance(value, dict) else value)
                if len(parts) < 2 or not all(isinstance(part, nn.Module) for part in parts):
                    continue
                hidden = [
                    tensor
                    for part in parts
                    for tensor in part.parameters()
                    if tensor.requires_grad and id(tensor) not in known
                ]
                if not hidden:
                    continue
                kind = "ModuleDict" if isinstance(value, dict) else "ModuleList"
                yield self.fault(
                    subject,
                    (path,),
                    text=f"{name} of {named(path)} holds layers in a plain {type(value).__name__}",
                    why=f"their {format_integer(sum(t.numel() for t in hidden))} parameters are "
                    "not registered: no optimizer trains them, no state_dict saves them",
                    remedy=f"self.{name} = nn.{kind}(…)",
                )
