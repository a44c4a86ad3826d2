"""Scratch memory of oneDNN's products of matrices in half precision: copies of operands in tiles.

Sources, oneDNN 3.12 (PyTorch 2.13): ``init_aux_values`` and ``init_scratchpad`` in
``src/cpu/x64/matmul/brgemm_matmul_utils.cpp``; for bfloat16 ``amx_blocking_heuristics.cpp``, for
float16 ``compute_blocking_heuristic_avx512``.

Assumes: one thread of a server processor with AMX and AVX-512 FP16 (Intel's since 2023: 48 KiB and
2 MiB of cache per core), so that a report is the same on every machine. Others take other blocks.
"""

from __future__ import annotations

from functools import lru_cache

from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import aligned
from torchgauge.estimate.memory.workspaces.onednn.grid import best_on_grid
from torchgauge.estimate.memory.workspaces.onednn.strips import Blocks, Product, best_in_strips
from torchgauge.estimate.memory.workspaces.onednn.tiles import padded_row, result_tiles
from torchgauge.estimate.memory.workspaces.operands import FLOAT, up

_BATCH_ELEMENT = 16 * 40
"""Bytes of the addresses of one pair of blocks."""
_TILE = 1024
_COLUMNS = 64
_ROWS = (32, 256)
_VECTORS = 16
"""Rows of a block of float32 weights that are stored together."""
_DEPTH = 512
_DEEP = 1024
_SMALL = 4096
"""Multiplications from which on PyTorch gives a product to oneDNN (``mkldnn_gemm_min_size`` in
``aten/src/ATen/native/mkldnn/Matmul.cpp``: 16³)."""


@lru_cache(maxsize=4096)
def scratch_bytes(product: Product, dtype: str) -> int:
    """Return what a product in ``bfloat16`` or ``float16`` takes while it runs."""
    if product.batch * product.rows * product.depth * product.columns <= _SMALL:
        return 0
    if dtype == "float16":
        if product.rows == 1 and product.batch == 1 and product.is_right_transposed:
            return 0  # a product with a vector, PyTorch's own (``fp16_gemv_trans``)
        return _vectors(product, width=FLOAT, copies_left=True)
    if product.rows == 1 and product.depth <= 32:
        return _vectors(product, width=2, copies_left=False)
    if product.is_left_transposed or product.rows == 1:
        return _tiled(product, best_on_grid(product))
    return _tiled(product, best_in_strips(product))


def _tiled(product: Product, blocks: Blocks) -> int:
    """Return the scratchpad of AMX: copies of both operands, partial results, tiles."""
    group = blocks.group
    if group > blocks.columns and blocks.columns != product.columns:
        group = up(blocks.columns, 16)
    right = 2 * up(blocks.columns, group) * up(blocks.depth, 32) * blocks.pairs * blocks.deep
    left = 2 * blocks.rows * blocks.left_row * blocks.pairs * blocks.deep * blocks.down
    partial = 0
    if blocks.keeps_partial:
        partial = up(blocks.columns, min(32, blocks.columns)) * blocks.rows * FLOAT
        if blocks.depth * blocks.deep * blocks.pairs < product.depth:
            partial *= blocks.down * blocks.across
    return sum(map(aligned, (
        _BATCH_ELEMENT * blocks.pairs, left, right, partial, _largest_tiles(product, blocks)
    )))  # fmt: skip


def _largest_tiles(product: Product, blocks: Blocks) -> int:
    """Return the bytes of tiles of the largest kernel, among those for the edges."""
    depth_tail = product.depth % blocks.depth if product.depth > blocks.depth else 0
    if not (blocks.extends_depth or blocks.copies_left_inside):
        depth_tail = up(depth_tail, 2)
    sizes = [0]
    for rows in {blocks.rows, product.rows % blocks.rows} - {0}:
        for columns in {blocks.columns, product.columns % blocks.columns} - {0}:
            for depth in {blocks.depth, depth_tail} - {0}:
                size = result_tiles(rows, columns, depth) * _TILE
                if blocks.extends_depth and (depth % 2 or (depth > 32 and depth % 32)):
                    size += _TILE
                if blocks.copies_left_inside:
                    size += 2 * blocks.pairs * rows * up(depth, 32)
                sizes.append(size)
    return max(sizes)


def _vectors(product: Product, *, width: int, copies_left: bool) -> int:
    """Return the scratchpad of AVX-512: ``width`` bytes an element in the copies.

    float16 is computed in float32.
    """
    copies_left = copies_left or product.is_left_transposed
    columns = min(_COLUMNS, product.columns)
    deep = product.depth > _DEEP and not product.is_left_transposed
    depth = min(product.depth, _DEEP if deep else _DEPTH)
    count = -(-product.columns // columns)
    rows, across = _least_imbalance(product, columns, 16 if copies_left else 1)
    group = up(columns, 16) if columns not in (_COLUMNS, product.columns) else _COLUMNS
    right = width * up(columns, group) * up(depth, _VECTORS * FLOAT // width)
    left = width * rows * padded_row(depth, width) if copies_left else 0
    partial = FLOAT * columns * rows * (min(across, count) if depth < product.depth else 1)
    return sum(map(aligned, (_BATCH_ELEMENT, left, right, partial)))


def _least_imbalance(product: Product, columns: int, most_across: int) -> tuple[int, int]:
    """Return the rows of a block and how many blocks lie side by side: the least that is idle."""
    count = -(-product.columns // columns)
    least, most = (min(limit, product.rows) for limit in _ROWS)
    best, found = 2.0, (least, 1)
    for across in range(min(most_across, count), 0, -1):
        idle_columns = (-(-count // across) * across - count) / count
        for rows in range(most, least - 1, -1):
            idle_rows = up(product.rows, rows) % product.rows / product.rows
            if idle_rows + idle_columns < best:
                best, found = idle_rows + idle_columns, (rows, across)
    return found
