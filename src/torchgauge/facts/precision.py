"""What a precision means for a model: the dtypes found in it, and how they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Precision
from torchgauge.facts.trace import ParameterInfo, Trace

_SHORT = {
    "float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16",
    "qint8": "int8", "quint8": "uint8",
}  # fmt: skip
_HALVES = ("bfloat16", "float16")


def dtypes_of(source: Report | Trace) -> tuple[str, ...]:
    """Return the dtypes of a model's parameters, the one of most elements first.

    A model without parameters has those of its floating-point buffers.
    """
    infos = [info for module in _modules(source) for info in module if info.shared_with is None]
    return _by_size(info for info in infos if not info.is_buffer) or _by_size(
        info for info in infos if _is_float(info.dtype)
    )


def precision_text(precision: Precision | str, dtypes: Sequence[str]) -> str:
    """Write a precision for people, as built with the dtypes that were found.

    >>> precision_text("as-built", ("bfloat16", "float32")), precision_text("fp16", ("float16",))
    ('as built: bf16 + fp32', 'fp16')
    """
    if precision != Precision.AS_BUILT:
        return str(precision)
    found = " + ".join(dict.fromkeys(map(short_dtype, dtypes)))
    return f"as built: {found}" if found else "as built"


def short_dtype(dtype: str) -> str:
    """Write a dtype as precisions are written.

    >>> short_dtype("bfloat16"), short_dtype("float8_e4m3fn"), short_dtype("int8")
    ('bf16', 'fp8', 'int8')
    """
    return "fp8" if dtype.startswith("float8") else _SHORT.get(dtype, dtype)


def arithmetic_of(precision: Precision | str, dtypes: Sequence[str]) -> str:
    """Return the number format of most arithmetic, such as ``"fp32"`` or ``"bf16"``.

    Weights of one byte are computed with in the format of the other weights, if there are others.

    >>> arithmetic_of("bf16-autocast", ("float32",)), arithmetic_of("as-built", ("bfloat16",))
    ('bf16', 'bf16')
    """
    if precision != Precision.AS_BUILT:
        return str(precision).removesuffix("-autocast")
    wide = [dtype for dtype in dtypes if _is_float(dtype) and not dtype.startswith("float8")]
    found = short_dtype(next(iter((*wide, *dtypes)), "float32"))
    return found if found in ("fp32", "bf16", "fp16", "fp8", "int8") else "fp32"


def is_all_half(precision: Precision | str, dtypes: Sequence[str]) -> bool:
    """Return whether every number of a model is one of 16 bits or fewer."""
    if precision != Precision.AS_BUILT:
        return precision in (Precision.BF16, Precision.FP16)
    wide = [dtype for dtype in dtypes if _is_float(dtype) and not dtype.startswith("float8")]
    return bool(wide) and all(dtype in _HALVES for dtype in wide)


def _modules(source: Report | Trace) -> Iterable[tuple[ParameterInfo, ...]]:
    if isinstance(source, Report):
        return (module.own_parameters for module in source.modules.values())
    return (module.parameters for module in source.modules)


def _by_size(infos: Iterable[ParameterInfo]) -> tuple[str, ...]:
    sizes: Counter[str] = Counter()
    for info in infos:
        sizes[info.dtype] += info.numel
    return tuple(dtype for dtype, _ in sizes.most_common())


def _is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))
