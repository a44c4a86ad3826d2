"""The script for bash: functions alone, nothing of other packages is needed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from torchgauge.cli.completion.words import FILES, Command

_HEAD = """\
# Completion of torchgauge for bash: eval "$(torchgauge completion bash)"
"""
_TAIL = r"""
_torchgauge() {
    local line=${COMP_LINE:0:COMP_POINT} cur=${COMP_WORDS[COMP_CWORD]} word prev="" command=""
    local -a words
    read -ra words <<< "$line"
    command=${words[1]}
    # bash takes a model spec apart at its colon, and words[] does not.
    if [[ $line != *[[:space:]] && $cur != *\\* ]]; then cur=${words[${#words[@]}-1]}; fi
    if [[ $line == *[[:space:]] && $line != *\\" " ]]; then cur=""; fi
    if ((COMP_CWORD > 0)); then prev=${COMP_WORDS[COMP_CWORD-1]}; fi
    COMPREPLY=()
    if ((COMP_CWORD <= 1)); then
        _torchgauge_add "$cur" "$(_torchgauge_commands)"
    elif [[ $prev == --* ]] && _torchgauge_takes "$command:$prev"; then
        local values
        values=$(_torchgauge_values "$command:$prev")
        if [[ $values == files ]]; then
            compopt -o filenames 2> /dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        else
            _torchgauge_add "$cur" "$values"
        fi
    elif [[ $cur == -* ]]; then
        _torchgauge_add "$cur" "$(_torchgauge_options "$command")"
    else
        _torchgauge_add "$cur" "$(_torchgauge_arguments "$command")"
        if ((${#COMPREPLY[@]} == 0)) && _torchgauge_files "$command"; then
            compopt -o filenames 2> /dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
    fi
}

_torchgauge_add() { # what was typed, the words in lines
    local typed=${1//\\/} word cut=""
    if [[ $typed == *:* && $COMP_WORDBREAKS == *:* ]]; then cut=${typed%"${typed##*:}"}; fi
    while IFS= read -r word; do
        if [[ -n $word && $word == "$typed"* ]]; then
            COMPREPLY+=("$(printf '%q' "${word#"$cut"}")")
        fi
    done <<< "$2"
    if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace 2> /dev/null
    fi
}

complete -F _torchgauge torchgauge
"""


def script(commands: Sequence[Command]) -> str:
    """Return the script."""
    names = "\n".join([*(command.name for command in commands), "--help", "--version"])
    lines = [_HEAD, f"_torchgauge_commands() {{ printf '%s\\n' {shlex.quote(names)}; }}", ""]
    lines += _cases(
        "options",
        {
            c.name: "\n".join(flag for option in c.options for flag in option.flags)
            for c in commands
        },
    )
    lines += _cases("arguments", {c.name: "\n".join(c.values) for c in commands})
    lines += _cases("values", dict(_values(commands)))
    lines += _tests("files", [command.name for command in commands if command.takes_files])
    taking = [f"{c.name}:{flag}" for c in commands for o in c.options if o.takes_value
              for flag in o.flags]  # fmt: skip
    lines += _tests("takes", taking)
    return "\n".join(lines) + _TAIL


def _values(commands: Sequence[Command]) -> Iterator[tuple[str, str]]:
    for command in commands:
        for option in command.options:
            text = FILES if option.values == FILES else "\n".join(option.values)
            for flag in option.flags:
                yield f"{command.name}:{flag}", text


def _cases(name: str, texts: dict[str, str]) -> Iterator[str]:
    """Yield a function that prints the text of a key; keys with one text share it."""
    by_text: dict[str, list[str]] = {}
    for key, text in texts.items():
        if text:
            by_text.setdefault(text, []).append(key)
    yield f"_torchgauge_{name}() {{"
    yield '    case "$1" in'
    for text, keys in by_text.items():
        yield f"        {'|'.join(keys)}) printf '%s\\n' {shlex.quote(text)} ;;"
    yield "    esac"
    yield "}"
    yield ""


def _tests(name: str, keys: Sequence[str]) -> Iterator[str]:
    """Yield a function that succeeds for the keys."""
    yield f"_torchgauge_{name}() {{"
    yield f'    case "$1" in {"|".join(keys)}) return 0 ;; esac'
    yield "    return 1"
    yield "}"
    yield ""
