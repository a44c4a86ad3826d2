"""What is wrong in a check, one thing each, with its line in the file of the budgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torchgauge.facts.loop.check import CheckReport, LimitCheck, Outcome
from torchgauge.language import translated
from torchgauge.render.pages.loop.check import layer_texts, layers_heading, sentence

BROKEN = "broken-model"
"""Stands for the key of a limit where the model could not be analysed."""
DESCRIPTIONS = {
    "max-params": "The model has more parameters than its budget.",
    "max-trainable-params": "The model has more trainable parameters than its budget.",
    "max-macs": "The forward takes more multiply-adds than its budget.",
    "max-param-bytes": "The parameters take more bytes than their budget.",
    "peak-memory": "The step holds more bytes of tensors at once than its budget.",
    "device-memory": "The step takes more memory of the device than its budget.",
    "step-time": "The step takes longer than its budget.",
    "fits": "The step does not fit into the memory of a device.",
    "nothing-uncounted": "Some operators have no rule, so their work is not counted.",
    BROKEN: "The model could not be analysed.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    model: str
    key: str
    line: int
    text: str
    """One line, in English, as the details are."""
    details: tuple[str, ...] = ()
    is_error: bool = False
    """It could not be checked, which is not the same as being over a limit."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Return what a person reads: whose it is and what is wrong, then the details."""
        return f"{one_line(self.model)}: {translated(self.text)}", *map(translated, self.details)


def findings_of(report: CheckReport) -> Iterator[Finding]:
    """Yield what is wrong, in the order of the file."""
    for model in report.models:
        if model.error:
            yield Finding(
                model=model.name,
                key=BROKEN,
                line=model.line,
                text=one_line(model.error),
                details=(f"try: {model.hint}",) if model.hint else (),
                is_error=True,
            )
        for limit in model.limits:
            if limit.outcome is not Outcome.OK:
                yield Finding(
                    model=model.name,
                    key=limit.key,
                    line=limit.line,
                    text=one_line(sentence(limit)),
                    details=tuple(details_of(limit)),
                    is_error=limit.outcome is Outcome.ERROR,
                )


def details_of(limit: LimitCheck) -> Iterator[str]:
    """Yield what else there is to say of a limit, line by line."""
    layers = "; ".join(layer_texts(limit))
    if layers:
        yield one_line(f"{layers_heading(limit)}: {layers}")
    if limit.hint:
        yield one_line(f"try: {limit.hint}")


def one_line(text: str) -> str:
    r"""Return a text without line breaks and other control characters.

    >>> one_line("a\n  b\x1b[1m")
    'a b[1m'
    """
    return "".join(c for c in " ".join(text.split()) if c.isprintable())
