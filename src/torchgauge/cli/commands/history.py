"""``torchgauge history``: what was analysed when, and how a figure changed."""

from __future__ import annotations

import argparse
from pathlib import Path

from torchgauge.cli import options, output
from torchgauge.errors import UsageError
from torchgauge.figures import PICTURES
from torchgauge.language import translated

_TEXT_OPTIONS = ("format", "width", "ascii", "color")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="only analyses of this model")
    parser.add_argument(
        "--start",
        action="store_true",
        help="begin a history in this folder: summary, measure and watch then add to it",
    )
    parser.add_argument(
        "--figure",
        dest="followed",  # `figure` is what `summary` draws
        metavar="NAME",
        default="peak_memory",
        help="the figure to follow: params, macs, peak_memory, device_memory, step_time, or as in "
        "the JSON of a report, such as time.forward_ms (default peak_memory); --output trend.svg, "
        ".png or .pdf draws it",
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
    picture = _picture(arguments)
    target = None if picture is not None else output.chosen_output(arguments)
    from torchgauge.loop.trend import trend

    found = trend(path_or_none, arguments.followed, spec=arguments.model, most=arguments.last)
    if target is None:
        from torchgauge.figures.trend import trend_content

        assert picture is not None
        output.write(picture, trend_content(found, picture.suffix.lower()))
        return 0
    from torchgauge.render.pages.loop.history import history_page

    target.deliver(lambda: history_page(found), found.to_json)
    return 0


def _picture(arguments: argparse.Namespace) -> Path | None:
    """Return the file of a picture, ``None`` where something else is asked for.

    Raises:
        UsageError: an option without meaning in a picture, or no such folder.
        MissingExtraError: matplotlib is not installed.
    """
    path: Path | None = arguments.output
    if path is None or path.suffix.lower() not in PICTURES:
        return None
    for name in _TEXT_OPTIONS:
        if getattr(arguments, name):
            raise UsageError(f"--{name} has no meaning in a picture", hint="leave it out")
    from torchgauge.figures.plot import require_matplotlib

    require_matplotlib()
    output.check_place(path)
    return path
