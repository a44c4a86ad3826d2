"""The patch of ``fold-batchnorm``: a method that folds, called where the model is made ready.

A class is what training builds too, so its constructor must not fold. As in torchvision's
quantizable models the class gets a method, which is called once the weights are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import libcst as cst
from torch import nn

from torchgauge.advise.folding import folding_lines
from torchgauge.advise.patch.source.files import SourceFile, statements, users_file
from torchgauge.advise.patch.source.forwards import forward_of_class
from torchgauge.advise.patch.source.functions import Function
from torchgauge.advise.patch.source.names import names_of, way_to_nn
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Sites
from torchgauge.advise.patch.verify import Finish
from torchgauge.advise.subject import Subject

_NAMES: Final = ("fuse", "fuse_batch_norms")
"""What the method may be called, the first that is free."""


def fold(
    subject: Subject, sites: Sites, where: tuple[str, ...], settings: Mapping[str, Any]
) -> Finish:
    """Give the model's class a method that folds; a function that calls ``eval()`` calls it too.

    Raises:
        NoPatch: no class of the user's holds the layers, or the method has no name left.
    """
    kind = type(subject.model)
    if users_file(kind) is None:
        raise NoPatch("the model is not of a class of yours; paste the lines after its weights "
                      "are loaded")  # fmt: skip
    name = next((name for name in _NAMES if not hasattr(kind, name)), None)
    if name is None:
        raise NoPatch(f"{kind.__name__} has a method fuse already")
    file = sites.files.of_class(kind)
    try:
        lines = folding_lines(
            subject.model,
            dict(zip(where, settings["norms"], strict=True)),
            this="self",
            where=way_to_nn(names_of(kind)),
            width=file.width - 8,
        )
    except ValueError as error:
        raise NoPatch(str(error)) from error
    definition = file.class_of(kind)
    method = _method(name, kind, lines, file, is_annotated=_is_annotated(sites, kind))
    file.edit(definition, lambda node: _with_method(node, method))
    return Finish(method=name, is_called=_call_it(sites, name))


def _is_annotated(sites: Sites, kind: type[nn.Module]) -> bool:
    try:
        return forward_of_class(sites, kind).node.returns is not None
    except NoPatch:
        return False


def _method(
    name: str, kind: type, lines: tuple[str, ...], file: SourceFile, *, is_annotated: bool
) -> cst.BaseStatement:
    returns = f' -> "{kind.__name__}"' if is_annotated else ""
    text = (
        f"def {name}(self){returns}:\n"
        '    """Fold batch norms into the layers before them; for inference, after eval()."""\n'
        + "".join(f"    {line}\n" for line in (*lines, "return self"))
    )
    made = cst.parse_statement(text, config=file.tree.config_for_parsing)
    assert isinstance(made, cst.FunctionDef)
    return made.with_changes(leading_lines=[cst.EmptyLine(indent=False)])


def _with_method(node: cst.CSTNode, method: cst.BaseStatement) -> cst.CSTNode:
    assert isinstance(node, cst.ClassDef)
    body = node.body
    if not isinstance(body, cst.IndentedBlock):
        raise NoPatch(f"the class {node.name.value} is a single line")
    return node.with_changes(body=body.with_changes(body=[*body.body, method]))


def _call_it(sites: Sites, name: str) -> bool:
    """Let the function that the spec names call the method, where it makes the model for inference.

    Returns whether it does: a function without ``eval()`` may be that of training.
    """
    function = Function.of(sites)
    if function is None or function.returned is None:
        return False
    returned = function.returned
    if not (_is_eval(returned) or (isinstance(returned, cst.Name) and _evals(function, returned))):
        return False
    called = cst.Call(cst.Attribute(value=returned, attr=cst.Name(name)))
    function.file.put(returned, called)
    return True


def _is_eval(node: cst.BaseExpression) -> bool:
    method = node.func if isinstance(node, cst.Call) else None
    return isinstance(method, cst.Attribute) and method.attr.value == "eval"


def _evals(function: Function, name: cst.Name) -> bool:
    """Return whether a line of its own puts what is returned into eval mode."""
    for line in statements(function.node):
        for small in statements(line):
            value = getattr(small, "value", None)
            if isinstance(value, cst.Call) and _is_eval(value):
                assert isinstance(value.func, cst.Attribute)
                held = value.func.value
                target = small.targets[0].target if isinstance(small, cst.Assign) else held
                if isinstance(target, cst.Name) and target.value == name.value:
                    return True
    return False
