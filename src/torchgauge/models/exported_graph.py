"""What a serialized program may contain: known operators, plain names, arithmetic on sizes.

A list of what is allowed, since a list of what is forbidden would never be complete.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from typing import Any


class UnsafeProgram(ValueError):
    """The program holds something that is not on the list; the message names it."""


_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_DOTTED = re.compile(r"\w*(\.\w+)*")
_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(\.\w+)?")
_NAMESPACES = frozenset(
    ("aten", "prims", "prim", "higher_order", "quantized_decomposed", "torchvision")
)
_FORBIDDEN_OPERATORS = frozenset(
    ("from_file", "_from_file", "load", "save", "print", "call_torchbind", "with_effects",
     "triton_kernel_wrapper_functional", "triton_kernel_wrapper_mutation", "run_and_save_rng_state")
)  # fmt: skip
"""Of the namespaces above: they read or write files, or call what the program brings along."""
_FUNCTIONS = re.compile(
    r"_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|and_|or_"
    r"|not_|xor|invert|lshift|rshift|abs)"
    r"|torch\._?sym_\w+"
    r"|math\.(ceil|floor|sqrt|trunc|pow|log|log2|exp|sin|cos|tan)"
)
_SIZE_FUNCTIONS = frozenset(
    ("FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt",
     "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv",
     "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt",
     "RoundDecimal", "ToFloat", "Identity", "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
     "And", "Or", "Not", "Piecewise", "floor", "ceiling", "Abs", "Pow",
     "min", "max", "abs",
     # sympy writes itself like this: Mul(Integer(2), Symbol('s0', positive=True, integer=True))
     "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Equality", "Unequality",
     "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan")
)  # fmt: skip
_SYMBOL_FACTS = frozenset(
    ("positive", "negative", "nonnegative", "nonpositive", "integer", "real", "zero", "precision")
)
_TENSOR_FACTS = frozenset(("size", "stride", "storage_offset", "ndim", "numel"))
_CONTAINERS = re.compile(
    r"builtins\.(tuple|list|dict)|collections\.OrderedDict|transformers(\.\w+)+"
)
"""Not ``defaultdict``, whose factory torch imports by the name in the file."""
_DEVICES = frozenset(("cpu", "cuda", "meta", "mps", "xpu"))
_LONGEST_EXPRESSION = 2000
_DEEPEST = 200


def check_program(data: Any) -> None:
    """Check the JSON of an exported program.

    Raises:
        UnsafeProgram: it holds something that is not known to be harmless.
    """
    if not isinstance(data, dict):
        raise UnsafeProgram("its graph is not a JSON object")
    ranges = data.get("range_constraints") or {}
    if not isinstance(ranges, dict):
        raise UnsafeProgram("its size ranges are not a JSON object")
    for text in ranges:
        check_size_expression(text)
    _walk(data, 0)


def check_size_expression(text: Any) -> None:
    """Check an expression of sizes: symbols, numbers, arithmetic and torch's size functions.

    Raises:
        UnsafeProgram: anything else.

    >>> check_size_expression("4*s0 + Max(1, s1//2)")
    >>> check_size_expression("__import__('os')")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    torchgauge.models.exported_graph.UnsafeProgram: the expression ... is not on sizes
    """
    _check_expression(text, _is_symbol, with_tensors=False)


def check_guard(text: Any) -> None:
    """Check the source of a guard: comparisons of sizes, which torch makes code of.

    Raises:
        UnsafeProgram: anything else.

    >>> check_guard("L['x'].size()[0] <= 8")
    """
    _check_expression(text, _is_guard_name, with_tensors=True)


def _is_symbol(name: str) -> bool:
    return re.fullmatch(r"[suzf]+\d+|True|False|oo|int_oo|inf", name) is not None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", text) is not None


def _is_guard_name(name: str) -> bool:
    return name in ("L", "inf", "math") or _is_symbol(name)


def _check_expression(text: Any, is_name: Callable[[str], bool], *, with_tensors: bool) -> None:
    shown = json.dumps(text)[:80] if "'" not in str(text) else f'"{str(text)[:80]}"'
    refusal = UnsafeProgram(f"the expression {shown} is not on sizes")
    if not isinstance(text, str) or len(text) > _LONGEST_EXPRESSION or "\n" in text:
        raise refusal
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise refusal from None
    for node in ast.walk(tree):
        if not _is_arithmetic(node, is_name, with_tensors):
            raise refusal


_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop, ast.expr_context, ast.IfExp, ast.Tuple,
)  # fmt: skip


def _is_arithmetic(node: ast.AST, is_name: Callable[[str], bool], with_tensors: bool) -> bool:
    if isinstance(node, _ARITHMETIC):
        return True
    if isinstance(node, ast.Name):
        return is_name(node.id) or node.id in _SIZE_FUNCTIONS
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return with_tensors or _is_symbol(node.value) or _is_number(node.value)
        return isinstance(node.value, (int, float))
    if isinstance(node, ast.keyword):
        return node.arg in _SYMBOL_FACTS and isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in _SIZE_FUNCTIONS
        return with_tensors and isinstance(node.func, ast.Attribute)
    if isinstance(node, ast.Attribute):
        return with_tensors and (
            node.attr in _TENSOR_FACTS
            or (isinstance(node.value, ast.Name) and node.value.id == "math")
        )
    return with_tensors and isinstance(node, ast.Subscript)


# ---------------------------------------------------------------------------- the graph


def _walk(value: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise UnsafeProgram("its graph is nested too deeply")
    if isinstance(value, list):
        for item in value:
            _walk(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "metadata":  # free text: stack traces and module paths, not evaluated
                continue
            if (check := _CHECKS.get(key)) is not None and item is not None:
                check(item)
            _walk(item, depth + 1)


def _target(text: Any) -> None:
    if isinstance(text, str):
        match = _OPERATOR.fullmatch(text)
        if match is not None and match[1] in _NAMESPACES and match[2] not in _FORBIDDEN_OPERATORS:
            return
        if _FUNCTIONS.fullmatch(text):
            return
    raise UnsafeProgram(f"it calls {str(text)[:80]!r}, which is not among the operators allowed")


def _name(text: Any) -> None:
    if isinstance(text, str) and text and not _IDENTIFIER.fullmatch(text):
        raise UnsafeProgram(f"{text[:80]!r} is not a plain name")


def _path(text: Any) -> None:
    if isinstance(text, str) and not _DOTTED.fullmatch(text):
        raise UnsafeProgram(f"{text[:80]!r} is not the path of a weight")


def _names(value: Any) -> None:
    for text in value if isinstance(value, list) else [value]:
        _name(text)


def _guards(value: Any) -> None:
    for text in value if isinstance(value, list) else [value]:
        check_guard(text)


def _structure(text: Any) -> None:
    """Check ``in_spec`` and ``out_spec``: JSON in a string, containers of Python alone."""

    def check(node: Any) -> None:
        if isinstance(node, dict):
            kind = node.get("type")
            if kind is not None and not _CONTAINERS.fullmatch(str(kind)):
                raise UnsafeProgram(f"it takes or returns {str(kind)[:80]!r}")
            context = node.get("context")
            if isinstance(context, str) and not re.fullmatch(r'null|\[["\w, ]*\]', context):
                raise UnsafeProgram(f"{context[:80]!r} are not plain names")
        for item in node.values() if isinstance(node, dict) else node:
            if isinstance(item, (dict, list)):
                check(item)

    if text == "":
        return
    parsed = json.loads(text) if isinstance(text, str) else None
    if not isinstance(parsed, list):
        raise UnsafeProgram("the structure of its arguments cannot be read")
    check(parsed)


def _device(value: Any) -> None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in _DEVICES:
        raise UnsafeProgram(f"it wants the device {str(kind)[:80]!r}")


def _refused(value: Any) -> None:
    raise UnsafeProgram("it brings an object of its own, not only tensors")


_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "target": _target,
    "as_operator": _target,
    "name": _name,
    "as_name": _name,
    "forward_arg_names": _names,
    "parameter_name": _path,
    "buffer_name": _path,
    "tensor_constant_name": _path,
    "fqn": _path,
    "expr_str": check_size_expression,
    "guards_code": _guards,
    "in_spec": _structure,
    "out_spec": _structure,
    "as_device": _device,
    "as_custom_obj": _refused,
    "custom_obj": _refused,
}
