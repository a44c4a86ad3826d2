"""MACs of ``einsum`` and ``_trilinear``: chains of pairwise contractions.

Source: ``einsum``, ``sumproduct_pair`` and ``_trilinear`` in torch's
``aten/src/ATen/native/Linear.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

from torchgauge.estimate.arguments import Shape, expanded

_Labels: TypeAlias = tuple[str, ...]


def einsum_macs(equation: str, shapes: Sequence[Shape], path: Sequence[int] = ()) -> int:
    """Return the MACs of an einsum.

    Two operands at a time: the first two, or those that ``path`` names by position; the result
    goes to the end. A pair that contracts nothing is an element-wise product and costs no MAC.
    What only one operand has and nothing needs is summed before the product.

    >>> einsum_macs("ij,jk->ik", [(2, 3), (3, 5)])
    30
    """
    operands, output = _parse(equation, shapes)
    sizes = _sizes(operands, shapes)
    order = iter(path)
    macs = 0
    while len(operands) > 1:
        first, second = sorted((next(order, 0), next(order, 1)))
        b, a = operands.pop(second), operands.pop(first)
        needed = set(output).union(*operands)
        shared = set(a) & set(b)
        if shared - needed:
            in_product = shared | (set(a) ^ set(b)) & needed
            macs += prod(sizes[label] for label in in_product)
        operands.append(tuple(label for label in dict.fromkeys(a + b) if label in needed))
    return macs


def _parse(equation: str, shapes: Sequence[Shape]) -> tuple[list[_Labels], _Labels]:
    """Split an equation into labels per operand and of the output; ``...`` becomes numbers."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    dots = [len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True)]
    operands = [
        _labels(term, count if "..." in term else 0)
        for term, count in zip(terms, dots, strict=True)
    ]
    if arrow:
        batch = max((n for term, n in zip(terms, dots, strict=True) if "..." in term), default=0)
        return operands, _labels(right, batch)
    letters = left.replace(",", "").replace(".", "")
    once = tuple(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    ellipsis = {label for labels in operands for label in labels if label.isdigit()}
    return operands, (*ellipsis, *once)


def _labels(term: str, batch: int) -> _Labels:
    """Return a term's labels; broadcast dimensions are numbered from the right."""
    before, _, after = term.partition("...")
    return (*before, *(str(dim) for dim in reversed(range(batch))), *after)


def _sizes(operands: Sequence[_Labels], shapes: Sequence[Shape]) -> dict[str, int]:
    """Return every label's size; a size of 1 broadcasts."""
    sizes: dict[str, int] = {}
    for labels, shape in zip(operands, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = size if sizes.get(label, 1) == 1 else sizes[label]
    return sizes


def trilinear_macs(
    factors: Sequence[Shape], expands: Sequence[Shape], summed: Shape, unroll: int
) -> int:
    """Return the MACs of ``Σ i1 · i2 · i3`` as ``_trilinear`` runs it.

    Each factor is broadcast along its ``expand`` dimensions. The first product sums the dimensions
    that ``i3`` lacks, the second the rest; the ``unroll`` dimension is a loop around both, so both
    pay for its full length.
    """
    i1, i2, i3 = map(expanded, factors, expands)
    loop = max(i1[unroll], i2[unroll], i3[unroll])
    rest = [dim for dim in range(len(i1)) if dim != unroll]
    first = prod(max(i1[dim], i2[dim]) for dim in rest)
    gone = {dim for dim in summed if dim in expands[2]}
    second = prod(i3[dim] if dim in gone else max(i1[dim], i2[dim], i3[dim]) for dim in rest)
    return loop * (first + second)
