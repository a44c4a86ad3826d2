"""Real inputs for a program: the user's own tensors, grown or cut, or noise within the bounds."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from torchgauge.deploy.export.signature import Signature, TensorSignature

_MASKS = ("mask",)


class InputMaker:
    """Make the inputs of a signature for any sizes of its dynamic dimensions.

    Args:
        signature: what is needed.
        example: the tensors that the program was exported with, or the user's; where they have
            real values (``keep``), those are repeated or cut to the sizes wanted.
    """

    def __init__(
        self, signature: Signature, example: tuple[torch.Tensor, ...], *, keep: bool
    ) -> None:
        self._signature = signature
        self._example = example
        self._keep = keep
        self._generator = torch.Generator().manual_seed(0)

    @property
    def example_sizes(self) -> dict[str, int]:
        """Return the sizes of the dynamic dimensions in the example."""
        return {
            want: got
            for tensor, value in zip(self._signature.inputs, self._example, strict=True)
            for want, got in zip(tensor.shape, value.shape, strict=True)
            if isinstance(want, str)
        }

    def __call__(self, sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
        """Return one tensor per input."""
        return tuple(
            self._one(tensor, value, sizes)
            for tensor, value in zip(self._signature.inputs, self._example, strict=True)
        )

    def _one(
        self, tensor: TensorSignature, value: torch.Tensor, sizes: Mapping[str, int]
    ) -> torch.Tensor:
        shape = tuple(
            got if isinstance(want, int) else sizes.get(want, got)
            for want, got in zip(tensor.shape, value.shape, strict=True)
        )
        if self._keep:
            return _resized(value, shape)
        if any(mark in tensor.name for mark in _MASKS):
            return torch.ones(shape, dtype=value.dtype)
        if value.is_floating_point() or value.is_complex():
            dtype = torch.complex64 if value.is_complex() else torch.float32
            return torch.randn(shape, dtype=dtype, generator=self._generator).to(value.dtype)
        if value.dtype is torch.bool:
            return torch.ones(shape, dtype=torch.bool)
        top = 1 if tensor.maximum is None else tensor.maximum + 1
        return torch.randint(0, top, shape, generator=self._generator).to(value.dtype)


def _resized(value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    for dim, size in enumerate(shape):
        if (have := value.shape[dim]) != size:
            repeats = [1] * value.dim()
            repeats[dim] = -(-size // have)
            value = value.repeat(repeats).narrow(dim, 0, size)
    return value.contiguous()
