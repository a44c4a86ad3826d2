"""The patch of ``untied-copy``: one tensor for the embedding and the head.

The line that copied the values goes where there is one. Else the tie stands behind the lines that
make both, or before the function returns that loads the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst
from torch import nn

from torchgauge.advise.patch.source.calls import code
from torchgauge.advise.patch.source.files import SourceFile, statements, users_file
from torchgauge.advise.patch.source.functions import Function
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Sites
from torchgauge.advise.rules.untied_copy import copies
from torchgauge.advise.subject import Subject, in_code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Code that knows both layers, by names that begin with ``self`` or with a variable."""

    file: SourceFile
    body: cst.BaseSuite
    head: str
    embedding: str

    @property
    def weights(self) -> tuple[str, str]:
        return f"{self.head}.weight", f"{self.embedding}.weight"


def tie_again(subject: Subject, sites: Sites, where: tuple[str, ...]) -> None:
    """Tie the head of a fault.

    Raises:
        NoPatch: no code of the user's knows both layers.
    """
    (path,) = where
    _tie(subject, sites, path, dict(copies(subject))[path])


def tie(
    subject: Subject, sites: Sites, where: tuple[str, ...], settings: Mapping[str, Any]
) -> None:
    """Let the head hold the tensor of the embedding.

    Raises:
        NoPatch: no code of the user's knows both layers.
    """
    (path,) = where
    _tie(subject, sites, path, settings["embedding"])


def _tie(subject: Subject, sites: Sites, head: str, embedding: str) -> None:
    of_class = _in_constructor(sites, subject.model, head, embedding)
    function = Function.of(sites)
    of_function = None if function is None else _in_function(function, head, embedding)
    for place in (of_class, of_function):
        line = None if place is None else _copying(place)
        if place is not None and line is not None:
            old, comments, weights = line
            place.file.put(old, _tied(place, *weights, comments=comments))
            return
    if of_function is not None and function is not None and function.last is not None:
        new, last = _tied(of_function, *of_function.weights), function.last
        of_function.file.edit(last, lambda node: cst.FlattenSentinel([new, node]))
        return
    if of_class is None:
        raise NoPatch(f"no constructor of yours makes both {head} and {embedding}")
    after = _last_that_names(of_class)
    new = _tied(of_class, *of_class.weights)
    of_class.file.edit(after, lambda node: cst.FlattenSentinel([node, new]))


# ---------------------------------------------------------------------------- where


def _in_constructor(sites: Sites, model: nn.Module, head: str, embedding: str) -> _Place | None:
    """Return the constructor of the innermost module that holds both layers."""
    parts, others = head.split("."), embedding.split(".")
    shared = 0
    while shared < min(len(parts), len(others)) - 1 and parts[shared] == others[shared]:
        shared += 1
    for count in range(shared, -1, -1):
        for kind in type(model.get_submodule(".".join(parts[:count]))).__mro__:
            if users_file(kind) is None or "__init__" not in vars(kind):
                continue
            file = sites.files.of_class(kind)
            for method in statements(file.class_of(kind)):
                if isinstance(method, cst.FunctionDef) and method.name.value == "__init__":
                    this = method.params.params[0].name.value
                    return _Place(
                        file=file,
                        body=method.body,
                        head=_reached(this, parts[count:]),
                        embedding=_reached(this, others[count:]),
                    )
    return None


def _in_function(function: Function, head: str, embedding: str) -> _Place | None:
    """Return the function that makes the model, where it returns a variable."""
    returned = function.returned
    if isinstance(returned, cst.Call) and isinstance(returned.func, cst.Attribute):
        is_mode = returned.func.attr.value in ("eval", "train")
        returned = returned.func.value if is_mode else None
    if not isinstance(returned, cst.Name):
        return None
    return _Place(
        file=function.file,
        body=function.node.body,
        head=_reached(returned.value, head.split(".")),
        embedding=_reached(returned.value, embedding.split(".")),
    )


def _reached(this: str, parts: list[str]) -> str:
    return this + in_code(".".join(parts)).removeprefix("model")


# ---------------------------------------------------------------------------- what is there


def _copying(place: _Place) -> tuple[cst.CSTNode, list[cst.EmptyLine], tuple[str, str]] | None:
    """Return the line that copies one weight into the other, its comments, and both weights."""
    for line in statements(place.body):
        for inner in _lines_of(line):
            small = inner.body[0] if len(inner.body) == 1 else None
            written, text = _written(small)
            for one, other in (place.weights, place.weights[::-1]):
                target = re.fullmatch(rf"({_spelled(one)})(\.data)?", written)
                source = re.search(rf"(?<![\w.]){_spelled(other)}\b", text)
                is_tie = source is not None and source[0] == text and isinstance(small, cst.Assign)
                if target is not None and source is not None and not is_tie:
                    above = [*getattr(line, "leading_lines", ())]
                    above += inner.leading_lines if inner is not line else ()
                    return line, above, (target[1], source[0])
    return None


def _spelled(reached: str) -> str:
    """Return a pattern of ``self.parts.key``, also as ``self.parts["key"]``."""
    first, *names = reached.split(".")
    return re.escape(first) + "".join(
        rf"""(?:\.{re.escape(name)}|\[["']{re.escape(name)}["']\])""" for name in names
    )


def _lines_of(line: cst.CSTNode) -> Iterator[cst.SimpleStatementLine]:
    """Yield a plain line, or the only one below ``with torch.no_grad():``."""
    if isinstance(line, cst.SimpleStatementLine):
        yield line
    elif isinstance(line, cst.With) and len(line.items) == 1:
        inside = list(statements(line))
        if len(inside) == 1 and code(line.items[0].item).endswith("no_grad()"):
            yield from _lines_of(inside[0])


def _written(small: cst.BaseSmallStatement | None) -> tuple[str, str]:
    """Return what a statement writes, and what it writes into it; ``""`` for anything else."""
    if isinstance(small, cst.Assign) and len(small.targets) == 1:
        return code(small.targets[0].target), code(small.value)
    call = small.value if isinstance(small, cst.Expr) else None
    method = call.func if isinstance(call, cst.Call) and call.args else None
    if isinstance(method, cst.Attribute) and method.attr.value == "copy_":
        assert isinstance(call, cst.Call)
        return code(method.value), code(call.args[0].value)
    return "", ""


def _last_that_names(place: _Place) -> cst.CSTNode:
    """Return the last statement of a constructor that names one of the layers, or the last one."""
    lines = list(statements(place.body))
    for line in reversed(lines):
        text = code(line)
        if _first_name(place.head) in text or _first_name(place.embedding) in text:
            return line
    return lines[-1]


def _first_name(reached: str) -> str:
    """Return ``self.encoder`` of ``self.encoder.layers[0].head``."""
    return ".".join(reached.partition("[")[0].split(".")[:2])


def _tied(
    place: _Place, one: str, other: str, *, comments: Sequence[cst.EmptyLine] = ()
) -> cst.SimpleStatementLine:
    """Return the line that ties, below the comments of the one whose place it takes."""
    made = cst.parse_statement(f"{one} = {other}\n", config=place.file.tree.config_for_parsing)
    assert isinstance(made, cst.SimpleStatementLine)
    return made.with_changes(leading_lines=comments)
