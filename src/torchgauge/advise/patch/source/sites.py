"""Where the source makes a module: the expression, and every module that it makes.

A module belongs to the nearest class of the user's above it, which sets an attribute of itself:
``self.features = nn.Sequential(…)``. From there the path leads through literal containers.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import libcst as cst
from torch import nn

from torchgauge.advise.patch.source.files import Files, SourceFile, statements, users_file
from torchgauge.advise.patch.source.names import called, names_of
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.models.spec import ModelSpec, SpecKind, parse_model_spec
from torchgauge.models.users_code import is_users

_Defined = tuple[SourceFile, cst.BaseExpression, cst.CSTNode | None, type, cst.ClassDef]
_CONTAINERS: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An expression that makes a module."""

    file: SourceFile
    node: cst.BaseExpression
    statement: cst.CSTNode | None
    """The assignment whose whole value it is."""
    names: Mapping[str, Any]
    holder: cst.CSTNode
    """The class, or the function, that it stands in."""

    def call_of(self, kind: type[nn.Module]) -> cst.Call:
        """Return the expression as a call of exactly this class.

        Raises:
            NoPatch: it is something else.
        """
        if called(self.node, self.names) is kind:
            assert isinstance(self.node, cst.Call)
            return self.node
        code = self.file.tree.code_for_node(self.node)
        said = " ".join(code.split())
        raise NoPatch(f"{said[:60]} makes it, not nn.{kind.__name__}(…) itself")


class Sites:
    """The sites of one model."""

    def __init__(self, model: nn.Module, files: Files, spec: str | None) -> None:
        self._model = model
        self.files = files
        self._spec = spec
        self._found: dict[str, Site | NoPatch] = {}
        self._defined: dict[tuple[type, str], _Defined | None] = {}

    def module(self, path: str) -> nn.Module:
        """Return the module at a path."""
        return self._model.get_submodule(path)

    def forget(self) -> None:
        """Look again: the files have changed."""
        self._found = {}
        self._defined = {}

    def of(self, path: str, among: Sequence[str] = ()) -> Site:
        """Return the site of a module.

        Args:
            path: of the module.
            among: what else may be made there, as the same is to be done to all of it.

        Raises:
            NoPatch: the source does not make it literally, or makes others there too.
        """
        site = self._site(path)
        if isinstance(site, NoPatch):
            raise NoPatch(f"{path}: {site}")
        for other, _ in self._model.named_modules(remove_duplicate=False):
            if other in (path, "") or other in among:
                continue
            made = self._site(other)
            if isinstance(made, Site) and made.node is site.node:
                raise NoPatch(f"{path}: the same line makes {other}")
        return site

    def attribute(self, path: str, name: str) -> Site:
        """Return the site of an attribute that holds no module by itself, such as a list.

        Raises:
            NoPatch: the class does not set it in one plain line.
        """
        owner = type(self._model.get_submodule(path))
        defining = self._defining(owner, name)
        if defining is None:
            raise NoPatch(f"{owner.__name__} does not set {name} in one plain line")
        return self._below(*defining, ())

    def named(self) -> tuple[SourceFile | None, str]:
        """Return the file that the spec leads to, and what it takes from there."""
        spec = None if self._spec is None else parse_model_spec(self._spec)
        path = None if spec is None else _file_of(spec)
        if spec is None or path is None or not is_users(path):
            return None, ""
        return self.files.of(path), spec.attribute

    def _site(self, path: str) -> Site | NoPatch:
        if path not in self._found:
            try:
                self._found[path] = self._looked_up(path)
            except NoPatch as why:
                self._found[path] = why
        return self._found[path]

    def _looked_up(self, path: str) -> Site:
        parts = path.split(".")
        for count in range(len(parts) - 1, -1, -1):
            owner = type(self._model.get_submodule(".".join(parts[:count])))
            if owner in _CONTAINERS:
                continue
            key = (owner, parts[count])  # blocks of one class share what is found
            if key not in self._defined:
                self._defined[key] = self._defining(*key)
            defining = self._defined[key]
            if defining is not None:
                return self._below(*defining, parts[count + 1 :])
            if users_file(owner) is None:
                self.files.of_class(owner)  # says why not
            raise NoPatch(f"{owner.__name__} does not set {parts[count]} in one plain line")
        return self._of_function(parts)

    def _defining(self, owner: type, name: str) -> _Defined | None:
        """Return where a class or one that it inherits from makes an attribute."""
        for kind in owner.__mro__:
            if users_file(kind) is None:
                continue
            file = self.files.of_class(kind)
            definition = file.class_of(kind)
            made = list(_assigned(definition, name))
            if name.isdecimal() and issubclass(kind, nn.Sequential):
                made += [(call, None, False) for call in _inherited_call(definition)]
            if len(made) > 1:
                raise NoPatch(f"{kind.__name__} sets {name} in several places")
            for node, statement, repeats in made:
                if repeats:
                    raise NoPatch(f"{kind.__name__} sets {name} in a loop")
                if name.isdecimal() and statement is None:
                    assert isinstance(node, cst.Call)
                    return file, _element(node, name), None, kind, definition
                return file, node, statement, kind, definition
        return None

    def _below(
        self,
        file: SourceFile,
        node: cst.BaseExpression,
        statement: cst.CSTNode | None,
        kind: type,
        definition: cst.ClassDef,
        parts: Sequence[str],
    ) -> Site:
        names = names_of(kind)
        for part in parts:
            node, statement = _inside(node, part, names, file), None
        return Site(file=file, node=node, statement=statement, names=names, holder=definition)

    def _of_function(self, parts: Sequence[str]) -> Site:
        """Return the site in the function, or the variable, that the spec names."""
        file, attribute = self.named()
        if file is None:
            raise NoPatch("no class of yours makes it")
        path = file.path
        found = [
            (node, holder)
            for statement in statements(file.tree)
            for node, holder in _returned(statement, attribute)
        ]
        if len(found) != 1:
            raise NoPatch(f"{attribute} does not return it in one plain line")
        ((node, holder),) = found
        modules = (m for m in list(sys.modules.values()) if getattr(m, "__file__", None))
        names = next((vars(m) for m in modules if Path(str(m.__file__)).resolve() == path), {})
        for part in parts:
            node = _inside(node, part, names, file)
        return Site(file=file, node=node, statement=None, names=names, holder=holder)


