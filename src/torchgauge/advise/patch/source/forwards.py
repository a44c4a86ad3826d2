"""The source of a module's own forward."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import libcst as cst

from torchgauge.advise.patch.source.files import SourceFile, statements, users_file
from torchgauge.advise.patch.source.names import names_of
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Sites
from torchgauge.advise.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One ``forward`` method of a class of the user's."""

    file: SourceFile
    node: cst.FunctionDef
    definition: cst.ClassDef
    names: Mapping[str, Any]
    name: str
    """``Net.forward``."""

    @property
    def this(self) -> str:
        """Return what the method calls its module: ``self``."""
        return self.node.params.params[0].name.value

    def calls(self) -> Iterator[cst.Call]:
        """Yield the calls in the body, outer ones first."""
        finder = _Calls()
        self.node.body.visit(finder)
        yield from finder.found

    def names_it(self, name: str) -> bool:
        """Return whether the method has a name already."""
        return re.search(rf"\b{name}\b", self.file.tree.code_for_node(self.node)) is not None

    def attribute_of(self, node: cst.BaseExpression) -> str | None:
        """Return the name in ``self.name``."""
        if (
            isinstance(node, cst.Attribute)
            and isinstance(node.value, cst.Name)
            and node.value.value == self.this
        ):
            return node.attr.value
        return None


def forward_of(sites: Sites, subject: Subject, path: str) -> Forward:
    """Return the forward of a module that no other module shares.

    Raises:
        NoPatch: the class is not the user's, or other modules are of it.
    """
    kind = type(subject.modules[path])
    same = [other for other, module in subject.modules.items() if type(module) is kind]
    if len(same) > 1:
        raise NoPatch(f"{kind.__name__}.forward is that of {len(same)} modules")
    return forward_of_class(sites, kind)


def forward_of_class(sites: Sites, kind: type) -> Forward:
    """Return the forward of a class, its own or an inherited one.

    Raises:
        NoPatch: it is not the user's.
    """
    for base in kind.__mro__:
        if "forward" not in vars(base):
            continue
        if users_file(base) is None:
            break
        file = sites.files.of_class(base)
        definition = file.class_of(base)
        for method in statements(definition):
            if isinstance(method, cst.FunctionDef) and method.name.value == "forward":
                return Forward(
                    file=file, node=method, definition=definition, names=names_of(base),
                    name=f"{base.__name__}.forward",
                )  # fmt: skip
    raise NoPatch(f"the forward of {kind.__name__} is not in a file of yours")


class _Calls(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[cst.Call] = []

    def visit_Call(self, node: cst.Call) -> None:
        self.found.append(node)
