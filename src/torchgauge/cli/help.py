"""The texts of ``--help``: in the language that is spoken, wrapped as a terminal measures them."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any, NoReturn

from torchgauge.errors import UsageError
from torchgauge.language import ENGLISH, current, translated

_SMALLEST_WIDTH = 40


def wrapped(text: str, indent: str = "") -> str:
    """Return a text in lines as wide as the terminal, as argparse takes it."""
    width = max(shutil.get_terminal_size().columns - 2, _SMALLEST_WIDTH)
    return "\n".join(_lines(text, width, indent))


def _lines(text: str, width: int, indent: str = "") -> list[str]:
    if current() == ENGLISH:  # a character is a cell: help does not wait for rich
        return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False)
    from torchgauge.render.layout import wrap

    return list(wrap((text,), width, indent=indent))


class Parser(argparse.ArgumentParser):
    """An argument parser that speaks the user's language; its errors are ``UsageError``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            UsageError: always.
        """
        raise UsageError(message, hint=f"{self.prog} --help")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Writes help with its texts translated; argparse counts characters, this counts cells."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        super().add_usage(usage, actions, groups, translated(prefix or "usage: "))

    def start_section(self, heading: str | None) -> None:
        super().start_section(translated(heading) if heading else heading)

    def _expand_help(self, action: argparse.Action) -> str:
        return translated(super()._expand_help(action))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _lines(" ".join(text.split()), width)
