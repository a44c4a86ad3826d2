"""The figures that can be explained: what each is, and the rules that hold for all of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from torchgauge.errors import UsageError
from torchgauge.facts.explanation import Rule
from torchgauge.models.suggest import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureKind:
    """One figure."""

    name: str
    place: str
    """In a report: ``"totals.params"``."""
    unit: str
    definition: str
    rules: tuple[Rule, ...] = ()


def _rule(name: str, formula: str, source: str = "") -> Rule:
    return Rule(name=name, formula=formula, source=source)


_PRODUCTS = _rule(
    "matrix-like operators",
    "2 FLOPs per multiply-add; a bias costs none; attention counts both products at full length",
    "the shapes of the recorded operators; the formula of each operator stands below",
)
_ALLOCATOR = _rule(
    "caching allocator",
    "the recorded allocations and frees, replayed over three steps: rounding, pools, segments",
    "pytorch/pytorch, c10/cuda/CUDACachingAllocator.cpp: DeviceCachingAllocator",
)
_LIFETIMES = _rule(
    "lifetimes",
    "a storage counts from the operator that makes it until its last reference is gone",
    "recorded from the run: one storage for all tensors that share it",
)
_WORKSPACES = _rule(
    "workspaces",
    "scratch memory inside of a kernel, by a rule for each kernel",
    "docs/memory.md, and the docstrings of torchgauge.estimate.memory.workspaces",
)

_ALL = (
    FigureKind(
        name="params",
        place="totals.params",
        unit="parameters",
        definition="elements of all parameters, each once, however many names lead to it",
        rules=(
            _rule("parameter", "the product of its shape; of packed weights the logical shape"),
        ),
    ),
    FigureKind(
        name="macs",
        place="totals.forward_macs",
        unit="MACs",
        definition="multiply-adds of matrix-like operators in the forward and the loss",
        rules=(_PRODUCTS,),
    ),
    FigureKind(
        name="flops",
        place="totals.total_flops",
        unit="FLOPs",
        definition="FLOPs of matrix-like operators in the whole step: forward, backward, optimizer",
        rules=(_PRODUCTS,),
    ),
    FigureKind(
        name="peak_allocated",
        place="memory.peak_allocated_bytes",
        unit="bytes",
        definition="bytes of all blocks that are alive at the moment when they are most",
        rules=(_LIFETIMES, _WORKSPACES),
    ),
    FigureKind(
        name="device_bytes",
        place="memory.device_bytes",
        unit="bytes",
        definition="what the GPU shows as used: reserved by the allocator, plus the CUDA context",
        rules=(
            _LIFETIMES,
            _WORKSPACES,
            _ALLOCATOR,
            _rule(
                "CUDA context",
                "driver state, loaded kernels and local memory, by GPU and PyTorch release",
                "devices/cuda_contexts.csv: public figures with a source per row",
            ),
        ),
    ),
    FigureKind(
        name="saved_activations",
        place="memory.saved_activation_bytes",
        unit="bytes",
        definition="made in the forward or the loss, and alive when the backward starts",
        rules=(_LIFETIMES,),
    ),
    FigureKind(
        name="time",
        place="time.total_ms",
        unit="ms",
        definition="milliseconds of one step, kernel after kernel, with what the device waits for",
        rules=(
            _rule(
                "kernel",
                "the longer of FLOPs ÷ rate and bytes ÷ bandwidth, plus its launch",
                "rates fitted on public measurements: docs/time.md; the report's assumptions name "
                "what was measured on this device",
            ),
        ),
    ),
)
FIGURES = {figure.name: figure for figure in _ALL}
"""By the name that ``torchgauge explain`` takes."""


def figure_named(name: str) -> FigureKind:
    """Return a figure by its name, or by its place in a report, dashes for underscores.

    Raises:
        UsageError: there is none; the hint offers the nearest.
    """
    wanted = name.replace("-", "_")
    for figure in _ALL:
        if wanted in (figure.name, figure.place, figure.place.rpartition(".")[2]):
            return figure
    hint = did_you_mean(wanted, FIGURES, otherwise="one of " + ", ".join(FIGURES))
    raise UsageError(f"there is no figure {name!r} to explain", hint=hint)
