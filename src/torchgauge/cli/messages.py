"""What the command line says on stderr, in the language that is spoken."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from torchgauge.errors import TorchGaugeError
from torchgauge.language import ENGLISH, LANGUAGES, preferred, translated

PROGRAM = "torchgauge"
_OPTION = "--lang"
_SAMPLE = "中"


def say(text: str) -> None:
    """Print a message of the program."""
    _print(f"{PROGRAM}: {translated(text)}")


def say_error(error: TorchGaugeError) -> None:
    """Print an error, then what to do next."""
    text = translated("error: ") + translated(error.message)
    hint = "\n" + translated("  try: ") + translated(error.hint) if error.hint else ""
    _print(f"{PROGRAM}: {text}{hint}")


def note(text: str) -> None:
    """Print what a user should know besides the result."""
    _print(translated("note: ") + translated(text))


def visible(text: str) -> str:
    r"""Return text with what would steer a terminal written as an escape; lines stay lines.

    A model's code can put anything into its names and errors: colours, a title of the window,
    letters that run backwards.

    >>> visible("boom \x1b[31m\nhow")
    'boom \\x1b[31m\nhow'
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def _print(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)


def language_of(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the language that the arguments name, else the environment's.

    A locale does not count where Chinese cannot be written; ``--lang`` is believed.

    >>> language_of(["summary", "--lang", "zh"], {}), language_of(["fit", "--lang=en"], {})
    ('zh', 'en')
    """
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == _OPTION:
            following = [*arguments[number + 1 : number + 2], ""][0]
            chosen = value if equals else following
            return chosen if chosen in LANGUAGES else ENGLISH
    wish = preferred(environment)
    streams = (sys.stdout, sys.stderr)
    return wish if all(map(_can_write, streams)) else ENGLISH


def _can_write(stream: object) -> bool:
    encoding = getattr(stream, "encoding", None)
    if encoding is None:
        return True
    try:
        _SAMPLE.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
