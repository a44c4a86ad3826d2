"""How oneDNN cuts a bfloat16 product for AMX where the left operand lies in rows.

It goes through the result in strips, down or across, and keeps one operand in the second-level
cache. Source: ``matmul_amx_blocking_params_macro_t`` in oneDNN's
``src/cpu/x64/matmul/amx_blocking_heuristics.cpp`` (3.12), for one thread. Sizes are in elements of
two bytes; results are summed in four.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from torchgauge.estimate.memory.workspaces.operands import up

FIRST_LEVEL = 5 * 48 * 1024 // 6
SECOND_LEVEL = 3 * 2 * 1024 * 1024 // 4
_WAYS = 3 * 16 // 4
_LINE_OF_SETS = 2048 * 64
_PAGE = 4096
_TILE = 16
_BLOCK = 32
"""Columns, and depth, that are stored together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """``[batch, rows, depth] × [batch, depth, columns]``."""

    batch: int
    rows: int
    depth: int
    columns: int
    is_left_transposed: bool
    is_right_transposed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """What one kernel multiplies, and how many of these blocks a chunk has."""

    rows: int
    columns: int
    depth: int
    down: int = 1
    """Blocks of rows in a chunk."""
    across: int = 1
    """Blocks of columns in a chunk."""
    deep: int = 1
    """Blocks of depth in a chunk."""
    pairs: int = 1
    """Pairs of blocks that one kernel sums."""
    group: int = _BLOCK
    """Columns of the right operand that are stored together."""
    left_row: int = 0
    """Elements of a row in the copy of the left operand, 0 without a copy."""
    keeps_partial: bool = False
    """Whether partial results are kept in a buffer."""
    extends_depth: bool = False
    """Whether the last elements of depth are read beyond their end."""
    copies_left_inside: bool = False
    """Whether the kernel copies the left operand itself."""


def best_in_strips(product: Product) -> Blocks:
    """Return the blocks that oneDNN chooses."""
    small = _of_small_sizes(product)
    if small is not None:
        return small
    cut = _Cut(product)
    found = cut.choose()
    assert found is not None  # one direction is always possible for one thread
    if not product.is_right_transposed and not found.is_horizontal:
        for transforms in (False, True):
            other = cut.choose(only_horizontal=True, transforms=transforms)
            if other is not None and cut.is_better(other, found):
                found = other
    return found.blocks


