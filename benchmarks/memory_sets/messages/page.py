"""Public out-of-memory messages as a section of ``docs/accuracy-tables.md``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.memory_sets.cases import Measured
from benchmarks.memory_sets.messages.cases import left_out, runs
from benchmarks.memory_sets.messages.judge import Judged, judge, printed
from benchmarks.summary import Line, line_of
from torchgauge.facts.fit import Verdict

TITLE = "Out-of-memory messages"
_MISSED = 0.03
_AT_FIRST = "Before the old software was described, 3 of the runs that died were said to fit"
_NAMES = {
    Measured.ACTIVE: "allocated",
    Measured.RESERVED: "reserved",
    Measured.DEVICE: "on the device",
}


def judged(cache: Path | None = None) -> list[Judged]:
    """Predict all runs; one that cannot be traced raises."""
    return [judge(run, cache) for run in runs()]


def section(cache: Path | None, summed: list[Line], notes: list[str]) -> Iterator[str]:
    """Yield the lines of the section; ``summed`` and ``notes`` get what the first page says."""
    found = judged(cache)
    failed = [one for one in found if one.run.case.out_of_memory]
    ended = [one for one in found if not one.run.case.out_of_memory]
    at_failure = [one.failure_error for one in failed if one.failure_error is not None]
    figures = [error for one in ended for error in one.errors().values()]
    summed.append(line_of("allocated where it ran out of memory", "public messages", at_failure))
    summed.append(line_of("peak memory, GPU", "public reports of runs", figures))
    notes.append(f"{_said(found)} {_AT_FIRST}.")
    yield from (f"### {TITLE}", "")
    yield (
        "What people wrote in public threads: a step, a GPU, and the message with which it died, "
        "or that it ran. The runs were chosen before any was predicted, and all are shown. "
        "*Allocated* is compared where the model of the allocator fails under the limit that the "
        "message states: what was reserved and what was free. *explain-oom* is the operator that "
        "`torchgauge explain-oom` names, where the text has all numbers of the message."
    )
    yield ""
    yield (
        "Most of the software is older than what a scenario can ask for. So these runs get what it "
        "did: a context with all kernels (before PyTorch 1.13; as the V100 showed it, else what "
        "messages on that GPU leave for it), gradients that `zero_grad` sets to "
        f"zero and keeps (before 2.0), a softmax that keeps its input (before 1.11). {_AT_FIRST}: "
        "GPT-2 b8 V100 32GB, GPT-2 b1 GTX 1060 and BERT large SQuAD b12 fp16 V100."
    )
    yield from ("", _said(found), "")
    yield from _failures(failed)
    yield from _ends(ended)
    yield from _notes(found)
    yield from ("Read and not taken, since the text leaves something open:", "")
    yield from (f"- [{one.id}](https://{one.id}): {one.why}" for one in left_out())
    yield ""


def _said(found: Sequence[Judged]) -> str:
    close = [one for one in found if one.verdict is Verdict.TOO_CLOSE]
    wrong = [one for one in found if one.is_wrong]
    names = "".join(f"; {one.run.case.id}" for one in wrong)
    failed = sum(one.run.case.out_of_memory for one in found)
    return (
        f"Verdicts on {len(found)} public runs, of which {failed} ran out of memory: "
        f"{len(wrong)} wrong{names}; too close to call: {len(close)}."
    )


def _failures(found: Sequence[Judged]) -> Iterator[str]:
    yield (
        "| ran out of memory | verdict | most on the device | tried | predicted | allocated | "
        "error | explain-oom |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for one in found:
        message = one.run.message
        assert message is not None
        allocated = message.allocated_bytes
        error = one.failure_error
        yield (
            f"{_name(one)} | {printed(one.weight.device_bytes)} | {message.tried or '–'} | "
            f"{one.tried or '–'} | {printed(allocated) if allocated else '–'} | "
            f"{'–' if error is None else f'{error:+.1%}'} | {_place(one)} |"
        )
    yield ""


def _place(one: Judged) -> str:
    """Return what ``explain-oom`` says of the message."""
    if one.places is None:
        return "–"
    if not one.places:
        return "finds no place"
    more = len(one.places) - 1
    return f"{one.places[0] or 'a parameter'}{f', or {more} more' if more else ''}"


def _ends(found: Sequence[Judged]) -> Iterator[str]:
    yield "| ran | verdict | most on the device | figure | predicted | true | error |"
    yield "|---|---|--:|---|--:|--:|--:|"
    for one in found:
        start = f"{_name(one)} | {printed(one.weight.device_bytes)} |"
        if not one.run.peaks:
            yield f"{start} – | – | – | – |"
        for name, error in one.errors().items():
            true = printed(one.run.peaks[name])
            yield f"{start} {_NAMES[name]} | {printed(one.peaks[name])} | {true} | {error:+.1%} |"
    yield ""


def _notes(found: Sequence[Judged]) -> Iterator[str]:
    """Say what is known of figures that are missed by more than ``_MISSED``."""
    known = [
        f"- {one.run.case.id}: {one.run.note}"
        for one in found
        if one.run.note
        and any(abs(e) > _MISSED for e in (*one.errors().values(), one.failure_error or 0.0))
    ]
    if known:
        yield from (f"Missed by more than {100 * _MISSED:.0f} %:", "", *known, "")


def _name(one: Judged) -> str:
    wrong = " **(wrong)**" if one.is_wrong else ""
    verdict = str(one.verdict).replace("-", " ")
    return f"| [{one.run.case.id}](https://{one.run.source}) | {verdict}{wrong}"
