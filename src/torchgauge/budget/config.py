"""Read ``[tool.torchgauge]`` of a TOML file: models with their settings and limits, and lines."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchgauge.errors import UsageError

BASELINES = "baselines"
"""Key of the folder of the baselines; it belongs to ``[tool.torchgauge]`` alone."""
_DEFAULT_BASELINES = ".torchgauge"
_EXAMPLE = '[tool.torchgauge.models.net] with spec = "net.py:Net" and max-params = "5 M"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One model as it is in the file, with the shared settings where it has none of its own."""

    name: str
    line: int
    values: Mapping[str, Any]
    lines: Mapping[str, int]
    """By key; a key that is not on a line of its own has that of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The budgets of a file."""

    path: Path
    tables: Mapping[str, Table]
    baselines: Path
    """The folder of the baselines."""

    @property
    def folder(self) -> Path:
        """Return the folder that specs and baselines start from."""
        return self.path.parent


def find_config(folder: Path) -> Path:
    """Return the nearest ``pyproject.toml`` with budgets, here or in a folder above.

    Raises:
        UsageError: there is none, or one of them is not TOML.
    """
    for place in (folder, *folder.parents):
        path = place / "pyproject.toml"
        if path.is_file() and "models" in _own_part(_parsed(path, _text(path))):
            return path
    raise UsageError(
        "no pyproject.toml here or above holds a budget", hint=f"add {_EXAMPLE}, or name --config"
    )


def read_config(path: Path) -> Config:
    """Return the budgets of a file.

    Raises:
        UsageError: it cannot be read, is not TOML, or holds no model.
    """
    text = _text(path)
    part = dict(_own_part(_parsed(path, text)))
    models = part.pop("models", {})
    if not isinstance(models, dict) or not models:
        raise UsageError(f"{path.name} holds no budget", hint=f"add {_EXAMPLE}")
    folder = part.pop(BASELINES, _DEFAULT_BASELINES)
    if not isinstance(folder, str):
        raise UsageError(f"{path.name}, {BASELINES} is not text", hint="name a folder")
    lines = dict(_lines(text))
    shared = {key: line for (table, key), line in lines.items() if table == ()}
    tables = {}
    for name, values in models.items():
        if not isinstance(values, dict):
            raise UsageError(
                f"{path.name}: {name!r} in [tool.torchgauge.models] is not a table",
                hint=f"write {_EXAMPLE}",
            )
        own = {key: line for (table, key), line in lines.items() if table == ("models", name)}
        tables[name] = Table(
            name=name, line=own.get("", 1), values={**part, **values}, lines={**shared, **own}
        )
    return Config(path=path, tables=tables, baselines=path.parent / folder)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"cannot read {path}: {reason}", hint="check the path") from error


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}", hint="mend the line") from error


def _own_part(data: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = data.get("tool", {})
    part = tool.get("torchgauge", {}) if isinstance(tool, dict) else {}
    return part if isinstance(part, dict) else {}


_HEADER = re.compile(r"\s*\[\s*tool\s*\.\s*torchgauge\s*(?:\.\s*models\s*\.\s*(.+?)\s*)?\]")
_KEY = re.compile(r"""\s*["']?([\w-]+)["']?\s*(?:=|\.)""")


def _lines(text: str) -> Iterator[tuple[tuple[tuple[str, ...], str], int]]:
    """Yield ``((table, key), line)``; the table is ``()`` for what is shared, ``""`` is its head.

    ``tomllib`` does not say where a value stands. Tables that are written in another way than with
    a head of their own are not found, which costs an annotation its line and nothing else.
    """
    table: tuple[str, ...] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if (head := _HEADER.match(line)) is not None:
            table = ("models", head[1].strip("\"'")) if head[1] else ()
            yield (table, ""), number
        elif line.lstrip().startswith("["):
            is_value = not re.match(r"\s*\[[\w\s.\"'-]+\]\s*(#.*)?$", line)
            table = table if is_value else None
        elif table is not None and (key := _KEY.match(line)) is not None:
            yield (table, key[1]), number
