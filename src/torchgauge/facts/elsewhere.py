"""What PyTorch, Lightning, Accelerate and others call a precision that has another name here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_MIXED: Final = ("amp", "mixed", "autocast")
_PLAIN: Final[Mapping[str, str]] = {
    "float": "fp32", "float32": "fp32", "single": "fp32", "32": "fp32", "32-true": "fp32",
    "half": "fp16", "float16": "fp16", "16": "fp16", "16-true": "fp16",
    "bfloat16": "bf16", "bf16-true": "bf16",
    "double": "as-built", "float64": "as-built", "fp64": "as-built", "64-true": "as-built",
}  # fmt: skip


def precision_hint(name: str) -> str:
    """Return what a precision is called here, ``""`` where others have no such name.

    >>> precision_hint("bf16-mixed"), precision_hint("amp")
    ('did you mean bf16-autocast?', 'did you mean fp16-autocast or bf16-autocast?')
    >>> precision_hint("torch.float16"), precision_hint("int3")
    ('did you mean fp16?', '')
    """
    said = name.lower().replace("_", "-").removeprefix("torch.")
    if any(word in said for word in _MIXED):
        halves = ["fp16", "bf16"] if "16" not in said else ["bf16" if "bf" in said else "fp16"]
        return f"did you mean {' or '.join(f'{half}-autocast' for half in halves)}?"
    return f"did you mean {_PLAIN[said]}?" if said in _PLAIN else ""
