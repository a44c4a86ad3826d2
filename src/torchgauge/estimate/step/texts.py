"""Each text once, and tensors as text."""

from __future__ import annotations

from collections.abc import Iterable

from torchgauge.facts.tensors import TensorSpec

_MOST_TENSORS = 6


class Texts:
    """Texts and their numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Return the number of a text, which is added when it is new."""
        return self._numbers.setdefault(text, len(self._numbers))

    def all(self) -> tuple[str, ...]:
        """Return the texts by number."""
        return tuple(self._numbers)


def tensor_text(spec: TensorSpec) -> str:
    """Write a tensor.

    >>> tensor_text(TensorSpec(shape=(1, 3), dtype="float32", device="cpu", nbytes=12))
    '[1, 3] float32'
    """
    return f"[{', '.join(map(str, spec.shape))}] {spec.dtype}"


def tensors_text(specs: Iterable[TensorSpec]) -> str:
    """Write tensors; of long lists the first ones and how many more there are."""
    texts = [tensor_text(spec) for spec in specs]
    if len(texts) > _MOST_TENSORS:
        texts = [*texts[: _MOST_TENSORS - 1], f"{len(texts) - _MOST_TENSORS + 1} more"]
    return ", ".join(texts)