# ---------------------------------------------------------------------------- in the source


def _assigned(
    definition: cst.ClassDef, name: str
) -> Iterator[tuple[cst.BaseExpression, cst.CSTNode | None, bool]]:
    """Yield what a class assigns to an attribute of itself, and whether in a loop."""
    for method in statements(definition):
        if isinstance(method, cst.FunctionDef) and method.params.params:
            finder = _Assignments(method.params.params[0].name.value, name)
            method.body.visit(finder)
            yield from finder.found


class _Assignments(cst.CSTVisitor):
    def __init__(self, this: str, name: str) -> None:
        super().__init__()
        self._this, self._name = this, name
        self._loops = 0
        self.found: list[tuple[cst.BaseExpression, cst.CSTNode | None, bool]] = []

    def visit_Assign(self, node: cst.Assign) -> None:
        for target in node.targets:
            if self._is_it(target.target):
                self._add(node.value, node)
            elif isinstance(target.target, cst.Tuple) and isinstance(node.value, cst.Tuple):
                pairs = zip(target.target.elements, node.value.elements, strict=False)
                for element, value in pairs:
                    if self._is_it(element.value):
                        self._add(value.value, None)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        if node.value is not None and self._is_it(node.target):
            self._add(node.value, node)

    def visit_For(self, node: cst.For) -> None:
        self._loops += 1

    def leave_For(self, original_node: cst.For) -> None:
        self._loops -= 1

    def visit_While(self, node: cst.While) -> None:
        self._loops += 1

    def leave_While(self, original_node: cst.While) -> None:
        self._loops -= 1

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        return False

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        return False

    def _is_it(self, target: cst.BaseExpression) -> bool:
        return (
            isinstance(target, cst.Attribute)
            and target.attr.value == self._name
            and isinstance(target.value, cst.Name)
            and target.value.value == self._this
        )

    def _add(self, value: cst.BaseExpression, statement: cst.CSTNode | None) -> None:
        self.found.append((value, statement, self._loops > 0))


