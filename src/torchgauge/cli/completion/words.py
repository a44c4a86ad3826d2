"""What can be completed: commands, their options, and the values that options take."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torchgauge.cli.modules import module_of
from torchgauge.cli.options import DTYPES, OneOf
from torchgauge.cli.output import FORMATS
from torchgauge.devices import all_devices
from torchgauge.facts.scenario import OPTIMIZERS
from torchgauge.language import LANGUAGES

FILES = "files"
"""In place of values: names of files."""
_OF_FILES = ("FILE", "DIR", "REPORT", "PATH")
_SOURCES = ("torchvision:", "timm:", "hf:")
_MODEL = re.compile(
    r"""^@register_model\((?:name=)?["']?(?P<name>\w*)["']?\)$.*?^def (?P<function>\w+)""",
    re.MULTILINE | re.DOTALL,
)
"""How torchvision registers a model: by a name, or by that of the function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a command."""

    flags: tuple[str, ...]
    help: str
    takes_value: bool
    values: tuple[str, ...] | str = ()
    """Those that are known, ``FILES``, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command."""

    name: str
    help: str
    options: tuple[Option, ...]
    values: tuple[str, ...] = ()
    """Of its positional arguments."""
    takes_files: bool = False
    """Whether a positional argument can be a file."""


def described(table: Mapping[str, str]) -> tuple[Command, ...]:
    """Return the commands of the table that ``--help`` shows. Imports them, and no torch."""
    return tuple(_command(name, text) for name, text in table.items())


def _command(name: str, text: str) -> Command:
    parser = argparse.ArgumentParser(prog=name, allow_abbrev=False)
    importlib.import_module(module_of(name)).configure(parser)
    parser.add_argument("--lang", type=OneOf(LANGUAGES), metavar="NAME", help="language of texts")
    positional = [action for action in parser._actions if not action.option_strings]
    values = dict.fromkeys(value for action in positional for value in _positional(name, action))
    return Command(
        name=name,
        help=text,
        options=tuple(_options(parser)),
        values=tuple(values),
        takes_files=any(_takes_files(action) for action in positional),
    )


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            takes = action.nargs != 0
            yield Option(
                flags=tuple(action.option_strings),
                help=_first_words(action.help or ""),
                takes_value=takes,
                values=_values(action) if takes else (),
            )


def _values(action: argparse.Action) -> tuple[str, ...] | str:
    flag = action.option_strings[0]
    if flag == "--device":
        return ("cpu", "cuda", *(device.name for device in all_devices()))
    if flag == "--format":
        return FORMATS
    if flag == "--optimizer":
        return OPTIMIZERS
    if flag == "--dtype":
        return DTYPES
    if isinstance(action.type, OneOf):
        return action.type.names
    if action.choices is not None:
        return tuple(map(str, action.choices))
    is_file = action.type is Path or action.metavar in _OF_FILES
    return FILES if is_file else ()


def _positional(command: str, action: argparse.Action) -> tuple[str, ...]:
    if action.metavar == "MODEL":
        return (*(f"torchvision:{name}" for name in torchvision_names()), *_SOURCES)
    if command == "devices":
        return tuple(device.name for device in all_devices())
    if isinstance(action.type, OneOf):
        return action.type.names
    return ()


def _takes_files(action: argparse.Action) -> bool:
    return action.metavar == "MODEL" or action.type is Path or action.metavar in _OF_FILES


def torchvision_names() -> tuple[str, ...]:
    """Return the models that torchvision registers; none where it is not installed.

    They are read from its source: importing it takes seconds, and a shell makes its completion each
    time that it starts.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return ()
    names: set[str] = set()
    for path in (Path(found.origin).parent / "models").rglob("*.py"):
        for match in _MODEL.finditer(path.read_text(encoding="utf-8")):
            names.add(match["name"] or match["function"])
    return tuple(sorted(names))


def _first_words(text: str) -> str:
    """Return a text of ``--help`` as one short line.

    >>> _first_words("such as 8GiB: exit 1 and write nothing; or else")
    'such as 8GiB: exit 1 and write nothing'
    """
    text = " ".join(text.replace("%%", "%").split()).partition(";")[0].partition(" (default")[0]
    return text if len(text) <= 70 else text[:69].rpartition(" ")[0] + " …"
