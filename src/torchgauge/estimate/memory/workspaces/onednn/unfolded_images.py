"""Scratch memory of oneDNN's convolutions that unfold images for a product of matrices.

Source: ``init_conf`` in oneDNN 3.12's ``src/cpu/gemm_convolution_utils.cpp``.

Assumes float32, one thread, and images that are not channels-last.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import ALIGNMENT, Convolution
from torchgauge.estimate.memory.workspaces.onednn.strips import single
from torchgauge.estimate.memory.workspaces.operands import FLOAT, up
from torchgauge.estimate.memory.workspaces.platform import Caches

_MOST_BYTES = 1 << 30
_MOST_TIMES = 15
"""Bytes of scratch memory beyond which images are unfolded in parts, in bytes of the operands."""
_VECTOR = 16
_FEWEST_OUTPUTS = 8
_COLUMNS = 48
_FEW_ROWS = 0.05
_ROOT = 1 / 14.5
"""Efficiencies are compared as this power, in single precision: small differences vanish."""


def forward_scratch(case: Convolution, caches: Caches) -> int:
    """Return what the output takes: one image of a group, or blocks that fit the caches."""
    if stays_folded(case):
        return 0
    channels, positions = case.inputs, prod(case.spatial_result)
    if len(case.kernel) < 3:
        channels, positions = _Search(case, caches.second // FLOAT).best()
    return _entry(channels * prod(case.kernel) * positions)


def input_scratch(case: Convolution) -> int:
    """Return what the input's gradient takes."""
    return _in_parts(case, 0, 10)


def weight_scratch(case: Convolution) -> int:
    """Return what the weight's gradient takes.

    The sums of the weight are booked as floats of floats: four times their bytes.
    """
    sums = FLOAT * case.weight.nbytes + ALIGNMENT
    return sums + _in_parts(case, sums, 20)


def _entry(elements: int) -> int:
    return elements * FLOAT + ALIGNMENT


def stays_folded(case: Convolution) -> bool:
    """Return whether the images are matrices as they are: nothing is unfolded."""
    alike = case.result[2:] == case.source.shape[2:]
    return alike and case.is_pointwise and not case.is_strided


def fits(case: Convolution, scratch: int) -> bool:
    """Return whether images whose channels are last are unfolded, as this takes."""
    return scratch <= _most(case)


def _most(case: Convolution) -> int:
    operands = case.source.nbytes + case.weight.nbytes + prod(case.result) * FLOAT
    return min(_MOST_BYTES, _MOST_TIMES * operands)


