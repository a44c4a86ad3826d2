"""Patches that take modules out whose result nobody reads, or that nobody calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import libcst as cst

from torchgauge.advise.patch.constructors import identity
from torchgauge.advise.patch.source.forwards import Forward, forward_of_class
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Site, Sites
from torchgauge.advise.subject import Subject


def drop_dead(
    subject: Subject, sites: Sites, where: tuple[str, ...], settings: Mapping[str, Any]
) -> None:
    """Take out the calls whose results are dropped, and what they call.

    Where the call is part of a longer line, ``nn.Identity()`` takes the module's place.
    """
    for path in where:
        site = sites.of(path, where)
        owner, _, name = path.rpartition(".")
        line = None
        if site.statement is not None:
            forward = forward_of_class(sites, type(sites.module(owner)))
            line = _dropped_call(forward, name)
            if line is not None and _uses(site.holder, name) == 2:  # made once, called once
                forward.file.edit(line, lambda _: cst.RemoveFromParent())
                _remove(site)
                continue
        call = site.node
        if not isinstance(call, cst.Call):
            raise NoPatch(f"{path}: it is not made by a call")
        new = identity(site, call, sites.module(path), settings, 0)
        site.file.put(call, new)


def drop_uncalled(
    subject: Subject, sites: Sites, where: tuple[str, ...], settings: Mapping[str, Any]
) -> None:
    """Take out the lines that make modules which nothing calls.

    Raises:
        NoPatch: other code names one of them, so another input may call it.
    """
    outer = [path for path in where if not any(path.startswith(f"{other}.") for other in where)]
    for path in outer:
        site = sites.of(path, where)
        name = path.rpartition(".")[2]
        if site.statement is None:
            raise NoPatch(f"{path}: it is in a container, and removing it would rename others")
        if _uses(site.holder, name) > 1:
            raise NoPatch(f"{path}: other lines name it, and other inputs may call it")
        _remove(site)


def _remove(site: Site) -> None:
    assert site.statement is not None
    line = site.file.line_of(site.statement)
    site.file.edit(line, lambda _: cst.RemoveFromParent())


def _dropped_call(forward: Forward, name: str) -> cst.CSTNode | None:
    """Return the line that calls ``self.name`` and drops what comes back."""
    for call in forward.calls():
        if forward.attribute_of(call.func) != name:
            continue
        line = forward.file.line_of(call)
        (small, *more) = line.body
        if more:
            return None
        if isinstance(small, cst.Expr) and small.value is call:
            return line
        if isinstance(small, cst.Assign) and small.value is call and len(small.targets) == 1:
            target = small.targets[0].target
            if isinstance(target, cst.Name) and _named(forward.node, target.value) == 1:
                return line
    return None


def _uses(node: cst.CSTNode, name: str) -> int:
    """Return how often a class names an attribute, also by its name as text."""
    counter = _Counter(name)
    node.visit(counter)
    return counter.attributes


def _named(node: cst.CSTNode, name: str) -> int:
    counter = _Counter(name)
    node.visit(counter)
    return counter.names


class _Counter(cst.CSTVisitor):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.attributes = 0
        self.names = 0

    def visit_Attribute(self, node: cst.Attribute) -> None:
        if node.attr.value == self._name:
            self.attributes += 1

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        if self._name in node.value and node.raw_value == self._name:
            self.attributes += 1  # getattr(self, "aux")

    def visit_Name(self, node: cst.Name) -> None:
        if node.value == self._name:
            self.names += 1
