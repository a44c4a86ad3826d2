"""The copy of one run for the next run of the same model, where nothing can have changed it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from torchgauge.facts.scenario import Scenario
from torchgauge.trace.copy.casting import Casting
from torchgauge.trace.copy.converters import MetaConverter, OnNew
from torchgauge.trace.copy.meta_copy import ModelCopy
from torchgauge.trace.inspect.subclasses import ORDINARY


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    model: nn.Module
    scenario: Scenario
    copy: ModelCopy
    converter: MetaConverter


class KeptCopies:
    """Where one run leaves its copy for the next.

    Only a copy whose forward runs no code but PyTorch's: other code may give attributes to
    modules, or other data to parameters. What PyTorch's layers write into their buffers does not
    matter, because a meta tensor has no contents; known values are read from the originals again.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def offer(
        self, model: nn.Module, scenario: Scenario, copy: ModelCopy, converter: MetaConverter
    ) -> None:
        """Keep a copy, unless a tensor of it runs code of its own or has something attached."""
        is_plain = set(ORDINARY).issuperset(map(type, copy.tensors))
        if is_plain and not any([tensor.__dict__ for tensor in copy.tensors]):
            self._kept = _Kept(model=model, scenario=scenario, copy=copy, converter=converter)

    def take(
        self, model: nn.Module, scenario: Scenario, casting: Casting, on_new: OnNew
    ) -> tuple[ModelCopy, MetaConverter] | None:
        """Give out the copy once, to a run of the same model in the same scenario."""
        kept = self._kept
        if kept is None or kept.model is not model or kept.scenario != scenario:
            return None
        self._kept = None
        kept.converter.go_on(casting, on_new)
        kept.copy.casting = casting
        return kept.copy, kept.converter