def _in_parts(case: Convolution, taken: int, part: int) -> int:
    """Return what images take that have that part of the memory left, if they do not fit it."""
    if stays_folded(case):
        return 0
    left = _most(case) - taken
    column, positions = case.inputs * prod(case.kernel), prod(case.spatial_result)
    if left < column * positions * FLOAT:
        positions = max(_VECTOR, left // (FLOAT * column) // part)
    return _entry(column * positions)


def _divided(value: int, divisor: int) -> int:
    """Divide as C does, towards zero."""
    return int(value / divisor)


class _Search:
    """The blocks of channels and positions that promise the fewest accesses to memory."""

    def __init__(self, case: Convolution, cache: int) -> None:
        self._cache = cache
        self._inputs, self._outputs = case.inputs, case.outputs // case.groups
        self._kernel = prod(case.kernel)
        self._step = prod(case.stride)
        self._is_strided_line = case.stride[-1] > 1
        self._image = prod(case.spatial_result)
        self._positions = case.source.shape[0] * case.groups * self._image
        self._efficiency = 0.0
        self._found = (1, 1, case.inputs)

    def best(self) -> tuple[int, int]:
        """Return how many channels and positions are unfolded together."""
        images = self._positions // self._image
        few = self._inputs * self._kernel <= _FEW_ROWS * self._outputs
        tiny = self._positions < _VECTOR and self._image >= images
        if tiny and (self._is_strided_line or not few):
            return self._inputs, self._image
        self._try(self._outputs, self._positions)
        if self._found != (self._outputs, self._positions, self._inputs):
            for outputs, positions in self._starts():
                for pair in _rounded(outputs, positions):
                    self._try(*pair)
        return self._found[2], self._found[1]

    def _starts(self) -> Iterator[tuple[int, int]]:
        column = self._step + self._kernel
        weight, inputs, cache = self._kernel * self._outputs, self._inputs, self._cache
        room = _divided(cache - (column * _VECTOR + weight) * inputs, _VECTOR)
        outputs = max(_FEWEST_OUTPUTS, min(self._outputs, room))
        room = _divided(cache - weight * inputs, column * inputs + outputs)
        yield outputs, max(_VECTOR, min(self._positions, room))
        most = max(1, cache // (2 * _FEWEST_OUTPUTS * column + 2 * weight))
        if most < inputs:
            yield self._of_some_channels(inputs // max(1, inputs // most), column, weight)
        room = _divided(cache - weight * inputs, column * inputs + self._outputs)
        yield self._outputs, max(_VECTOR, _divided(room, _VECTOR) * _VECTOR)

    def _of_some_channels(self, inputs: int, column: int, weight: int) -> tuple[int, int]:
        cache = self._cache
        positions = max(1, _divided(cache - 2 * weight * inputs, 2 * inputs * column))
        outputs = cache // 2 // positions
        if outputs > self._outputs:
            outputs = self._outputs
            room = _divided(cache - weight * inputs, column * inputs + outputs)
            return outputs, max(_VECTOR, min(self._positions, room))
        if positions > self._positions:
            positions = self._positions
            room = _divided(cache - (column * positions + weight) * inputs, positions)
            outputs = max(_FEWEST_OUTPUTS, min(self._outputs, room))
        return outputs, positions

    def _try(self, outputs: int, positions: int) -> None:
        outputs = min(self._outputs, max(_FEWEST_OUTPUTS, outputs))
        most = min(self._image, self._positions)
        positions = min(most, max(_VECTOR, positions))
        together = self._together(outputs, positions)
        costs = 20 if together < 1 else 1
        inputs = max(1, self._inputs // -(-self._inputs // max(1, together)))
        efficiency = self._rate(outputs, positions, inputs, most, costs)
        if efficiency > self._efficiency:
            self._efficiency, self._found = efficiency, (outputs, positions, inputs)

    def _together(self, outputs: int, positions: int) -> int:
        """Return the input channels that fit the cache."""
        row, column = self._step * positions, self._kernel * positions
        weight, block = self._kernel * self._outputs, outputs * positions
        by_parts = _divided(self._cache - block, row + column + weight)
        found = by_parts
        if positions >= self._positions:
            found = self._cache // (row + column)
            if outputs < self._outputs:
                own = column + self._kernel * outputs
                found = min(found, _divided(self._cache - block, own))
        return by_parts if found < self._inputs else found

    def _rate(self, outputs: int, positions: int, inputs: int, most: int, costs: int) -> float:
        depth, kernel_depth = self._inputs * self._kernel, inputs * self._kernel
        rounds = -(-self._inputs // inputs)
        padded = up(positions, _VECTOR)
        writes = self._outputs * up(self._positions, _VECTOR)
        writes *= costs * (1 if inputs == self._inputs else 2 * rounds - 1)
        reads = costs * self._kernel * self._inputs * up(self._positions * self._step, _VECTOR)
        copies = 2 * reads * padded / positions * (8 if self._is_strided_line else 1)
        weights = costs * self._outputs * up(depth, _VECTOR)
        products = self._positions / _VECTOR * self._outputs * depth
        moved = products / (reads + copies + weights + writes)
        share = positions * outputs * kernel_depth / (self._outputs * self._positions * depth)
        inside = positions / _VECTOR * outputs * kernel_depth
        inside /= padded * kernel_depth + outputs * up(kernel_depth, _VECTOR) + outputs * padded
        fill = (
            self._outputs / up(self._outputs, outputs) * most / up(most, positions)
            * self._inputs / up(self._inputs, inputs) * positions / up(positions, _COLUMNS)
        )  # fmt: skip
        return single((fill * moved * share**0.5 * inside) ** _ROOT)


def _rounded(outputs: int, positions: int) -> Iterator[tuple[int, int]]:
    yield outputs, positions
    fewer, more = outputs // _FEWEST_OUTPUTS * _FEWEST_OUTPUTS, up(outputs, _FEWEST_OUTPUTS)
    yield fewer, positions // _COLUMNS * _COLUMNS
    yield more, positions // _COLUMNS * _COLUMNS
    yield more, up(positions, _VECTOR)
    yield more, up(positions, _COLUMNS)
