"""The answer to "will it fit?" → ``str``, in each format. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping

from torchgauge.render import latex, markdown
from torchgauge.render.csv import safe
from torchgauge.render.fit_view import Column, FitView, Table, longest, view_of
from torchgauge.render.layout import pad, wrap
from torchgauge.report.fit import FitReport

FORMATS = ("text", "json", "markdown", "csv", "latex")
_GAP = 2
_SMALLEST_TEXT = 20
"""Characters that the first column keeps where the width is short."""
_ASCII = str.maketrans({"–": "-", "…": "...", "·": "|", "─": "-", "×": "x"})


def render_fit(
    report: FitReport, format: str = "text", *, width: int = 80, ascii: bool = False
) -> str:
    """Return the answer as text of a format; ``width`` and ``ascii`` are for ``text``."""
    if format != "text":
        return _RENDERERS[format](report)
    text = "\n".join(_text(view_of(report), width))
    return text.translate(_ASCII) if ascii else text


# ---------------------------------------------------------------------------- text


def _text(view: FitView, width: int) -> Iterator[str]:
    yield from wrap(view.head, width)
    yield ""
    for sentence in view.verdict:
        yield from wrap([sentence], width)
    for table in view.tables[:1]:
        yield from _table(table, width)
    if view.facts:
        yield ""
        label = max(len(what) for what, _ in view.facts) + _GAP
        for what, answer in view.facts:
            yield from wrap([answer], width, first=pad(what, label), indent=" " * label)
    for table in view.tables[1:]:
        yield from _table(table, width)
    if view.notes:
        yield ""
        for note in view.notes:
            yield from wrap([note], width, indent="  ")


def _table(table: Table, width: int) -> Iterator[str]:
    yield ""
    if table.title:
        yield table.title
    titles = [column.title for column in table.columns]
    widths = longest([titles, *table.rows])
    room = width - 1 - sum(widths[1:]) - _GAP * (len(widths) - 1)
    widths[0] = min(widths[0], max(room, _SMALLEST_TEXT))
    line = " " + "─" * (sum(widths) + _GAP * (len(widths) - 1))
    yield _row(titles, table.columns, widths)
    yield line
    for row in table.rows:
        first, *more = wrap([row[0]], widths[0], indent="  ")
        yield _row([first, *row[1:]], table.columns, widths)
        yield from (f" {text}" for text in more)
    yield line


def _row(cells: list[str], columns: tuple[Column, ...], widths: list[int]) -> str:
    padded = [
        pad(cell, wide, right=column.is_number)
        for cell, column, wide in zip(cells, columns, widths, strict=True)
    ]
    return " " + (" " * _GAP).join(padded).rstrip()


# ---------------------------------------------------------------------------- other formats


def _json(report: FitReport) -> str:
    return report.to_json()


def _markdown(report: FitReport) -> str:
    view = view_of(report)
    escape = markdown.escape
    lines = [f"**{escape(' · '.join(view.head))}**", "", escape(" ".join(view.verdict))]
    for table in view.tables:
        lines += ["", *([escape(table.title), ""] if table.title else [])]
        lines.append("| " + " | ".join(escape(column.title) for column in table.columns) + " |")
        marks = (" ---: " if column.is_number else " --- " for column in table.columns)
        lines.append("|" + "|".join(marks) + "|")
        lines += ["| " + " | ".join(map(escape, row)) + " |" for row in table.rows]
    lines += ["", *(f"- {escape(what)}: {escape(answer)}" for what, answer in view.facts)]
    lines += [f"- {escape(note)}" for note in view.notes]
    return "\n".join(lines)


def _latex(report: FitReport) -> str:
    view = view_of(report)
    escape = latex.escape
    lines = [escape(" · ".join(view.head)), "", escape(" ".join(view.verdict))]
    for table in view.tables:
        letters = "".join("r" if column.is_number else "l" for column in table.columns)
        titles = " & ".join(escape(column.title) for column in table.columns)
        lines += ["", *([escape(table.title), ""] if table.title else [])]
        lines += [rf"\begin{{tabular}}{{{letters}}}", r"  \hline", rf"  {titles} \\", r"  \hline"]
        lines += [f"  {' & '.join(map(escape, row))} \\\\" for row in table.rows]
        lines += [r"  \hline", r"\end{tabular}"]
    lines += ["", *(rf"{escape(what)}: {escape(answer)}\\" for what, answer in view.facts)]
    lines += [rf"{escape(note)}\\" for note in view.notes]
    return "\n".join(lines)


def _csv(report: FitReport) -> str:
    """One row per device, traced batch and alternative; bytes and FLOPs as plain numbers."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("row", "name", "verdict", "device_bytes", "difference_bytes", "extra_flops"))
    for device in report.devices:
        writer.writerow(
            ("device", safe(device.device), device.verdict, device.device_bytes,
             device.headroom_bytes, "")
        )  # fmt: skip
    for tried in () if report.largest_batch is None else report.largest_batch.tried:
        writer.writerow(("batch", tried.size, tried.verdict, tried.device_bytes, "", ""))
    for item in report.alternatives:
        writer.writerow(
            ("alternative", safe(" + ".join(item.changes)), item.verdict, item.device_bytes,
             item.saved_bytes, item.extra_flops)
        )  # fmt: skip
    return stream.getvalue().rstrip("\n")


_RENDERERS: Mapping[str, Callable[[FitReport], str]] = {
    "json": _json,
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
}