def _of_small_sizes(product: Product) -> Blocks | None:
    """Return the blocks where one size is small (``maybe_small_dims_heuristics``)."""
    rows, depth, columns = product.rows, product.depth, product.columns
    if product.batch > 1:
        return None
    extends = _extends(depth, depth)
    if rows <= _BLOCK and product.is_right_transposed and rows * depth <= SECOND_LEVEL:
        width = min(columns, _BLOCK)
        return Blocks(
            rows=rows, columns=width, depth=depth, across=-(-columns // width),
            extends_depth=extends,
        )  # fmt: skip
    if depth <= _BLOCK:
        strip = min(rows, 2 * _even(rows, _TILE))
        used = columns * (depth + up(depth, _BLOCK) + strip)
        across = -(-used // SECOND_LEVEL)
        return Blocks(
            rows=strip, columns=up(-(-columns // across), _BLOCK), depth=depth,
            down=-(-rows // strip), across=across, extends_depth=extends,
        )  # fmt: skip
    if columns <= _BLOCK:
        strip = _even(rows, 2 * _TILE)
        return Blocks(
            rows=strip, columns=columns, depth=depth, down=-(-rows // strip), extends_depth=extends
        )
    return None


def _even(size: int, most: int) -> int:
    """Return the size of parts that are at most so large and about equal."""
    return -(-size // -(-size // most))


def _extends(depth: int, block: int) -> bool:
    """Return whether the depth does not divide into equal parts of at most 32, in pairs."""

    def fits(size: int) -> bool:
        parts = -(-size // _BLOCK)
        return size % parts == 0 and size // parts % 2 == 0

    tail = depth % block
    return depth % _BLOCK != 0 and not (fits(block) and (not tail or fits(tail)))


@dataclass(frozen=True, slots=True)
class _Strips:
    """One way to cut a product."""

    blocks: Blocks
    is_horizontal: bool
    streams_left: bool
    """Whether the left operand is not kept in the first-level cache."""
    score: float


class _Cut:
    """The ways to cut one product, and what they cost."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.tile = _even(product.rows, _TILE)
        self.strip_rows = min(product.rows, 2 * self.tile)
        self.strip_columns = min(product.columns, _BLOCK)
        self.tile_depth = min(_BLOCK, product.depth)

    def choose(self, *, only_horizontal: bool = False, transforms: bool = False) -> _Strips | None:
        """Return the cut in the direction that suits the sizes, ``None`` where there is none."""
        product = self.product
        block = self._block_depth(self.strip_rows)
        deep, wide = self._best(block, horizontal=True, transforms=transforms)
        vertical_block = self._block_depth(self.strip_columns)
        vertical_deep, tall = self._best(vertical_block, horizontal=False)
        vertical = not only_horizontal and self._may_be_vertical(
            vertical_block, vertical_deep, tall
        )
        if not wide and not vertical:
            return None
        is_tall = product.columns >= 2 * _TILE and product.rows < product.columns
        if not wide or (
            vertical and product.rows >= 2 * self.tile
            and (product.columns < 2 * _TILE or is_tall)
        ):  # fmt: skip
            return self._vertical(vertical_block, vertical_deep, tall)
        return self._horizontal(block, deep, wide, transforms)

    def is_better(self, one: _Strips, other: _Strips) -> bool:
        """Return whether a horizontal cut is preferred to another."""
        product = self.product
        if one.score != other.score:
            return one.score > other.score
        if not other.is_horizontal:
            in_cache = product.rows * (product.depth + product.columns) < SECOND_LEVEL
            return not (in_cache and one.streams_left)
        return one.blocks.down * one.blocks.across > other.blocks.down * other.blocks.across

    # ------------------------------------------------------------------ the two directions

    def _horizontal(self, block: int, deep: int, wide: int, transforms: bool) -> _Strips:
        product, rows = self.product, self.strip_rows
        parts = -(-product.depth // block)
        summed = self.strip_columns * rows * 4
        written = rows * up(2 * self.strip_columns, 64)
        streams = (
            block < product.depth and parts * block * rows * 2 + 2 * summed + written > FIRST_LEVEL
        )
        if streams:
            least = block // _BLOCK
            deep, wide = self._best(_BLOCK, horizontal=True, least=least, transforms=transforms)
            block, deep = min(_BLOCK * deep, product.depth), 1
        columns = min(wide * self.strip_columns, product.columns)
        copies = bool(product.depth % _BLOCK) and columns >= 3 * self.strip_columns and block >= 128
        blocks = Blocks(
            rows=rows, columns=columns, depth=block, deep=deep, down=-(-product.rows // rows),
            keeps_partial=block != product.depth, copies_left_inside=copies,
            extends_depth=_extends(product.depth, block) and not copies,
        )  # fmt: skip
        return _Strips(blocks, True, streams, self._score(blocks, True))

    def _vertical(self, block: int, deep: int, tall: int) -> _Strips:
        product = self.product
        blocks = Blocks(
            rows=min(tall * self.strip_rows, product.rows), columns=self.strip_columns,
            depth=block, deep=deep, across=-(-product.columns // self.strip_columns),
            keeps_partial=block != product.depth, extends_depth=_extends(product.depth, block),
        )  # fmt: skip
        return _Strips(blocks, False, True, self._score(blocks, False))

    def _may_be_vertical(self, block: int, deep: int, tall: int) -> bool:
        product = self.product
        if not tall or -(-product.depth // (block * deep)) != 1:
            return False
        stride = product.columns * 2 % _PAGE or _PAGE
        ways = -(-stride * product.rows // _LINE_OF_SETS)
        return not (_LINE_OF_SETS % stride == 0 and ways >= _WAYS)

    def _block_depth(self, extent: int) -> int:
        """Return the depth of a block whose operand fits the first-level cache."""
        results = self.strip_rows * self.strip_columns * 4
        written = self.strip_rows * up(2 * self.strip_columns, 64)
        room = FIRST_LEVEL - 2 * results - written
        most = room // (extent * 2) // self.tile_depth
        tiles = -(-self.product.depth // self.tile_depth)
        parts = -(-tiles // most)
        return min(-(-tiles // parts) * self.tile_depth, self.product.depth)

    def _best(
        self, block: int, *, horizontal: bool, least: int = 0, transforms: bool = False
    ) -> tuple[int, int]:
        """Return blocks of depth and strips with most multiplications per byte, 0 for none."""
        product = self.product
        size, strip = (
            (product.columns, self.strip_columns) if horizontal
            else (product.rows, self.strip_rows)
        )  # fmt: skip
        best, found = 0.0, (0, 0)
        for strips in _groups(-(-size // strip)):
            for deep in _groups(-(-product.depth // block)):
                score = self._reuse(deep, strips * strip, block, horizontal, transforms)
                if score > best and deep >= least:
                    best, found = score, (deep, strips)
        return found

    # ------------------------------------------------------------------ what a cut costs

    def _reuse(
        self, deep: int, extent: int, block: int, horizontal: bool, transforms: bool
    ) -> float:
        product = self.product
        if self._cached(deep, extent, block, horizontal, transforms) > SECOND_LEVEL:
            return 0
        rows, columns = (self.strip_rows, extent) if horizontal else (extent, self.strip_columns)
        depth = min(block * deep, product.depth)
        other = product.rows if horizontal else product.columns
        with_results = 4 * (other + extent) * depth + 4 * other * extent
        stays = with_results < SECOND_LEVEL or depth == product.depth
        moved = 2 * depth * (rows + columns) + (0 if stays else 4 * rows * columns)
        return rows * depth * columns / moved

    def _cached(
        self, deep: int, extent: int, block: int, horizontal: bool, transforms: bool
    ) -> int:
        """Return the bytes that are to be in the second-level cache (``l2_matrix_usage``)."""
        depth = min(block * deep, self.product.depth)
        strip = self.strip_rows if horizontal else self.strip_columns
        used = 4 * strip * depth + 2 * extent * depth
        if transforms:
            used += 2 * extent * block * deep
        if block == self.product.depth:
            used += 8 * self.strip_rows * self.strip_columns
        else:
            used += 8 * strip * extent
        if horizontal:
            return used + 2 * self.strip_rows * up(2 * extent, 64)
        return used + 2 * up(2 * self.strip_columns, 64) * extent

    def _score(self, blocks: Blocks, is_horizontal: bool) -> float:
        """Return the share of the processor's rate (``calculate_blocking_scores``).

        In single precision as there: ties are decided by it.
        """
        product, narrow = self.product, single
        left, right = (2 * product.depth * size for size in (product.rows, product.columns))
        strip, extent, kept, count, kept_per_strip = (
            (self.strip_rows, product.columns, right, product.rows, blocks.columns)
            if is_horizontal
            else (self.strip_columns, product.rows, left, product.columns, blocks.rows)
        )
        reused = -(-kept_per_strip // (self.strip_columns if is_horizontal else self.strip_rows))
        moved, written = 2 * strip * product.depth, 2 * strip * extent
        work = strip * product.depth * extent // (self.tile * self.tile_depth * _TILE) * self.tile
        near = self._first_level_cycles(blocks, moved, reused, kept)
        if is_horizontal:
            far = narrow(narrow(moved / _MEMORY) + narrow(written / _MEMORY))
            middle = max(far, narrow((written + moved) / _LAST_LEVEL), near, work)
            before = narrow(right / _MEMORY)
            fits = self._cached(blocks.deep, blocks.columns, blocks.depth, True, True)
            first = middle if fits < SECOND_LEVEL else narrow(right / _LAST_LEVEL)
        else:
            far = max(narrow(written / _MEMORY), narrow(written / _LAST_LEVEL), near, work)
            middle = narrow(narrow(moved / _MEMORY) + far)
            before = 0.0
            first = narrow(narrow(left / _MEMORY) + narrow((moved + written) / _MEMORY))
        strips = -(-count // strip)
        cycles = narrow(narrow(before + first) + narrow((strips - 1) * middle))
        total = product.rows * product.depth * product.columns * product.batch
        return narrow(narrow(narrow(total) / 512) / narrow(cycles * product.batch))

    def _first_level_cycles(self, blocks: Blocks, moved: int, reused: int, kept: int) -> float:
        narrow = single
        elements = blocks.rows * blocks.columns
        columns = self.strip_columns
        groups = blocks.rows * -(-blocks.columns // columns)
        missed = groups * up(2 * columns, 64)
        stored = groups * -(-columns // _TILE) * 64
        rate = _LOAD if blocks.depth == self.product.depth else _STORE_MISS
        summed = narrow(4 * elements * blocks.deep / rate)
        results = narrow(narrow(missed / _STORE_MISS) + narrow((stored - missed) / _LOAD))
        results = narrow(narrow(results + narrow(4 * elements / _LOAD)) + summed)
        loads = narrow(narrow(2 * moved / _LOAD_MISS) + narrow(moved * (reused - 1) / _LOAD))
        return narrow(narrow(loads + narrow(kept / _LOAD_MISS)) + results)


def _groups(count: int) -> Iterator[int]:
    """Yield the sizes of equal groups of so many, the largest first."""
    size = count
    while size:
        yield size
        groups = -(-count // size) + 1
        while -(-count // groups) == size and size > 1:
            groups += 1
        size = -(-count // groups) if size > 1 else 0


def single(value: float) -> float:
    """Return a number as it is in single precision."""
    number: float = struct.unpack("f", struct.pack("f", value))[0]
    return number


_LOAD = single(106.41)
"""Bytes per cycle, as oneDNN has them measured (``bw_map_t``)."""
_LOAD_MISS = single(106.41 / 2.28)
_STORE_MISS = single(106.41 / 2.85)
_MEMORY = single(2.28)
_LAST_LEVEL = 6.0
