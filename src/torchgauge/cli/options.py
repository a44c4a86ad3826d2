"""The options that commands share, and the readers of their values. No torch in here."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torchgauge.errors import UsageError
from torchgauge.models.suggest import did_you_mean
from torchgauge.request import Inputs
from torchgauge.units import parse_bytes

Size = tuple[int, ...]

DTYPES = (
    "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2",
    "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128",
)  # fmt: skip
_DTYPE_ALIASES = {
    "float": "float32", "double": "float64", "half": "float16", "fp32": "float32",
    "fp16": "float16", "bf16": "bfloat16", "long": "int64", "int": "int32",
}  # fmt: skip


def add_model_options(
    parser: argparse.ArgumentParser, *, is_optional: bool = False, are_several: bool = False
) -> None:
    """Declare the model, or several of them, the arguments and the inputs."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="+" if are_several else "?" if is_optional else None,
        help="file.py:Name, file.py:Name(width=2), package.module:callable, torchvision:resnet50, "
        "timm:NAME, hf:PATH/config.json, hf:llama, or a .safetensors, .pt or .pt2 file",
    )
    group = parser.add_argument_group("model and inputs")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        type=setting,
        help="an argument of the model, a Python literal; repeatable",
    )
    group.add_argument(
        "--input-size",
        action="append",
        metavar="[NAME=]SIZE",
        type=input_size,
        help="such as 3,224,224, one per input; name=1,128 for a keyword argument",
    )
    group.add_argument(
        "--dtype",
        action="append",
        metavar="DTYPE",
        type=dtype,
        help="dtype of an input; one per input, in order",
    )
    group.add_argument(
        "--batch-size", metavar="N", type=positive_integer, help="the sizes have no batch; add one"
    )
    group.add_argument(
        "--batch-dim", metavar="DIM", type=int, help="where the batch dimension stands"
    )


def add_real_run_option(parser: argparse.ArgumentParser) -> None:
    """Declare the option that rules out real runs."""
    parser.add_argument(
        "--no-real-run",
        dest="real_run",
        action="store_false",
        help="fail where a simulated run is not enough, instead of running the model for real",
    )


# ---------------------------------------------------------------------------- inputs


def inputs_from(arguments: argparse.Namespace) -> Inputs:
    """Gather the input options.

    Raises:
        UsageError: named and unnamed sizes mixed, a name twice, more dtypes than sizes.
    """
    given: list[tuple[str | None, Size]] = arguments.input_size or []
    dtypes = tuple(arguments.dtype or ())
    if given and len(dtypes) > len(given):
        raise UsageError(
            f"{len(dtypes)} --dtype for {len(given)} --input-size", hint="give one per input"
        )
    return Inputs(
        size=_sizes(given),
        dtypes=list(dtypes) or None,
        batch_size=arguments.batch_size,
        batch_dim=arguments.batch_dim,
    )


def _sizes(given: list[tuple[str | None, Size]]) -> Size | list[Size] | dict[str, Size] | None:
    if not given:
        return None
    names = [name for name, _ in given if name is not None]
    if not names:
        sizes = [size for _, size in given]
        return sizes[0] if len(sizes) == 1 else sizes
    if len(names) != len(given):
        raise UsageError(
            "some --input-size have a name and some have none",
            hint="name each input (name=1,128) or none of them",
        )
    by_name = {name: size for name, size in given if name is not None}
    if len(by_name) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"--input-size {twice}=… was given twice", hint="keep one of them")
    return by_name


# ---------------------------------------------------------------------------- values


class OneOf:
    """A reader that accepts ``names`` only and offers the nearest for any other.

    ``hint`` says what to write instead of a name that others use, ``""`` if they use none.
    """

    def __init__(self, names: Iterable[str], *, hint: Callable[[str], str] = lambda _: "") -> None:
        self.names = tuple(str(name) for name in names)
        self.hint = hint

    def __call__(self, text: str) -> str:
        """Return the name.

        Raises:
            argparse.ArgumentTypeError: it is none of them.
        """
        if text in self.names:
            return text
        hint = self.hint(text) or did_you_mean(
            text, self.names, otherwise="one of " + ", ".join(self.names)
        )
        raise argparse.ArgumentTypeError(f"unknown name {text!r}; {hint}")


