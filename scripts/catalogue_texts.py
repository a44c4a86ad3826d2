"""Every text of the source that a person reads, as a template for translators.

``{1}`` stands for a value, so a translation can put values in another order. What
`list_messages.py` shows as one message with its hint is here two texts, because the program
translates each by itself. Short labels count too, in the files that make pages and help.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from list_messages import DATA, NO_TEXT, SOURCE, constants

# ---------------------------------------------------------------------------- what is left out

LEFT_OUT = {
    "compat/": "the texts of the tools that it stands for; programs compare them",
    "deploy/contents/": "files of a package: a Dockerfile, a model card, a deployment",
    "deploy/serving/http/": "answers to programs over HTTP",
    "deploy/serving/channel.py": "messages between processes",
    "devices/data": "names and sources of devices",
    "environment/versions.py": "where the versions are from",
    "estimate/compute/formulas/": "names of operators",
    "estimate/time/trace_file.py": "names inside a file for a trace viewer",
    "language/": "this is the translation",
    "render/formats/csv.py": "read by programs",
    "measure/timeline.py": "names inside a file for a trace viewer",
    "trace/kernels/cpu.py": "PyTorch's own errors, word for word: people search for them",
    "trace/kernels/cuda.py": "PyTorch's own errors",
    "trace/kernels/cuda_attention.py": "PyTorch's own errors",
    "trace/operators/": "PyTorch's own errors",
    "trace/shapes/": "PyTorch's own errors",
    "trace/values/readers.py": "PyTorch's own errors",
    "__init__.py": "the error of Python's import",
}
"""Rooms and files without a text to translate, and why."""

_LABELLED = ("render/pages/", "render/tree/", "render/formats/", "environment/page.py", "cli/")
"""Where short texts are labels: titles of columns, headings, names of options' groups."""

NAMES = frozenset(
    """
    all cuda cpu dynamic depth columns expand calibrate command debug run text ascii torchgauge
    msgspec rich compiled numpy transformers triton nvidia-cuda-runtime nvidia-cudnn nvidia-nccl
    severity name problem commands torch Python right left macs params percent elementwise summed
    copies remarks row alternative type work ```sh CC SMs TDP MFU MACs FLOPs float32 float64
    float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8 bool complex64
    complex128 quiet activation peak saved layer ms kJ mJ tops tflops ops flops _reverse
    """.split()
)
"""Words of the labelled files that are names of options, of fields, of dtypes: they stay."""

PATTERNS = frozenset(
    """\
does not require grad
doesn't require gradient
out of memory
maximum recursion depth exceeded
Length of all samples has to be greater than 0
Expected more than 1 value per channel
is only available for these backends
is only available for these backends:
with arguments from the 'CPU' backend
shape '.*' is invalid for input of size
Expected attn_mask dtype to be bool
can't allocate memory
not enough memory
driver/library version mismatch
elements are wrong
static TLS block
not a valid field
does not require grad and does not have a grad_fn
no kernel for meta tensors outside of an analysis
Made from a checkpoint's names.
Record Window End
Iteration Start: PyTorch Profiler
Guard failed
cat stack
cumsum cumprod
3 x 3, 8 to 16 channels
import torch
, model.
an
Name
_set_{1}(self, {2})
{1}ies
;padding-left:{1}em
batch_size
NVIDIA driver
Python tutorial, the module search path
""".splitlines()
) | {"# measured {1}\n{2}", "{1}[[device]]\nname = {2}\nbased_on = {3}\n{4}"}
"""What PyTorch or a system says, which the program looks for; names of cases."""

OF_ARGPARSE = (
    "usage: ", "options", "positional arguments", "show this help message and exit",
    "argument {1}: {2}", "expected one argument", "expected at least one argument",
    "the following arguments are required: {1}", "invalid {1} value: {2}",
    "unrecognized arguments: {1}", "ignored explicit argument {1}",
)  # fmt: skip
"""What Python's argparse says in ``--help`` and in errors."""

_ROLES = {
    "parameter": "parameters", "buffer": "buffers", "gradient": "gradients", "input": "inputs",
    "optimizer state": "optimizer states", "saved activation": "saved activations",
    "temporary": "temporaries", "workspace": "workspaces", "output": "outputs",
    "rounding": "rounding",
}  # fmt: skip
_DAMAGED = "facts/"
"""Where the place in a damaged file stands before what is wrong with it."""
VOCABULARY = (
    "forward", "loss", "backward", "optimizer", "inference", "training", "simulated", "real",
    "{1} checkpointing", "warning", "notice", "{1} error", "{1} errors", "{1} warning",
    "{1} warnings", "{1} notice", "{1} notices", "{1} token", "{1} part", "{1} parts",
    "{1} operator", "{1} operators", "nothing", "outputs and gradients",
    "fragmentation", "CUDA context", "other programs", "compute", "memory", "launch",
    "compute {1}", "memory {1}", "launch {1}", "compute-bound", "memory-bound", "launch-bound",
    "forward and backward", "prefill", "decode", "  try: {1}", "{1} % in {2}", "activations: {1}",
    "parameters: {1}", "time: {1}", "MACs: {1}", "{1} % activations", "Activations", "fits !",
    "fits, fragmented !", "too close to call !", "does not fit !", "datacenter",
    "workstation", "consumer", "laptop", "edge", "other",
    *_ROLES, *_ROLES.values(),
    *(f"{{1}} % {name}" for name in _ROLES.values()),
    *(f"{name} {{1}}" for name in _ROLES.values()),
    *(f"{{1}} {name} {{2}}" for name in _ROLES),
)  # fmt: skip
"""Words that are put together at run time: names of phases, of roles, of parts of memory."""


