"""A section for a model card: what the model is and costs, in Markdown.

The section stands between two comments, so that an update replaces it and nothing else. Model cards
of the Hugging Face Hub are ``README.md`` files; no library is needed to write one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torchgauge.errors import UsageError
from torchgauge.facts.codec.files import write_atomically
from torchgauge.facts.report import Report
from torchgauge.units import format_bytes, format_count, format_integer, format_milliseconds

BEGIN, END = "<!-- torchgauge: begin -->", "<!-- torchgauge: end -->"
_HEADING = "## What it costs"


def model_card_section(report: Report) -> str:
    """Return the section for one report, its two comments included.

    >>> import torchgauge as tg, torch
    >>> text = model_card_section(tg.analyze(torch.nn.Linear(8, 4), (2, 8)))
    >>> text.splitlines()[6]
    '| Parameters | 36 (all trainable), 144 B |'
    """
    rows = [f"| {name} | {text} |" for name, text in _rows(report)]
    settings = ", ".join(_settings(report))
    lines = [
        BEGIN,
        _HEADING,
        "",
        "| | |",
        "|---|---|",
        f"| Step | {settings} |",
        *rows,
        "",
        f"{_origin(report)}. 1 MAC = 2 FLOPs.",
        END,
    ]
    return "\n".join(lines)


def update_model_card(path: str | Path, report: Report) -> bool:
    """Put the section into a model card: in place of the one there, else at the end.

    A file that is not there is made. Everything else in it stays as it is.

    Returns:
        Whether the file changed.

    Raises:
        UsageError: one of the two comments is missing or there twice; or the file cannot be read
            or written.
    """
    card = Path(path)
    try:
        before = card.read_bytes().decode("utf-8") if card.exists() else ""
        after = _with_section(before, model_card_section(report), card)
        if after == before:
            return False
        write_atomically(card, after.encode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the model card {card} cannot be updated: {error}", hint="name a README.md"
        ) from error
    return True


def _with_section(text: str, section: str, path: Path) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    section = section.replace("\n", newline)
    counts = text.count(BEGIN), text.count(END)
    if counts == (0, 0):
        gap = newline * (0 if not text else 1 if text.endswith("\n") else 2)
        return f"{text}{gap}{section}{newline}"
    start, end = text.find(BEGIN), text.find(END)
    if counts != (1, 1) or end < start:
        raise UsageError(
            f"{path} does not have exactly one {BEGIN} before one {END}",
            hint="remove both comments, and what is between them",
        )
    return text[:start] + section + text[end + len(END) :]


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    totals = report.totals
    frozen = totals.non_trainable_params
    trainable = f"{format_integer(frozen)} of them frozen" if frozen else "all trainable"
    size = format_bytes(totals.param_bytes)
    params = f"{format_integer(totals.params)} ({trainable}), {size}" if totals.params else "none"
    yield "Parameters", params
    memory, time = report.memory, report.time
    if memory is None:
        return
    macs = format_count(totals.forward_macs, "MACs")
    gaps = len(report.not_counted)
    counted = f"{gaps} operators or modules not counted" if gaps else "nothing left uncounted"
    yield "Compute", f"{macs} forward, {counted}"
    yield "Peak memory of tensors", format_bytes(memory.peak_allocated_bytes)
    if memory.device_bytes is not None:
        there = format_bytes(memory.capacity_bytes or 0)
        needed = format_bytes(memory.device_bytes)
        yield "Memory on the GPU", f"{needed} of {there}, CUDA context included"
    if time is not None:
        how = "measured" if time.measured is not None else "predicted"
        if time.predicted is not None:
            how += f", ±{time.predicted.error:.0%}"
        yield "Time of a step", f"{format_milliseconds(time.total_ms)} ({how})"


def _settings(report: Report) -> Iterator[str]:
    scenario = report.scenario
    yield str(scenario.mode)
    if scenario.optimizer is not None:
        yield scenario.optimizer
    yield f"precision {scenario.precision}"
    yield f"device {scenario.device}"
    shapes = [f"{list(value.tensor.shape)}" for value in report.inputs if value.tensor is not None]
    if shapes:
        yield "input " + ", ".join(shapes)


def _origin(report: Report) -> str:
    how = "Measured" if report.time is not None and report.time.measured else "Computed"
    return f"{how} by torchgauge {report.tool_version} with PyTorch {report.torch_version}"
