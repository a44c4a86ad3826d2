"""The published measurements of GPU memory as sections of ``docs/accuracy-tables.md``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.memory_sets import intervals
from benchmarks.memory_sets.cases import Measured, MemoryCase, NotPredicted
from benchmarks.memory_sets.run import SETS, Result, results, sample
from benchmarks.summary import Line, line_of
from torchgauge.facts.fit import Verdict

FILES = {
    "xmem": "gpu_memory_xmem.csv",
    "timm": "gpu_memory_timm_a100.csv",
    "schedtune": "gpu_memory_schedtune_t4_3090.csv",
    "peft": "gpu_memory_peft_l40s.csv",
    "published": "published_memory.md",
}
TITLES = {
    "xmem": "xMem: vision and language models on an RTX 3060, an RTX 4060 and an A100",
    "timm": "GPUMemNet: timm models on an A100 of 40 GB",
    "schedtune": "SchedTune: 12 classifiers on a K80, a T4 and an RTX 3090",
    "peft": "PEFT: fine-tuning of Llama 3.2 3B on an L40S",
    "published": "Single figures: torchtune, torchtitan",
}
BESIDE = {
    "xmem": "xMem's authors publish a median of 3.59 % for their tool, 13.8 % for DNNMem, 24.8 % "
    "for SchedTune and 76.8 % for LLMem over their whole set.",
    "timm": "One constant on top of a fake-tensor peak misses by 9.1 % in the median; a fit of "
    "three parameters by 4.5 %, 11.2 % at the 90th percentile.",
}
"""What published tools, or simple fits, reach on the same data."""
_FEWEST = 3
"""Figures that a family needs for a line of its own."""


def sections(
    data: Path, limit: int | None, cache: Path | None, summed: list[Line]
) -> Iterator[str]:
    """Yield the lines of one section per set; at most ``limit`` cases of each are predicted.

    ``data`` is where the files lie; a set whose file is not there is skipped. ``summed`` gets a
    line for each set.
    """
    yield from ("## GPU memory", "")
    yield (
        "Predicted from a trace, the GPU's kernels and the model of the allocator. Nothing "
        "was run on a GPU. If a figure includes the CUDA context of old software, that is one "
        "number for each GPU, given below."
    )
    yield ""
    found: list[Result] = []
    for name, cases in SETS.items():
        yield from (f"### {TITLES[name]}", "")
        if not (data / FILES[name]).is_file():
            yield from (f"Skipped: `{FILES[name]}` is not beside the repository.", "")
            continue
        yield from _section(name, list(cases(data)), limit, cache, found, summed)
    yield from intervals.section(intervals.scores(found))


def _section(
    name: str,
    everything: Sequence[MemoryCase | NotPredicted],
    limit: int | None,
    cache: Path | None,
    of_all: list[Result],
    summed: list[Line],
) -> Iterator[str]:
    wanted = [case for case in everything if isinstance(case, MemoryCase)]
    chosen = sample(wanted, limit)
    found = results(chosen, cache, quiet=True)
    of_all += found
    counted = [result for result in found if not result.case.out_of_memory]
    if len(chosen) < len(wanted):
        yield f"A sample of {len(chosen)} of {len(wanted)} figures, evenly spread over the file."
        yield ""
    yield from ("| | figures | median | 90th percentile | worst |", "|---|--:|--:|--:|---|")
    yield _row("all", counted)
    if counted:
        errors = [result.error() for result in counted]
        summed.append(line_of("peak memory, GPU", TITLES[name], errors))
    early = [result.case for result in counted if result.case.has_early_cudnn]
    if early:
        asked = results([replace(case, has_early_cudnn=False) for case in early], cache, quiet=True)
        yield _row("without PyTorch 1's Winograd, which no scenario can ask for", asked)
    plausible = [result for result in counted if not result.case.implausible]
    if len(plausible) < len(counted):
        yield _row("without those below their own tensors (the run had died)", plausible)
    for family in sorted({result.case.family for result in counted}):
        members = [result for result in counted if result.case.family == family]
        if len(members) >= _FEWEST:
            yield _row(family, members)
    yield from _tools(counted)
    yield ""
    yield from _verdicts(found)
    contexts = {r.case.gpu: r.case.context_bytes for r in found if r.case.context_bytes}
    for gpu, nbytes in sorted(contexts.items()):
        yield from (f"CUDA context of that software on the {gpu}: {nbytes / 2**20:,.0f} MiB.", "")
    if name in BESIDE:
        yield from (BESIDE[name], "")
    missing = [f"- {other.id}: {other.why}" for other in everything
               if isinstance(other, NotPredicted)]  # fmt: skip
    failed = len(chosen) - len(found)
    if failed:
        missing.append(f"- {failed} whose model could not be built or traced here")
    if missing:
        yield from ("Not predicted:", "", *missing, "")


def _row(what: str, found: Sequence[Result]) -> str:
    if not found:
        return f"| {what} | 0 | – | – | – |"
    errors = sorted(abs(result.error()) for result in found)
    worst = max(found, key=lambda result: abs(result.error()))
    ninth = errors[max(0, math.ceil(0.9 * len(errors)) - 1)]
    return (
        f"| {what} | {len(found)} | {statistics.median(errors):.1%} | {ninth:.1%} | "
        f"{worst.error():+.1%} {worst.case.id} |"
    )


def _tools(found: Sequence[Result]) -> Iterator[str]:
    """Yield a row for each published tool, on the figures that it has an estimate for."""
    for tool in sorted({tool for result in found for tool in result.case.published}):
        theirs = [
            Result(case=result.case, predicted_bytes=result.case.published[tool])
            for result in found
            if tool in result.case.published
        ]
        yield _row(f"*{tool}, as published*", theirs)


def _verdicts(found: Sequence[Result]) -> Iterator[str]:
    """Yield how often it was said rightly that a run fits."""
    judged = [
        result
        for result in found
        if result.fits is not None and result.case.measured is not Measured.ACTIVE
    ]
    if judged:
        close = [result for result in judged if result.verdict is Verdict.TOO_CLOSE]
        sure = [result for result in judged if result.verdict is not Verdict.TOO_CLOSE]
        wrong = [result for result in sure if result.fits is result.case.out_of_memory]
        names = "".join(f"; {result.case.id}" for result in wrong)
        yield (
            f"Wrong verdicts (fits or not): {len(wrong)} of {len(sure)}{names}. "
            f"Too close to call: {len(close)}."
        )
        yield ""
