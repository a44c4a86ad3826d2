"""How oneDNN cuts a bfloat16 product for AMX where the left operand is transposed, or one row.

It tries all block sizes and takes those whose chunk fills the second-level cache best. Source:
``matmul_amx_blocking_params_micro_t`` in oneDNN's
``src/cpu/x64/matmul/amx_blocking_heuristics.cpp`` (3.12), for one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torchgauge.estimate.memory.workspaces.onednn.strips import SECOND_LEVEL, Blocks, Product
from torchgauge.estimate.memory.workspaces.onednn.tiles import padded_row
from torchgauge.estimate.memory.workspaces.operands import up

_GROUP = 64
_BLOCK = 32
_TILE_ROWS = range(16, 12, -1)
_TILES = (4, 3, 2)
_BIG = 4096


def best_on_grid(product: Product) -> Blocks:
    """Return the blocks that oneDNN chooses, the first of equals."""
    return max(_tried(product), key=lambda blocks: _score(product, blocks))


def _tried(product: Product) -> Iterator[Blocks]:
    columns, rows = min(_GROUP, product.columns), _block_of_rows(product.rows)
    down, across = -(-product.rows // rows), -(-product.columns // columns)
    work = product.batch * down * across
    is_little = work == 1
    least_columns = columns
    if is_little and columns > _BLOCK and not product.is_right_transposed:
        least_columns = _BLOCK
    heights = list(_heights(product.rows, rows, -(-rows // 2) if is_little and rows > 32 else rows))
    for width in range(columns, least_columns - 1, -16):
        for height in heights:
            for wide in range(min(6 if work > 16 else 4, across), 0, -1):
                for tall in range(min(4, down), 0, -1):
                    yield _blocks(product, height, width, tall, wide)


def _block_of_rows(rows: int) -> int:
    """Return rows that divide into tiles that are nearly full."""
    sizes = (side * count for side in _TILE_ROWS for count in _TILES)
    return next((size for size in sizes if rows % size == 0), min(rows, _GROUP))


def _heights(rows: int, block: int, least: int) -> Iterator[int]:
    """Yield the heights to try, in the order in which they are tried."""
    found: dict[int, None] = {}
    height = block
    while height >= max(1, least):
        found[height] = None
        height = -(-height // 2) if height > 1 else 0
    if rows > 16:
        for height in range(min(rows // 16 * 16, _GROUP), up(least, 16) - 1, -16):
            found[height] = None
    yield from reversed(found)


def _blocks(product: Product, rows: int, columns: int, tall: int, wide: int) -> Blocks:
    """Return blocks of that size with the depth that goes with them."""
    copies = product.is_left_transposed
    blocks = Blocks(
        rows=rows, columns=columns, depth=min(up(product.depth, 2), _BLOCK), down=tall,
        across=wide, group=_GROUP,
    )  # fmt: skip
    depth = product.depth
    if depth >= _BLOCK:
        pairs = _pairs(product, replace(blocks, pairs=-(-depth // blocks.depth)))
        whole, tail = blocks.depth * pairs, depth % blocks.depth
        if depth % _BLOCK and whole > _BLOCK and not copies:
            blocks = replace(blocks, depth=min(depth, whole), extends_depth=True)
        elif not tail and depth % whole == 0:
            blocks = replace(blocks, depth=whole)
        elif depth == whole + tail:
            blocks = replace(blocks, depth=whole, pairs=2)
        else:
            blocks = replace(blocks, pairs=pairs)
    if copies or (not blocks.extends_depth and depth % 2):
        blocks = replace(blocks, left_row=padded_row(blocks.depth))
    return replace(blocks, keeps_partial=_keeps_partial(product, blocks))


def _pairs(product: Product, blocks: Blocks) -> int:
    """Return the pairs of blocks that a kernel sums, fewer where a chunk exceeds the cache."""
    count = blocks.pairs
    if product.is_left_transposed:
        blocks = replace(blocks, left_row=padded_row(blocks.depth))
    blocks = replace(blocks, keeps_partial=_keeps_partial(product, blocks))
    size = _chunk_bytes(blocks)
    is_power = product.depth & (product.depth - 1) == 0
    is_strided = not product.is_left_transposed and is_power and product.depth >= _BIG
    if size // SECOND_LEVEL <= (2 if is_strided else 0) or count == 1:
        return count
    fewer = max(count // (size // SECOND_LEVEL), 1)
    more = -(-count // -(-size // SECOND_LEVEL))
    is_even = not (count % fewer == 0 or count % more < count % fewer) or count % more == 0
    return more if is_even else fewer


def _keeps_partial(product: Product, blocks: Blocks) -> bool:
    chunk = blocks.depth * blocks.deep * blocks.pairs
    return product.depth > chunk or product.depth % blocks.depth > 0


def _chunk_bytes(blocks: Blocks) -> int:
    """Return the bytes of a chunk's operands, copies and results."""
    depth = blocks.depth * blocks.deep * blocks.pairs
    rows, columns = blocks.rows * blocks.down, blocks.columns * blocks.across
    operands = 2 * depth * (rows + columns)
    copies = 2 * blocks.left_row * blocks.pairs * rows + 2 * blocks.columns * depth
    return operands + copies + (2 + 4 * blocks.keeps_partial) * rows * columns


def _score(product: Product, blocks: Blocks) -> float:
    """Return how well the cache is used and how often copies are used again."""
    size = _chunk_bytes(blocks)
    cache = 1 - abs(SECOND_LEVEL - size) / max(SECOND_LEVEL, size)
    wanted_rows = min(product.rows, 256)
    wanted_columns = min(product.columns, 256 if blocks.left_row else 64)
    down = min(blocks.rows * blocks.down / wanted_rows, 1)
    across = min(blocks.columns * blocks.across / wanted_columns, 1)
    return (cache + (down + across) / 2) / 2
