"""The script for zsh."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from torchgauge.cli.completion.words import FILES, Command, Option

_HEAD = """\
#compdef torchgauge
# Completion of torchgauge for zsh: eval "$(torchgauge completion zsh)", after compinit.
_torchgauge() {
    local -a found
    local previous=${words[CURRENT-1]}
    if ((CURRENT == 2)); then
"""
_TAIL = """\
    esac
}
compdef _torchgauge torchgauge
"""


def script(commands: Sequence[Command]) -> str:
    """Return the script."""
    lines = [_described((command.name, command.help) for command in commands)]
    lines += ["        _describe command found", "        return", "    fi"]
    lines.append('    case "${words[2]}" in')
    for command in commands:
        lines += _branch(command)
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


def _branch(command: Command) -> Iterator[str]:
    yield f"        {command.name})"
    yield '            case "$previous" in'
    by_values: dict[tuple[str, ...] | str, list[str]] = {}
    for option in command.options:
        if option.takes_value:
            by_values.setdefault(option.values, []).extend(option.flags)
    for values, flags in by_values.items():
        yield f"                {'|'.join(flags)}) {_completed(values)}; return ;;"
    yield "            esac"
    yield "            if [[ $PREFIX == -* ]]; then"
    yield _described(_described_flags(command.options), indent=16)
    yield "                _describe option found"
    yield "            else"
    if command.values:
        yield f"                compadd -- {_quoted(command.values)}"
    yield "                _files" if command.takes_files else "                :"
    yield "            fi"
    yield "            ;;"


def _completed(values: tuple[str, ...] | str) -> str:
    if values == FILES:
        return "_files"
    return f"compadd -- {_quoted(tuple(values))}" if values else ":"


def _described_flags(options: Sequence[Option]) -> Iterator[tuple[str, str]]:
    for option in options:
        for flag in option.flags:
            yield flag, option.help


def _described(pairs: Iterator[tuple[str, str]], *, indent: int = 8) -> str:
    words = (shlex.quote(f"{name}:{text.replace(':', ' ')}") for name, text in pairs)
    return " " * indent + f"found=({' '.join(words)})"


def _quoted(values: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, values))
