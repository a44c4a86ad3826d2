"""The exported program beside the model it came from: the same inputs, several batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from torchgauge.deploy.export.signature import Shape, Signature
from torchgauge.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What program and model gave for one choice of sizes."""

    sizes: Mapping[str, int]
    """Of the dynamic dimensions."""
    max_difference: float
    """The largest absolute difference in any output; NaN in one alone counts as infinite."""
    max_relative_difference: float
    """The same in terms of the largest absolute value of that output."""
    output_shapes: tuple[tuple[int, ...], ...] = ()


def compare_outputs(
    program: nn.Module,
    model: nn.Module,
    signature: Signature,
    make: Callable[[Mapping[str, int]], Sequence[torch.Tensor]],
    choices: Sequence[Mapping[str, int]],
) -> tuple[Comparison, ...]:
    """Run both on inputs of every choice of sizes.

    Raises:
        ModelError: the program does not run, or returns other shapes or dtypes.
    """
    done = []
    for sizes in choices:
        tensors = make(sizes)
        with torch.no_grad():
            expected = model(*[tensor.clone() for tensor in tensors])
            try:
                got = program(*[tensor.clone() for tensor in tensors])
            except Exception as error:
                raise ModelError(
                    f"the exported program does not run with {_text(sizes)}: "
                    f"{type(error).__name__}: {str(error).splitlines()[0]}",
                    hint="its code branches on such sizes; export it with the "
                    "sizes that you serve, or make the code the same for all",
                ) from error
        absolute, relative = _difference(signature, got, expected, sizes)
        if relative > _tolerance(expected):
            raise ModelError(
                f"with {_text(sizes)} the exported program gives different results from the model: "
                f"they differ by {absolute:.3g}, {relative:.3g} of the largest value",
                hint="it draws random numbers, or keeps something from call to call: make forward "
                "depend on its inputs alone",
            )
        done.append(
            Comparison(
                sizes=dict(sizes),
                max_difference=absolute,
                max_relative_difference=relative,
                output_shapes=tuple(tuple(tensor.shape) for tensor in got),
            )
        )
    return tuple(done)


def with_observed_shapes(signature: Signature, comparisons: Sequence[Comparison]) -> Signature:
    """Return the signature with its outputs' shapes as they came, where torch.export said others.

    Some kernels have a wrong rule for shapes: that of the LSTM in torch 2.6 has a dimension too
    many in its states.
    """
    outputs = []
    for index, tensor in enumerate(signature.outputs):
        seen = [(item.sizes, item.output_shapes[index]) for item in comparisons]
        if not all(_agrees(tensor.shape, shape, sizes) for sizes, shape in seen):
            tensor = replace(tensor, shape=_observed(seen))
        outputs.append(tensor)
    return replace(signature, outputs=tuple(outputs))


def _agrees(wanted: Shape, shape: tuple[int, ...], sizes: Mapping[str, int]) -> bool:
    return len(wanted) == len(shape) and all(
        got == (want if isinstance(want, int) else sizes.get(want, got))
        for want, got in zip(wanted, shape, strict=True)
    )


def _observed(seen: Sequence[tuple[Mapping[str, int], tuple[int, ...]]]) -> Shape:
    """Return a shape by the sizes in several runs: a name where they follow its size."""
    shape: list[int | str] = []
    for dim in range(len(seen[0][1])):
        values = [sizes_of[dim] for _, sizes_of in seen]
        names = [
            name
            for name in seen[0][0]
            if all(sizes[name] == value for (sizes, _), value in zip(seen, values, strict=True))
        ]
        if len(set(values)) == 1:
            shape.append(values[0])
        else:
            shape.append(names[0] if names else f"dim{dim}")
    return tuple(shape)


def size_choices(signature: Signature, example: Mapping[str, int]) -> list[dict[str, int]]:
    """Return sizes to try, within their ranges: those of the example, one of all, and others."""
    names = list(signature.dimensions)
    if not names:
        return [{}]
    example = {name: signature.dimensions[name].nearest(example[name]) for name in names}
    wanted = [
        dict(example),
        {name: 1 for name in names},
        {name: 3 if name == "batch" else example[name] + 3 for name in names},
        {name: 8 if name == "batch" else max(example[name] // 2, 2) for name in names},
    ]
    allowed = [
        {name: signature.dimensions[name].nearest(size) for name, size in choice.items()}
        for choice in wanted
    ]
    return [choice for index, choice in enumerate(allowed) if choice not in allowed[:index]]


def _difference(
    signature: Signature,
    got: Sequence[torch.Tensor],
    expected: Sequence[torch.Tensor],
    sizes: Mapping[str, int],
) -> tuple[float, float]:
    absolute = relative = 0.0
    for tensor, ours, theirs in zip(signature.outputs, got, expected, strict=True):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise ModelError(
                f"with {_text(sizes)} the exported program returns {tensor.name} as "
                f"{list(ours.shape)} {ours.dtype}, the model {list(theirs.shape)} {theirs.dtype}",
                hint="export it with the sizes that you serve",
            )
        if ours.numel() == 0:
            continue
        wide = torch.complex128 if ours.is_complex() else torch.float64
        difference = (ours.to(wide) - theirs.to(wide)).abs()
        both = ours.isnan() & theirs.isnan() | (ours == theirs)
        difference = torch.where(both, torch.zeros_like(difference), difference)
        largest = float(difference.nan_to_num(nan=float("inf")).max())
        scale = float(theirs.to(wide).abs().nan_to_num(nan=0.0, posinf=0.0).max())
        absolute = max(absolute, largest)
        relative = max(relative, largest / scale if scale else largest)
    return absolute, relative


def _tolerance(outputs: Sequence[torch.Tensor]) -> float:
    """Return how far results may be apart: some hundred roundings of the coarsest output dtype.

    torch.export keeps the operators, so the same kernels run; what is left is their scheduling.
    """
    steps = [torch.finfo(t.dtype).eps for t in outputs if t.is_floating_point()]
    return 512 * max(steps, default=0.0)


def _text(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in sizes.items()) or "these inputs"
