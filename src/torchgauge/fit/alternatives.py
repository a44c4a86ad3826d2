"""Other ways to run the step, each traced; combined where a single one is not enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torchgauge.changes.change import Change
from torchgauge.changes.ideas import ACCUMULATION, IDEAS, SMALLER_BATCH, Idea, micro_batch
from torchgauge.changes.step import Step
from torchgauge.errors import TorchGaugeError
from torchgauge.facts.fit import Alternative, NotTried, Verdict
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.fit.variants import Variant, VariantError, VariantTracer, Weighed

_COMBINED = 6
"""Combinations that are traced at most."""
_NO_BLOCKS = "no repeated blocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    idea: Idea
    change: Change
    weighed: Weighed

    @property
    def keeps_training(self) -> bool:
        """Return whether the same parameters are trained, in the precision of before."""
        return self.change.accuracy is not Accuracy.RETRAIN


@dataclass(slots=True, kw_only=True)
class Finder:
    """Find what takes less than the step that was asked about."""

    tracer: VariantTracer
    variant: Variant
    now: Step
    base: Weighed
    found: list[Alternative] = field(default_factory=list)
    not_tried: list[NotTried] = field(default_factory=list)

    def run(self) -> None:
        """Trace every idea, then combine them where none of them is enough."""
        options = [option for idea in self._ideas() if (option := self._try(idea))]
        for option in options:
            self._add((option,), option.weighed)
        enough = any(item.verdict is Verdict.FITS for item in self.found)
        if not self.base.weight.verdict.runs and not enough:
            cheap = [option for option in options if option.keeps_training]
            if not self._combine(cheap) and len(cheap) < len(options):
                self._combine(options)
        self.found.sort(key=lambda item: item.device_bytes)

    def _ideas(self) -> Iterable[Idea]:
        found = [idea for idea in IDEAS if idea.saves_memory and idea.suits(self.now.scenario)]
        return found if self.now.scenario.is_training else [SMALLER_BATCH, *found]

    def _try(self, idea: Idea) -> _Option | None:
        change = idea.make(self.now)
        if isinstance(change, str):
            self._skip(idea.name, change)
            return None
        try:
            weighed = self.tracer.weigh(self.variant.changed(change))
        except (VariantError, TorchGaugeError) as error:
            self._skip(idea.name, str(error).splitlines()[0])
            return None
        if idea.axis == "checkpointing" and any(_NO_BLOCKS in w for w in weighed.warnings):
            self._skip(idea.name, "the model has no repeated blocks")
            return None
        return _Option(idea=idea, change=change, weighed=weighed)

    def _skip(self, name: str, why: str) -> None:
        if why:
            self.not_tried.append(NotTried(name=name, why=why))

    def _add(self, options: tuple[_Option, ...], weighed: Weighed) -> None:
        base, weight = self.base.weight, weighed.weight
        variant = self.variant
        for option in options:
            variant = variant.changed(option.change)
        notes = dict.fromkeys(option.change.cost for option in options if option.change.cost)
        self.found.append(
            Alternative(
                name=" + ".join(option.idea.name for option in options),
                changes=tuple(option.change.name for option in options),
                device_bytes=weight.device_bytes,
                saved_bytes=base.device_bytes - weight.device_bytes,
                verdict=weight.verdict,
                extra_flops=self._extra_flops(variant, weighed),
                note="; ".join(notes),
            )
        )

    def _extra_flops(self, variant: Variant, weighed: Weighed) -> int:
        """Return the FLOPs above those of the step itself, for as many samples."""
        done = _samples(self.variant)
        return round(weighed.total_flops * done / _samples(variant)) - self.base.total_flops

    # ------------------------------------------------------------------ combinations

    def _combine(self, options: list[_Option]) -> bool:
        """Add the best remaining option to the best so far until the step fits."""
        useful = [o for o in options if self._saved(o.weighed) > 0]
        useful.sort(key=lambda option: -self._saved(option.weighed))
        if not useful:
            return False
        chosen, best = [useful[0]], useful[0].weighed
        for option in useful[1 : 1 + _COMBINED]:
            if any(option.idea.axis == other.idea.axis for other in chosen):
                continue
            weighed = self._weigh_all([*chosen, option])
            if weighed is None or weighed.weight.device_bytes >= best.weight.device_bytes:
                continue
            chosen.append(option)
            best = weighed
            if best.weight.verdict is Verdict.FITS:
                break
        else:
            chosen, best = self._with_single_samples(chosen, best)
        if len(chosen) > 1:
            self._add(tuple(chosen), best)
        return best.weight.verdict is Verdict.FITS

    def _with_single_samples(
        self, chosen: list[_Option], best: Weighed
    ) -> tuple[list[_Option], Weighed]:
        """Return the combination with micro-batches of one sample, where it has micro-batches."""
        micro = micro_batch(self.now, 1) if (self.variant.batch or 1) > 1 else None
        if micro is None or not any(o.idea is ACCUMULATION for o in chosen):
            return chosen, best
        smallest = [
            _Option(idea=o.idea, change=micro, weighed=o.weighed) if o.idea is ACCUMULATION else o
            for o in chosen
        ]
        weighed = self._weigh_all(smallest)
        return (chosen, best) if weighed is None else (smallest, weighed)

    def _weigh_all(self, options: list[_Option]) -> Weighed | None:
        variant = self.variant
        for option in options:
            variant = variant.changed(option.change)
        try:
            return self.tracer.weigh(variant)
        except (VariantError, TorchGaugeError):
            return None

    def _saved(self, weighed: Weighed) -> int:
        return self.base.weight.device_bytes - weighed.weight.device_bytes


def _samples(variant: Variant) -> int:
    return (variant.batch or 1) * variant.scenario.accumulation
