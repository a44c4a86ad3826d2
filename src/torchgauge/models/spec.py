"""Read a model spec and lead it to the source that can build the model.

==================================  ========================================================
``file.py:Name``                    a class, a function that returns a model, or a model
``file.py:Name(width=2)``           with arguments: Python literals, never evaluated as code
``package.module:callable``         the same by import path, from the current directory too
``torchvision:resnet50``            any name that ``torchvision.models.get_model`` takes
``timm:vit_base_patch16_224``       any name that ``timm.create_model`` takes
``hf:PATH/config.json``             a transformers (or diffusers) configuration, or its folder
``hf:llama``                        the configuration class of a transformers model type
``FILE.safetensors``                the header alone is read; also ``….safetensors.index.json``
``FILE.pt``, ``.pth``, ``.bin``     a state dict; pickled code is never run
``FILE.pt2``                        an exported program
==================================  ========================================================
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from torchgauge.errors import ModelSpecError
from torchgauge.models.build import ModelBuild, building
from torchgauge.models.suggest import nearest


class SpecKind(StrEnum):
    """Where a model comes from."""

    PYTHON_FILE = "python_file"
    PYTHON_MODULE = "python_module"
    TORCHVISION = "torchvision"
    TIMM = "timm"
    HUGGING_FACE = "hf"
    SAFETENSORS = "safetensors"
    """One file, or the index of several."""
    CHECKPOINT = "checkpoint"
    """What ``torch.save`` wrote, or the index of several such files."""
    EXPORTED = "exported"


_SOURCES = {
    SpecKind.PYTHON_FILE: "sources.python_source",
    SpecKind.PYTHON_MODULE: "sources.python_source",
    SpecKind.TORCHVISION: "sources.torchvision_source",
    SpecKind.TIMM: "sources.timm_source",
    SpecKind.HUGGING_FACE: "huggingface.source",
    SpecKind.SAFETENSORS: "sources.safetensors_source",
    SpecKind.CHECKPOINT: "sources.checkpoint_source",
    SpecKind.EXPORTED: "sources.exported_source",
}
"""The module below ``torchgauge.models`` that builds each kind."""

_PREFIXES = {kind.value: kind for kind in (
    SpecKind.TORCHVISION, SpecKind.TIMM, SpecKind.HUGGING_FACE,
)}  # fmt: skip
_SUFFIXES = {
    ".safetensors": SpecKind.SAFETENSORS,
    ".safetensors.index.json": SpecKind.SAFETENSORS,
    ".bin.index.json": SpecKind.CHECKPOINT,
    ".pt": SpecKind.CHECKPOINT,
    ".pth": SpecKind.CHECKPOINT,
    ".bin": SpecKind.CHECKPOINT,
    ".ckpt": SpecKind.CHECKPOINT,
    ".pt2": SpecKind.EXPORTED,
}
_FILES = (SpecKind.SAFETENSORS, SpecKind.CHECKPOINT, SpecKind.EXPORTED)

_FORMS = "file.py:Name, package.module:callable, torchvision:NAME, timm:NAME or hf:NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model spec taken apart."""

    text: str
    kind: SpecKind
    target: str
    """The file, the dotted module, or the name within the library."""
    attribute: str = ""
    """For Python sources: what to take from the file or module."""
    positional: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_arguments(self) -> bool:
        """Return whether any argument is passed to the model's constructor."""
        return bool(self.positional or self.keywords)

    @property
    def without_arguments(self) -> str:
        """Return the spec as text without its arguments."""
        is_python = self.kind in (SpecKind.PYTHON_FILE, SpecKind.PYTHON_MODULE)
        prefix = "" if is_python or self.kind in _FILES else f"{self.kind}:"
        return f"{prefix}{self.target}{f':{self.attribute}' if self.attribute else ''}"


def parse_model_spec(text: str, settings: Mapping[str, Any] | None = None) -> ModelSpec:
    """Take a model spec apart; ``settings`` are the ``--set`` arguments. Touches no model.

    Raises:
        ModelSpecError: the text has none of the known forms, or an argument is no literal.

    >>> parse_model_spec("package.net:Net(width=2)").keywords
    {'width': 2}
    """
    kind, target, attribute = _split(text.strip())
    positional: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    if kind not in _FILES:
        called = attribute or target
        if match := re.fullmatch(r"([^()]*)\((.*)\)", called, re.DOTALL):
            positional, keywords = _literal_arguments(text, match[2])
            called = match[1].strip()
        if attribute:
            attribute = called
        else:
            target = called
    for key in settings or {}:
        if key in keywords:
            raise ModelSpecError(
                f"{key} is given twice, in the model spec and with --set", hint="keep one of them"
            )
    spec = ModelSpec(
        text=text.strip(),
        kind=kind,
        target=target,
        attribute=attribute,
        positional=positional,
        keywords={**keywords, **(settings or {})},
    )
    _check(spec)
    return spec


