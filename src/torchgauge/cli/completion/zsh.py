"""The script for zsh."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from torchgauge.cli.completion.words import FILES, Command, Option

_HEAD = """\
#compdef torchgauge
# Completion of torchgauge for zsh: eval "$(torchgauge completion zsh)", after compinit.
{lists}
_torchgauge() {{
    local -a found
    local previous=${{words[CURRENT-1]}}
    if ((CURRENT == 2)); then
"""
_TAIL = """\
    esac
}
compdef _torchgauge torchgauge
"""


def script(commands: Sequence[Command]) -> str:
    """Return the script."""
    lists = _Lists()
    lines = [_described((command.name, command.help) for command in commands)]
    lines += ["        _describe command found", "        return", "    fi"]
    lines.append('    case "${words[2]}" in')
    for command in commands:
        lines += _branch(command, lists)
    return _HEAD.format(lists="\n".join(lists.lines())) + "\n".join(lines) + "\n" + _TAIL


class _Lists:
    """Values, each list of them once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], str] = {}

    def add(self, values: tuple[str, ...]) -> str:
        """Return what completes one of the values."""
        name = self._names.setdefault(values, f"_torchgauge_{len(self._names)}")
        return f"compadd -a {name}"

    def lines(self) -> Iterator[str]:
        """Yield a line for each list."""
        for values, name in self._names.items():
            yield f"typeset -ga {name}=({_quoted(values)})"


def _branch(command: Command, lists: _Lists) -> Iterator[str]:
    yield f"        {command.name})"
    yield '            case "$previous" in'
    by_values: dict[tuple[str, ...] | str, list[str]] = {}
    for option in command.options:
        if option.takes_value:
            by_values.setdefault(option.values, []).extend(option.flags)
    for values, flags in by_values.items():
        yield f"                {'|'.join(flags)}) {_completed(values, lists)}; return ;;"
    yield "            esac"
    yield "            if [[ $PREFIX == -* ]]; then"
    yield _described(_described_flags(command.options), indent=16)
    yield "                _describe option found"
    yield "            else"
    if command.values:
        yield f"                {lists.add(command.values)}"
    yield "                _files" if command.takes_files else "                :"
    yield "            fi"
    yield "            ;;"


def _completed(values: tuple[str, ...] | str, lists: _Lists) -> str:
    if values == FILES:
        return "_files"
    return lists.add(tuple(values)) if values else ":"


def _described_flags(options: Sequence[Option]) -> Iterator[tuple[str, str]]:
    for option in options:
        for flag in option.flags:
            yield flag, option.help


def _described(pairs: Iterator[tuple[str, str]], *, indent: int = 8) -> str:
    words = (shlex.quote(f"{name}:{text.replace(':', ' ')}") for name, text in pairs)
    return " " * indent + f"found=({' '.join(words)})"


def _quoted(values: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, values))
