"""The line after ``%gauge``: a model, a size and keywords, read as Python where they are."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torchgauge.errors import UsageError

USAGE: Final = "%gauge net (3, 224, 224) mode=training device=T4"
LINE: Final = "%gauge"
"""The file that Python says its expressions are in."""
_TEXT: Final = frozenset(
    {
        "allocator", "attn_implementation", "checkpointing", "device", "dtypes", "loss", "mode",
        "model_name", "model_spec", "optimizer", "optimizer_implementation", "precision",
        "torch_release", "zero_grad",
    }
)  # fmt: skip
"""Keywords of ``summary`` whose value may be a word, which is text then."""
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a line asks for, with its names looked up."""

    model: Any
    size: Any
    """``None`` where there is none."""
    options: Mapping[str, Any]


def asked_by(line: str, names: Mapping[str, Any]) -> Asked:
    """Return what a line asks for.

    >>> asked_by("net (3, 2 + 2) mode=training batch_size=n", {"net": "hf:bert", "n": 8})
    Asked(model='hf:bert', size=(3, 4), options={'mode': 'training', 'batch_size': 8})

    Raises:
        UsageError: there is no model, a part is not understood, or Python cannot evaluate it.
    """
    parts = list(_parts(line))
    if not parts or _keyword(parts[0]) is not None:
        raise UsageError("no model was named", hint=USAGE)
    model = _evaluated(parts.pop(0), names, spec=True)
    size = None
    if parts and _keyword(parts[0]) is None:
        size = _evaluated(parts.pop(0), names)
    options: dict[str, Any] = {}
    for part in parts:
        keyword = _keyword(part)
        if keyword is None:
            raise UsageError(
                f"{part!r} is neither the model, one size nor keyword=value",
                hint=f"{USAGE}; several sizes are a list: [(3, 32, 32), (10,)]",
            )
        if keyword in options:
            raise UsageError(f"{keyword} is given twice", hint="leave one out")
        options[keyword] = _value(keyword, part[len(keyword) + 1 :], names)
    return Asked(model=model, size=size, options=options)


def _value(keyword: str, text: str, names: Mapping[str, Any]) -> Any:
    if not text:
        raise UsageError(
            f"{keyword}= has no value", hint=f"write {keyword}=value, without spaces around ="
        )
    if keyword not in _TEXT or text[0] in _OPENING:
        return _evaluated(text, names)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _evaluated(text: str, names: Mapping[str, Any], *, spec: bool = False) -> Any:
    """Return the value of an expression; what is none may be a model spec."""
    try:
        code = compile(text, LINE, "eval")
    except (SyntaxError, ValueError) as error:
        if spec and ":" in text:
            return text
        raise UsageError(f"{text!r} is not a Python expression", hint=USAGE) from error
    try:
        return eval(code, {**names})
    except NameError as error:
        raise UsageError(str(error), hint="run the cell that defines it first") from error
    except Exception as error:
        raise UsageError(f"{text}: {type(error).__name__}: {error}", hint=USAGE) from error


def _keyword(part: str) -> str | None:
    name, is_given, rest = part.partition("=")
    return name if is_given and name.isidentifier() and not rest.startswith("=") else None


def _parts(line: str) -> Iterator[str]:
    """Yield the parts between spaces; those in brackets and quotes hold together.

    Raises:
        UsageError: a bracket or a quote is not closed.
    """
    part, depth, quote, is_escaped = "", 0, "", False
    for char in line.strip():
        if not quote and not depth and char.isspace():
            if part:
                yield part
            part = ""
            continue
        part += char
        if quote:
            if char == quote and not is_escaped:
                quote = ""
            is_escaped = char == "\\" and not is_escaped
        elif char in "'\"":
            quote = char
        else:
            depth += (char in _OPENING) - (char in _CLOSING)
    if quote or depth:
        raise UsageError(f"a {'quote' if quote else 'bracket'} is not closed in {line}", hint=USAGE)
    if part:
        yield part