def source_texts() -> dict[str, list[str]]:
    """Return every template with the files that it stands in, in the order of the files."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith(tuple(LEFT_OUT)) or path.name in DATA:
            continue
        for text in texts_of(path.read_text(encoding="utf-8"), labels=name.startswith(_LABELLED)):
            files = found.setdefault(_with_subject(text) if name.startswith(_DAMAGED) else text, [])
            if name not in files:
                files.append(name)
    for text in VOCABULARY:
        found.setdefault(text, []).append("words put together at run time")
    for text in OF_ARGPARSE:
        found.setdefault(text, []).append("Python's argparse")
    return found


def _with_subject(text: str) -> str:
    """Return what is wrong with a place of a file, after that place.

    >>> _with_subject("is {1}, which is negative")
    '{1} is {2}, which is negative'
    """
    if not re.match(r"(is|do|has|hold|holds|says|goes|cannot be) ", text):
        return text
    return "{1} " + re.sub(r"\{(\d+)\}", lambda match: f"{{{int(match[1]) + 1}}}", text)


def texts_of(source: str, *, labels: bool = False) -> list[str]:
    """Return the templates of a module; with ``labels`` short ones as well.

    >>> texts_of('raise UsageError(f"{a} is no size of {b}", hint="write 3,224")')
    ['{1} is no size of {2}']
    >>> texts_of('fact("Params", f"{a} in all" + (" so far" if b else ""))', labels=True)
    ['Params', '{1} in all{2}', ' so far']
    """
    tree = ast.parse(source)
    reader = _Reader(tree, labels)
    reader.visit(tree)
    return list(dict.fromkeys(reader.found))


class _Reader(ast.NodeVisitor):
    """Collects the texts of one module, outermost first."""

    def __init__(self, tree: ast.Module, labels: bool) -> None:
        self.found: list[str] = []
        self._labels = labels
        self._constants = dict(constants(tree))
        self._silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}

    # ------------------------------------------------------------------------ nothing to read

    def visit_Assert(self, node: ast.Assert) -> None:
        """Skip: a text for developers."""

    def visit_arg(self, node: ast.arg) -> None:
        """Skip annotations."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for child in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(child)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Compare(self, node: ast.Compare) -> None:
        """Skip: what is compared is a name."""

    def visit_match_case(self, node: ast.match_case) -> None:
        for child in node.body:
            self.visit(child)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if not isinstance(node.slice, ast.Constant):
            self.visit(node.slice)

    def visit_Dict(self, node: ast.Dict) -> None:
        for child in node.values:
            self.visit(child)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [ast.unparse(target) for target in node.targets]
        if not any(name in _NAMES_OF_CODE for name in names):
            self.visit(node.value)

    # ------------------------------------------------------------------------ texts

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in NO_TEXT or name in _OF_NAMES or name == "format_count":
            return
        if name == "add_argument":
            self._options(node)
            return
        if name == "format_number_of" and isinstance(node.args[1], ast.Constant):
            noun = node.args[1].value
            self.found += [f"{{1}} {noun}", f"{{1}} {noun}s"]
            self.visit(node.args[0])
            return
        if re.search(r"(Error|Failed|Failure|InDoubt)$", name):
            self._error(node)
            return
        if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Constant):
            self.visit(node.func.value)
        elif isinstance(node.func, ast.Attribute) and name in ("format", "replace", "removesuffix"):
            self.visit(node.func.value)
        for child in node.args:
            self.visit(child)
        for keyword in node.keywords:
            if keyword.arg not in _KEYWORDS_OF_NAMES:
                self.visit(keyword.value)

    def _error(self, node: ast.Call) -> None:
        for child in node.args:
            self._take(child, short=True)
        for keyword in node.keywords:
            if keyword.arg not in _KEYWORDS_OF_NAMES:
                self._take(keyword.value, short=keyword.arg == "hint")

    def _options(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            if keyword.arg == "help":
                self._take(keyword.value, short=True)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and id(node) not in self._silent:
            self._take(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._take(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Add) and any(map(self._is_text, (node.left, node.right))):
            self._take(node)
        else:
            self.generic_visit(node)

    def _is_text(self, node: ast.expr) -> bool:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._is_text(node.left) or self._is_text(node.right)
        return isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        )

    def _take(self, node: ast.expr, *, short: bool = False) -> None:
        """Note a text, then those inside its values."""
        pieces = list(self._pieces(node))
        if any(isinstance(piece, str) for piece in pieces):
            text = template(pieces)
            if self._labels or short:
                is_text = _is_label(text)
            else:
                is_text = _is_sentence(text)
            if is_text:
                self.found.append(text)
        for piece in pieces:
            if not isinstance(piece, (str, ast.Constant)):
                self._inside(piece)

    def _inside(self, node: ast.expr) -> None:
        """Note the texts that stand for a value: ``' so far' if failed else ''``."""
        if isinstance(node, ast.IfExp):
            for child in (node.body, node.orelse):
                self._inside(child)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _is_label(node.value) and id(node) not in self._silent:
                self.found.append(node.value)
        elif isinstance(node, (ast.JoinedStr, ast.BinOp)) and self._is_text(node):
            text = template(list(self._pieces(node)))
            if _is_label(text):
                self.found.append(text)
        else:
            self.visit(node)

    def _pieces(self, node: ast.expr) -> Iterator[str | ast.expr]:
        """Yield literal texts and the values between them."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.split(r"\{[a-z_]+\}", node.value)
            for number, text in enumerate(named):
                if number:
                    yield ast.Constant(value=None)
                if text:
                    yield text
        elif isinstance(node, ast.JoinedStr):
            for part in node.values:
                if isinstance(part, ast.Constant):
                    yield str(part.value)
                elif isinstance(part, ast.FormattedValue):
                    yield from self._value(part.value)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from self._pieces(node.left)
            yield from self._pieces(node.right)
        else:
            yield from self._value(node)

    def _value(self, node: ast.expr) -> Iterator[str | ast.expr]:
        if isinstance(node, ast.Name) and node.id in self._constants:
            yield self._constants[node.id]
        else:
            yield node


def template(pieces: list[str | ast.expr]) -> str:
    """Return a text with numbered fields; values that touch each other are one field.

    >>> template(["peak ", ast.Name("a"), ast.Name("b"), " in ", ast.Name("c")])
    'peak {1} in {2}'
    """
    text, number, in_value = "", 0, False
    for piece in pieces:
        if isinstance(piece, str):
            text += piece.replace("{", "{{").replace("}", "}}")
        elif not in_value:
            number += 1
            text += f"{{{number}}}"
        in_value = not isinstance(piece, str)
    return text


_OF_NAMES = (
    "startswith", "endswith", "removeprefix", "partition", "rpartition", "strip", "lstrip",
    "rstrip", "get", "getattr", "hasattr", "setattr", "pop", "import_module", "require",
    "encode", "decode", "open", "isinstance", "cast", "find", "index", "count", "which",
    "TypeVar", "NewType", "Data", "set_defaults",
)  # fmt: skip
"""Functions whose arguments are names."""
_KEYWORDS_OF_NAMES = (
    "action", "commands", "default", "dest", "encoding", "errors", "instead_of", "kind", "metavar",
    "mode", "name", "nargs", "source", "newline", "raw_name", "type", "usage", "alternative", "field",
)  # fmt: skip
_NAMES_OF_CODE = ("__all__", "_IMPORT", "_SUFFIXES", "FORMATS", "_LAYOUT", "_TREE")


_COMMAND = re.compile(
    r"(\s*torchgauge)?( (summary|fit|measure|package|serve|devices|doctor))?"
    r"(\s+(--[\w-]+|file\.py:Name|3,224,224|http://:))*:?\s*"
)
_NO_SENTENCE = re.compile(
    r"\w\|\w|\n +\S|->|pytorch/pytorch|\bPRs? \d|issues? \d|\.cpp\b|\.so\.|read 2026|CUresult"
    r"|_\w+ _\w+|\) -|[a-z]\d?d? \w+\dd|_backward\b|\[tuple|\* |def __init__|support matrix|Guide|README"
    r"|\w\[[A-Za-z]| \| [A-Za-z]|platform tag|Requires-Dist|Toolkit: https"
    r"|^(docker|podman|apptainer|singularity|uv pip|sudo|pip cache|hf cache|export|resources:|volumes:) |-m pip |-m venv"
)
"""Patterns, lists of operators, and where a fact is from."""


def _is_sentence(text: str) -> bool:
    """Return whether a text outside of pages and help is one: two words, or one and a value."""
    if not _is_label(text) or " " not in text.strip() or _NO_SENTENCE.search(text):
        return False
    words = re.findall(r"(?<![\w./:=-])[A-Za-z][a-z-]+(?![\w/(=]|\.\w|:\w)", text)
    return len(words) >= 2 or (bool(words) and "{1}" in text)


def _is_label(text: str) -> bool:
    words = re.sub(r"\{\d+\}", " ", text)
    if words.strip() in NAMES or text in PATTERNS or _COMMAND.fullmatch(words):
        return False
    if not re.search(r"[A-Za-z]{2}", words) or re.search(r"^<|^\n?:root|^\.\w+$| (class|title)=|\\|;$|</|=\"\w+\">", words):
        return False
    return not re.fullmatch(r"[a-z]+(_[a-z]+)+|[a-z_.:]+\.[A-Za-z_.:]+|--[a-z-]+|\w+/\w+", words)