def build_model(spec: ModelSpec, *, with_weights: bool = False) -> ModelBuild:
    """Build the model that ``spec`` names, without memory for its weights unless asked for.

    Raises:
        ModelSpecError: it leads to no model; the message says why and what to do.
        MissingExtraError: the library that it comes from is not installed.
    """
    source = importlib.import_module(f"torchgauge.models.{_SOURCES[spec.kind]}")
    with building(with_weights=with_weights):
        build: ModelBuild = source.build(spec)
    return build


# ---------------------------------------------------------------------------- taking apart


def _split(text: str) -> tuple[SpecKind, str, str]:
    prefix, colon, rest = text.partition(":")
    if colon and prefix in _PREFIXES:
        return _PREFIXES[prefix], rest.strip(), ""
    if match := re.fullmatch(r"(.+?\.py):(.*)", text, re.DOTALL):
        return SpecKind.PYTHON_FILE, match[1], match[2].strip()
    for suffix, kind in _SUFFIXES.items():
        if text.lower().endswith(suffix):
            return kind, text, ""
    if match := re.fullmatch(r"(\w+(?:\.\w+)*):([^:/\\].*)", text, re.DOTALL):
        return SpecKind.PYTHON_MODULE, match[1], match[2].strip()
    raise ModelSpecError(f"{text!r} is not a model spec", hint=_form_hint(text))


def _form_hint(text: str) -> str:
    path = Path(text)
    if text.endswith(".py"):
        names = top_level_names(path)
        named = f": {', '.join(names[:8])}" if names else ""
        return f"name the class or function in it, as in {text}:{names[0] if names else 'Name'}" + (
            named and f" (it has{named[1:]})"
        )
    if path.name == "config.json" or (path / "config.json").is_file():
        return f"hf:{text}"
    if path.is_dir():
        return f"{text} is a folder; name a file in it, as in {path / 'model.safetensors'}"
    if path.suffix == ".onnx":
        return "ONNX files are not read; name the PyTorch model, as in file.py:Name"
    if re.fullmatch(r"[A-Za-z_]\w*", text):
        return f"torchvision:{text}, timm:{text}, hf:{text} or file.py:{text}"
    return f"write {_FORMS}, or a .safetensors, .pt or .pt2 file"


def top_level_names(path: Path) -> list[str]:
    """Return the classes and functions of a Python file, without importing it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [name for name in classes + functions if not name.startswith("_")]


def _literal_arguments(spec: str, source: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        call = ast.parse(f"f({source})", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        call = None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ModelSpecError(
            f"the arguments in {spec!r} are not Python", hint="write them as in Name(width=2)"
        )
    positional = tuple(_literal(spec, node) for node in call.args)
    keywords = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ModelSpecError(
                f"** in {spec!r} is not understood", hint="write each argument as name=value"
            )
        keywords[keyword.arg] = _literal(spec, keyword.value)
    return positional, keywords


def _literal(spec: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise ModelSpecError(
            f"{ast.unparse(node)!r} in {spec!r} is not a literal",
            hint="only numbers, strings, tuples, lists, dicts, True, False and None are passed on; "
            "for anything else write a function in a file and name that: file.py:make_model",
        ) from None


# ---------------------------------------------------------------------------- checks


def _check(spec: ModelSpec) -> None:
    if not spec.target:
        raise ModelSpecError(f"{spec.text!r} names no model", hint=f"write {spec.kind}:NAME")
    if spec.kind is SpecKind.PYTHON_FILE:
        _check_exists(spec)
        if not spec.attribute:
            raise ModelSpecError(f"{spec.text!r} names no model", hint=_form_hint(spec.target))
    if spec.attribute and not all(part.isidentifier() for part in spec.attribute.split(".")):
        raise ModelSpecError(
            f"{spec.attribute!r} is not the name of a class, function or model",
            hint=f"write {_FORMS}",
        )
    if spec.kind in _FILES:
        _check_exists(spec)
        if spec.has_arguments:
            raise ModelSpecError(
                f"--set has no meaning for {spec.text}: the file holds a finished model",
                hint="leave it out, or name the class: file.py:Name",
            )


def _check_exists(spec: ModelSpec) -> None:
    path = Path(spec.target)
    if path.is_file():
        return
    if path.is_dir():
        raise ModelSpecError(f"{spec.target} is a folder", hint="name a file in it")
    raise ModelSpecError(f"there is no file {spec.target}", hint=_missing_file_hint(path))


def _missing_file_hint(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either; check the path"
    here = [entry.stem for entry in path.parent.iterdir() if entry.suffix == path.suffix]
    if found := nearest(path.stem, here):
        return f"did you mean {path.parent / (found[0] + path.suffix)}?"
    return f"check the path; the current directory is {Path.cwd()}"
