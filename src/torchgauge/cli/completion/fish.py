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
    lists = _Lists()
    lines: list[str] = []
    for command in commands:
        lines.append(
            f"complete -c torchgauge -n __fish_use_subcommand -a {command.name} "
            f"-d {_quoted(command.help)}"
        )
    for command in commands:
        seen = f"complete -c torchgauge -n '__fish_seen_subcommand_from {command.name}'"
        lines += (f"{seen} {text}" for text in _arguments(command, lists))
        for option in command.options:
            lines += (f"{seen} {text}" for text in _option(option, lists))
    return "\n".join([_HEAD, *lists.lines(), *lines]) + "\n"


class _Lists:
    """Values, each list of them once, as a function that prints a line for each."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], str] = {}

    def add(self, values: tuple[str, ...]) -> str:
        """Return what stands for the values."""
        name = self._names.setdefault(values, f"__torchgauge_{len(self._names)}")
        return f"'({name})'"

    def lines(self) -> Iterator[str]:
        """Yield a line for each list."""
        for values, name in self._names.items():
            yield f"function {name}; printf '%s\\n' {' '.join(map(_quoted, values))}; end"


def _arguments(command: Command, lists: _Lists) -> Iterator[str]:
    if command.takes_files:
        yield "-F"
    if command.values:
        yield f"-a {lists.add(command.values)}"


def _option(option: Option, lists: _Lists) -> Iterator[str]:
    for flag in option.flags:
        name = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
        value = ""
        if option.values == FILES:
            value = " -r -F"
        elif option.values:
            value = f" -x -a {lists.add(tuple(option.values))}"
        elif option.takes_value:
            value = " -x"
        yield f"{name}{value} -d {_quoted(option.help)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
