"""How a result leaves: in the format that was asked for, to stdout or a file written whole."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.cli.figures import FigureFile, add_figure_option, chosen_figure
from torchgauge.cli.options import one_of, positive_integer
from torchgauge.errors import InDoubt, UsageError
from torchgauge.facts.codec.files import write_atomically
from torchgauge.facts.guess import guesses

if TYPE_CHECKING:
    from torchgauge.facts.fit import FitReport
    from torchgauge.facts.loop.advice import Advice
    from torchgauge.facts.report import Report
    from torchgauge.render.page import Page

FORMATS = ("text", "json", "markdown", "html", "csv", "latex")
"""JSON is an answer's own; the others are those of ``torchgauge.render``."""
_IMPORT = "import:"

_SUFFIXES = {
    ".txt": "text", ".log": "text", ".json": "json", ".md": "markdown", ".markdown": "markdown",
    ".html": "html", ".htm": "html", ".csv": "csv", ".tex": "latex",
}  # fmt: skip

_TREE = ("depth", "columns", "expand")
_LAYOUT = ("width", "ascii", "color", "details")
"""Options of text alone."""
_SMALLEST_WIDTH = 40


def add_output_options(
    parser: argparse.ArgumentParser,
    *,
    tree: bool = False,
    details: bool = False,
    figures: bool = False,
    strict: str | None = "exit 4 when anything was not counted, guessed or warned about",
    more_formats: Sequence[str] = (),
) -> None:
    """Declare what the result looks like and where it goes.

    ``tree`` adds the options of a table of modules, ``details`` the choice between the calm view
    and everything, ``figures`` the choice of a figure. ``strict`` says what ``--strict`` refuses;
    ``None`` leaves it out. ``more_formats`` are those that the command writes itself.
    """
    table = parser.add_argument_group("table")
    if tree:
        table.add_argument(
            "--depth", type=positive_integer, metavar="N", help="show modules down to this depth"
        )
        table.add_argument(
            "--columns", type=_names, metavar="NAME,…", help="the columns to show, in this order"
        )
        table.add_argument("--expand", action="store_true", help="show every repeated block")
        table.add_argument("--unfold", action="store_true", dest="expand", help=argparse.SUPPRESS)
    if details:
        table.add_argument(
            "--details", action=argparse.BooleanOptionalAction,
            help="show everything there is to say; the default in a file or a pipe",
        )  # fmt: skip
    _add_layout(table)
    output = parser.add_argument_group("output")
    add_format_option(output, more_formats)
    output.add_argument(
        "--output", metavar="FILE", type=Path, help="write to FILE; its suffix chooses the format"
    )
    if figures:
        add_figure_option(output)
    if strict is not None:
        output.add_argument("--strict", action="store_true", help=strict)
    output.add_argument(
        "--quiet", action="store_true", help="print no notes and no progress to stderr"
    )
    output.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """Declare how text looks, for a command that writes nothing else."""
    group = parser.add_argument_group("output")
    _add_layout(group)
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _add_layout(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--ascii", action="store_true", help="use ASCII characters only")
    group.add_argument(
        "--width", type=positive_integer, metavar="N",
        help="characters per line; where they are few, whole columns are left out, the least "
        "important first, and a line says which",
    )  # fmt: skip
    group.add_argument(
        "--color", type=one_of(("auto", "always", "never")), metavar="WHEN",
        help="auto (default; NO_COLOR is honoured), always or never",
    )  # fmt: skip


def layout_format(arguments: argparse.Namespace) -> Any:
    """Return the format of text that the layout options describe.

    Raises:
        UsageError: the width is too narrow.
    """
    return _made("text", arguments, None, {})


def add_format_option(group: argparse._ArgumentGroup, more: Sequence[str] = ()) -> None:
    """Declare the format; ``more`` are those that a command writes itself."""
    names = (*FORMATS, *more)
    group.add_argument(
        "--format", type=_format_of(names), metavar="NAME",
        help=f"{', '.join(names)}, or {_IMPORT}package.module:Class with render(page) -> str",
    )  # fmt: skip


def _format_of(names: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.startswith(_IMPORT):
            return text
        return one_of((*names, f"{_IMPORT}package.module:Class"))(text)

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The format and the place of a result; both are checked before anything runs."""

    format: Any
    """``None`` for JSON."""
    tree: Mapping[str, Any]
    """What was said about a table of modules."""
    path: Path | None
    figure: FigureFile | None = None

    @property
    def is_read_here(self) -> bool:
        """Return whether a page goes to a terminal, where a person reads it."""
        is_page = self.path is None and self.format is not None
        return is_page and sys.stdout is not None and sys.stdout.isatty()

    def deliver(self, page: Callable[[], Page], json: Callable[[], str]) -> None:
        """Write an answer.

        Raises:
            UsageError: the file, or the standard output, cannot be written.
        """
        deliver(self.text(page, json), self.path)

    def text(self, page: Callable[[], Page], json: Callable[[], str]) -> str:
        """Return an answer in the format.

        Raises:
            UsageError: the format is the user's own, and fails.
        """
        return json() if self.format is None else str(self.format.render(page()))

    def deliver_report(self, report: Report) -> None:
        """Write a report.

        Raises:
            UsageError: the file, or the standard output, cannot be written.
        """
        if self.figure is not None:
            content = self.figure.content(report)
            if content is not None and self.path is not None:
                write(self.path, content)
            return
        from torchgauge.render.pages.report import report_page

        self.deliver_interactive(report, lambda: report_page(report, **self.tree), report.to_json)

    def deliver_interactive(
        self, answer: Report | Advice, page: Callable[[], Page], json: Callable[[], str]
    ) -> None:
        """Write an answer whose page in HTML is the interactive one.

        Raises:
            UsageError: the file, or the standard output, cannot be written.
        """
        from torchgauge.render.formats.html import HtmlFormat

        if not isinstance(self.format, HtmlFormat):
            self.deliver(page, json)
            return
        from torchgauge.web.page import answer_html

        deliver(answer_html(answer), self.path)


def chosen_output(arguments: argparse.Namespace, *, to_file: bool = True) -> Output:
    """Return where the result goes and how; ``to_file`` says that ``--output`` names its file.

    Raises:
        UsageError: an option without meaning in the format, an unknown column, no such folder,
            a suffix that says nothing, or no such format to import.
        MissingExtraError: a figure is asked for and matplotlib is not installed.
    """
    path: Path | None = arguments.output if to_file else None
    if path is not None:
        check_place(path)
    figure = chosen_figure(arguments, path)
    if figure is not None:
        return Output(format=None, tree={}, path=path, figure=figure)
    name = _chosen_format(arguments.format, path)
    given = refuse_layout(arguments, name)
    tree = {key: value for key, value in given.items() if key in _TREE}
    return Output(format=_made(name, arguments, path, tree), tree=tree, path=path)


def refuse_layout(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return what was said about the layout, where the format ``name`` has one.

    Raises:
        UsageError: an option without meaning in the format.
    """
    named = {key: getattr(arguments, key, None) for key in (*_TREE, *_LAYOUT)}
    given = {key: v for key, v in named.items() if v or (key == "details" and v is not None)}
    for key in given:
        if name not in FORMATS or name == "json" or (key in _LAYOUT and name != "text"):
            if name.startswith(_IMPORT) and key not in _LAYOUT:
                continue
            raise UsageError(
                f"--{key} has no meaning in {name}", hint="leave it out, or use --format text"
            )
    return given


def _made(
    name: str, arguments: argparse.Namespace, path: Path | None, tree: Mapping[str, Any]
) -> Any:
    if name == "json":
        return None
    from torchgauge.render import get_format

    if tree:
        from torchgauge.render.tree.rows import TreeOptions

        TreeOptions(**tree)
    if name != "text":
        if name.startswith(_IMPORT) and os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return get_format(name)
    from torchgauge.render.terminal import terminal_options

    width = getattr(arguments, "width", None)
    if width is not None and width < _SMALLEST_WIDTH:
        raise UsageError(
            f"--width {width} is too narrow for a table", hint=f"use {_SMALLEST_WIDTH} or more"
        )
    target = sys.stdout if path is None else io.StringIO()  # a file holds any character
    named = {key: getattr(arguments, key, None) for key in _LAYOUT}
    given = {key: value for key, value in named.items() if value is not None}
    return get_format("text", **terminal_options(target, **given))


def format_of(arguments: argparse.Namespace) -> str:
    """Return the name of the format that is asked for; ``"figure"`` for a picture."""
    path: Path | None = arguments.output
    if chosen_figure(arguments, path) is not None:
        return "figure"
    return _chosen_format(arguments.format, path)


def _chosen_format(name: str | None, path: Path | None) -> str:
    if name is not None:
        return name
    if path is None:
        return "text"
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageError(
            f"the name {path.name} does not say which format it wants",
            hint=f"end it in {', '.join(_SUFFIXES)}, or add --format",
        )
    return _SUFFIXES[suffix]


def check_place(path: Path) -> None:
    """Refuse a place that no file can be written to.

    Raises:
        UsageError: it is a folder, or lies in none.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="create it first")


def deliver(text: str, output: Path | None) -> None:
    """Print ``text``, or write it to ``output`` so that the file is whole or as it was.

    Raises:
        UsageError: the file, or the standard output, cannot be written.
    """
    if not text.endswith("\n"):
        text += "\n"
    if output is None:
        _print(text)
        return
    write(output, text)


def write(output: Path, content: str | bytes) -> None:
    """Write a file, which is then whole or as it was.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        write_atomically(output, content)
    except OSError as error:
        raise UsageError(
            f"cannot write {output}: {error.strerror or error}", hint="choose another --output"
        ) from error


def check_strict(report: Report | FitReport, doubts: Iterable[str] = ()) -> None:
    """Refuse a report that is incomplete, or of which a figure hangs on a guess.

    Assumptions that only say how the figures are made pass. ``doubts`` are further lines.

    Raises:
        InDoubt: lists what is in doubt.
    """
    lines = [f"not counted: {gap.op} ({gap.calls} ×): {gap.why}" for gap in report.not_counted]
    lines += [f"guessed: {text}" for text in guesses(report.assumptions)]
    check_doubts([*lines, *(f"warning: {text}" for text in report.warnings), *doubts])


def check_doubts(doubts: Iterable[str]) -> None:
    """Refuse an answer that is in doubt; ``doubts`` say why, a line each.

    Raises:
        InDoubt: there are any.
    """
    lines = list(doubts)
    if lines:
        listed = "".join(f"\n  {line}" for line in lines)
        raise InDoubt(f"--strict: the report is incomplete or holds guesses{listed}")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("name at least one column")
    return names


# ---------------------------------------------------------------------------- writing


def _print(text: str) -> None:
    if sys.stdout is None:  # closed by the shell: ``>&-``
        raise UsageError("the standard output is closed", hint="write to a file with --output")
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        close_stdout()
        raise UsageError(
            f"cannot write to the standard output: {error.strerror or error}",
            hint="write to a file with --output",
        ) from error


def close_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
