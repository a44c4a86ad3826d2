"""The script for fish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchgauge.cli.completion.words import FILES, Command, Option

_HEAD = """\
# Completion of torchgauge for fish: torchgauge completion fish | source
complete -c torchgauge -f
"""


def script(commands: Sequence[Command]) -> str:
    """Return the script."""
    lines = [_HEAD]
    for command in commands:
        lines.append(
            f"complete -c torchgauge -n __fish_use_subcommand -a {command.name} "
            f"-d {_quoted(command.help)}"
        )
    for command in commands:
        seen = f"complete -c torchgauge -n '__fish_seen_subcommand_from {command.name}'"
        lines += (f"{seen} {text}" for text in _arguments(command))
        for option in command.options:
            lines += (f"{seen} {text}" for text in _option(option))
    return "\n".join(lines) + "\n"


def _arguments(command: Command) -> Iterator[str]:
    if command.takes_files:
        yield "-F"
    if command.values:
        yield f"-a {_listed(command.values)}"


def _option(option: Option) -> Iterator[str]:
    for flag in option.flags:
        name = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
        value = ""
        if option.values == FILES:
            value = " -r -F"
        elif option.values:
            value = f" -x -a {_listed(tuple(option.values))}"
        elif option.takes_value:
            value = " -x"
        yield f"{name}{value} -d {_quoted(option.help)}"


def _listed(values: Sequence[str]) -> str:
    """Return values as a list that fish works out when it is asked: a line is one value."""
    return _quoted("(printf '%s\\n' " + " ".join(map(_quoted, values)) + ")")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