def one_of(names: Iterable[str]) -> OneOf:
    """Return a reader that accepts ``names`` only; shells complete them too."""
    return OneOf(names)


def positive_integer(text: str) -> int:
    """Read an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def number_of(unit: str, *, may_be_zero: bool = True) -> Callable[[str], float]:
    """Return a reader of a finite number, of 0 or more, of ``unit``.

    >>> number_of("seconds")("2.5")
    2.5
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf") or not (value or may_be_zero):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {unit}")
        return value

    return read


def port(text: str) -> int:
    """Read the number of a port; 0 takes a free one."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; 0 takes a free one")
    return int(text)


def add_page_options(group: argparse._ArgumentGroup) -> None:
    """Declare where a page is served and whether it is opened."""
    group.add_argument(
        "--port", type=port, default=0, metavar="N",
        help="port on 127.0.0.1, reachable from this machine only (default: a free one)",
    )  # fmt: skip
    group.add_argument(
        "--open", action=argparse.BooleanOptionalAction,
        help="open the browser (default: where there is a terminal and a screen)",
    )  # fmt: skip


def memory_size(text: str) -> int:
    """Read a number of bytes such as ``8GiB``."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def input_size(text: str) -> tuple[str | None, Size]:
    """Read ``3,224,224`` or ``name=1,128``.

    >>> input_size("3,224,224")
    (None, (3, 224, 224))
    >>> input_size("input_ids=1,128")
    ('input_ids', (1, 128))
    """
    name, separator, sizes = text.rpartition("=")
    parts = [part.strip() for part in sizes.strip().strip("()[]").split(",")]
    if parts[-1] == "" and len(parts) > 1:  # (10,) as Python writes it
        parts.pop()
    if any(re.fullmatch(r"-[0-9]+", part) for part in parts):
        rest = ",".join(part for part in parts if not part.startswith("-"))
        raise argparse.ArgumentTypeError(
            f"{text!r} has a negative dimension; give the size of the batch, or leave it out "
            f"({rest})"
        )
    if not all(re.fullmatch(r"[0-9]+", part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 3,224,224 or name=1,128")
    if separator and not name.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"{name!r} is not the name of an argument")
    size = tuple(int(part) for part in parts)
    if 0 in size:
        raise argparse.ArgumentTypeError(f"{text!r} has a dimension of 0; use 1 or more")
    return (name.strip() if separator else None), size


def dtype(text: str) -> str:
    """Read the name of a torch dtype; ``torch.`` before it and common aliases are understood.

    >>> dtype("torch.long")
    'int64'
    """
    name = text.removeprefix("torch.").lower()
    return one_of(DTYPES)(_DTYPE_ALIASES.get(name, name))


def setting(text: str) -> tuple[str, Any]:
    """Read ``key=value``, where the value is a Python literal or a plain word.

    >>> setting("width=2"), setting("activation=gelu")
    (('width', 2), ('activation', 'gelu'))
    """
    key, separator, value = text.partition("=")
    key = key.strip()
    if not separator or not all(part.isidentifier() for part in key.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE; write width=2")
    value = value.strip()
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    python = {"true": "True", "false": "False", "none": "None", "null": "None"}.get(value.lower())
    if python is not None:
        raise argparse.ArgumentTypeError(f"{text!r}: Python writes {python}")
    if not re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        raise argparse.ArgumentTypeError(
            f"{text!r}: {value!r} is not a Python literal; write width=2, name='x' or sizes=[1,2]"
        )
    return key, value


def settings_from(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Return the ``--set`` options as a dict.

    Raises:
        UsageError: one key with two values.
    """
    settings: dict[str, Any] = {}
    for key, value in arguments.set:
        if key in settings:
            raise UsageError(f"--set {key}=… was given twice", hint="keep one of them")
        settings[key] = value
    return settings
