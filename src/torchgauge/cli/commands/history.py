"""``torchgauge history``: what was analysed when, and how a figure has gone."""

from __future__ import annotations

import argparse
from pathlib import Path

from torchgauge.cli import options, output
from torchgauge.errors import UsageError
from torchgauge.language import translated


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="only what was asked of it")
    parser.add_argument(
        "--start",
        action="store_true",
        help="begin a history in this folder: summary, measure and watch then add to it",
    )
    parser.add_argument(
        "--figure",
        dest="followed",  # `figure` is what `summary` draws
        metavar="NAME",
        default="memory.peak_allocated_bytes",
        help="the figure to follow, as in the JSON of a report: totals.params, time.total_ms "
        "(default memory.peak_allocated_bytes)",
    )
    parser.add_argument(
        "--last", type=options.positive_integer, metavar="N", help="only the last N analyses"
    )
    output.add_output_options(parser, strict=None)


def run(arguments: argparse.Namespace) -> int:
    """Print the history, or begin one.

    Raises:
        UsageError: there is no history here, no such figure, or the file cannot be used.
    """
    from torchgauge.loop import history

    if arguments.start:
        path = history.start(Path.cwd())
        output.deliver(translated(f"{path} will hold what is analysed from now on"), None)
        return 0
    path_or_none = history.found(Path.cwd())
    if path_or_none is None:
        raise UsageError(
            "this project has no history", hint="torchgauge history --start makes one here"
        )
    target = output.chosen_output(arguments)
    found = history.trend(
        path_or_none, arguments.followed, spec=arguments.model, most=arguments.last
    )
    from torchgauge.render.pages.loop.history import history_page

    target.deliver(lambda: history_page(found), found.to_json)
    return 0
