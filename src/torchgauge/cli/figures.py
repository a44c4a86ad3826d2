"""``--output memory.svg``: which figure a file wants, checked before anything runs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgauge.cli.messages import note
from torchgauge.cli.options import one_of
from torchgauge.errors import UsageError
from torchgauge.figures import FIGURES, PICTURES, TEXTS

if TYPE_CHECKING:
    from torchgauge.facts.report import Report

SUFFIXES = (*PICTURES, *TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureFile:
    """A figure that a file wants."""

    name: str
    suffix: str
    depth: int | None

    def content(self, report: Report) -> str | bytes | None:
        """Return what to write; ``None`` where a model failed before there was enough to draw.

        Raises:
            UsageError: the report lacks what the figure needs, and not because it failed.
        """
        from torchgauge.figures.files import figure_content
        from torchgauge.figures.labels import is_spoken

        if self.suffix in PICTURES and not is_spoken():
            note("the figure is in English: matplotlib finds no font with Chinese characters")
        try:
            return figure_content(report, self.name, self.suffix, self.depth)
        except UsageError:
            if report.failure is None:
                raise
            return None  # the failure itself is what the user has to be told


def add_figure_option(group: argparse._ArgumentGroup) -> None:
    """Declare the choice of a figure."""
    group.add_argument(
        "--figure", type=one_of(FIGURES), metavar="NAME",
        help=f"draw {', '.join(FIGURES[:-1])} or {FIGURES[-1]} into --output "
        f"FILE{', '.join(PICTURES)}; the name of the file can say it: memory.svg. "
        f"FILE{' and '.join(TEXTS)} hold the graph as text for Graphviz and Mermaid",
    )  # fmt: skip


def chosen_figure(arguments: argparse.Namespace, path: Path | None) -> FigureFile | None:
    """Return the figure that was asked for, ``None`` where it is something else.

    Raises:
        UsageError: the file's name or the options do not fit a figure.
        MissingExtraError: matplotlib is not installed.
    """
    if not hasattr(arguments, "figure"):
        return None
    name: str | None = arguments.figure
    suffix = path.suffix.lower() if path is not None else ""
    if name is None and (arguments.format is not None or suffix not in SUFFIXES):
        return None
    if arguments.format is not None:
        raise UsageError(
            "--figure and --format ask for different files", hint="leave one of them out"
        )
    if path is None:
        raise UsageError("--figure needs a file", hint=f"add --output {name}.svg")
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path.name} is not the name of a figure", hint=f"end it in {', '.join(SUFFIXES)}"
        )
    name = _named(name, path, suffix)
    if suffix in PICTURES:
        from torchgauge.figures.plot import require_matplotlib

        require_matplotlib()
    _refuse_options(arguments, name)
    return FigureFile(name=name, suffix=suffix, depth=arguments.depth)


def _named(name: str | None, path: Path, suffix: str) -> str:
    if suffix in TEXTS:
        if name not in (None, "graph"):
            raise UsageError(
                f"{suffix} holds a graph, not {name}", hint=f"end it in {', '.join(PICTURES)}"
            )
        return "graph"
    chosen = name or path.stem.lower()
    if chosen not in FIGURES:
        raise UsageError(
            f"the name {path.name} does not say which figure it wants",
            hint=f"name it memory{suffix}, or add --figure with one of {', '.join(FIGURES)}",
        )
    return chosen


def _refuse_options(arguments: argparse.Namespace, name: str) -> None:
    others = ("columns", "expand", "width", "ascii", "color", "against")
    given = [key for key in others if getattr(arguments, key, None)]
    if getattr(arguments, "details", None) is not None:
        given.append("details")
    if arguments.depth and name != "graph":
        given.append("depth")
    for key in given:
        raise UsageError(f"--{key} has no meaning in a figure of {name}", hint="leave it out")