def _inherited_call(definition: cst.ClassDef) -> Iterator[cst.Call]:
    """Yield the calls of ``super().__init__``."""
    for method in statements(definition):
        if isinstance(method, cst.FunctionDef) and method.name.value == "__init__":
            for line in statements(method):
                for small in statements(line):
                    call = small.value if isinstance(small, cst.Expr) else None
                    if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute):
                        above = call.func.value
                        is_super = isinstance(above, cst.Call) and isinstance(above.func, cst.Name)
                        if is_super and call.func.attr.value == "__init__":
                            yield call


def _inside(
    node: cst.BaseExpression, part: str, names: Mapping[str, Any], file: SourceFile
) -> cst.BaseExpression:
    """Return the expression of an element of a literal container."""
    kind = called(node, names)
    if kind not in _CONTAINERS:
        said = " ".join(file.tree.code_for_node(node).split())
        raise NoPatch(f"{said[:60]} makes what holds it")
    assert isinstance(node, cst.Call)
    if kind is nn.Sequential and part.isdecimal():
        return _element(node, part)
    held = node.args[0].value if len(node.args) == 1 and not node.args[0].star else None
    if isinstance(held, cst.Call) and len(held.args) == 1:  # OrderedDict([…])
        held = held.args[0].value
    if isinstance(held, (cst.ListComp, cst.GeneratorExp)):
        return held.elt
    if isinstance(held, (cst.List, cst.Tuple)) and part.isdecimal():
        elements = held.elements
        if not any(isinstance(element, cst.StarredElement) for element in elements):
            return elements[int(part)].value
    if isinstance(held, cst.Dict):
        for pair in held.elements:
            if isinstance(pair, cst.DictElement) and _text(pair.key) == part:
                return pair.value
    if isinstance(held, (cst.List, cst.Tuple)):
        for element in held.elements:
            both = element.value.elements if isinstance(element.value, cst.Tuple) else ()
            if len(both) == 2 and _text(both[0].value) == part:
                return both[1].value
    raise NoPatch("its container is filled from a variable or in a loop")


def _element(call: cst.Call, part: str) -> cst.BaseExpression:
    if any(argument.star for argument in call.args):
        raise NoPatch("its container is filled from a variable or in a loop")
    if int(part) >= len(call.args):
        raise NoPatch("its container is filled later")
    return call.args[int(part)].value


def _text(node: cst.BaseExpression) -> str:
    return str(ast.literal_eval(node.value)) if isinstance(node, cst.SimpleString) else ""


def _file_of(spec: ModelSpec) -> Path | None:
    if spec.kind is SpecKind.PYTHON_FILE:
        return Path(spec.target).resolve()
    if spec.kind is SpecKind.PYTHON_MODULE:
        name = getattr(sys.modules.get(spec.target), "__file__", None)
        return None if name is None else Path(name).resolve()
    return None


def _returned(
    statement: cst.CSTNode, name: str
) -> Iterator[tuple[cst.BaseExpression, cst.CSTNode]]:
    """Yield what a function of this name returns, or what a variable of it is."""
    if isinstance(statement, cst.FunctionDef) and statement.name.value == name:
        for line in statements(statement):
            for small in statements(line):
                if isinstance(small, cst.Return) and small.value is not None:
                    yield small.value, statement
    if isinstance(statement, cst.SimpleStatementLine):
        for small in statement.body:
            if isinstance(small, cst.Assign) and len(small.targets) == 1:
                target = small.targets[0].target
                if isinstance(target, cst.Name) and target.value == name:
                    yield small.value, statement
