"""How many tiles of AMX registers oneDNN's kernel of a matrix block keeps: its results' scratch.

Source: ``brgemm_blocking_tmm`` in oneDNN's ``src/cpu/x64/brgemm/brgemm_utils.cpp`` (3.12), for
kernels that are unrolled. A tile holds 16 rows of 64 bytes.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.operands import up

_SIDE = 16
_CACHE = 48 * 1024
"""Bytes of the first-level cache of Intel's server cores since 2021."""
_FEW_ROWS = 8
_GOOD_ROWS = 12
_WIDE = 32
_WIDEST_TAIL = 64


def result_tiles(rows: int, columns: int, depth: int) -> int:
    """Return the tiles that hold results at a time, for a block ``rows × depth × columns``."""
    if columns > _WIDEST_TAIL - _SIDE and columns % _SIDE:
        columns = _WIDEST_TAIL  # measured: the tail is not a block of its own
    high, across, side, whole = _square(rows, columns)
    is_ragged_down = not (side > _GOOD_ROWS and rows % side == 0)
    is_ragged_across = columns % _SIDE != 0
    if not (is_ragged_down or is_ragged_across):
        high, across = _long(rows, columns, 2 * depth) or (high, across)
    ragged_rows = (side < _FEW_ROWS or not whole) and is_ragged_down and not is_ragged_across
    ragged_columns = is_ragged_across and not is_ragged_down
    wide, tall = up(columns, _SIDE), up(rows, _SIDE)
    if ragged_columns and wide in (64, 48, 32):
        return 4 if wide != 48 else 3
    if rows <= _SIDE:
        limit = 5 if not is_ragged_across else 3 if wide // _SIDE > 4 else 4
        return min(limit, wide // _SIDE)
    if ragged_rows and rows > 64:
        return 2
    if ragged_rows and tall in (64, 48):
        return tall // _SIDE
    if ragged_rows and tall == 32 and columns % 32 == 0:
        return 4
    if columns <= _SIDE:
        limit = 5 if rows % _SIDE == 0 else 3 if tall // _SIDE > 4 else 4
        return min(limit, tall // _SIDE)
    if is_ragged_down and is_ragged_across and tall == wide == 32:
        return 4
    return high * across


def padded_row(depth: int, width: int = 2) -> int:
    """Return the elements of a copied row: whole cache lines, no conflicts between rows."""
    line = 64 // width
    row = up(depth, line)
    return row + line if row >= 512 and row & (row - 1) == 0 else row


def _square(rows: int, columns: int) -> tuple[int, int, int, bool]:
    """Return tiles down and across, the rows of a tile, and whether these divide the rows."""
    side = max(size for size in range(1, _SIDE + 1) if rows % size == 0)
    if side == 1:
        side = max(range(min(_SIDE, rows), 0, -1), key=lambda size: rows % size or rows)
    blocks = rows // side
    high = 2 if blocks >= 2 else 1
    across = _across(columns, high)
    if across == 1 and columns % _SIDE == 0:
        high = min(3, max(1, blocks))
    if across == 1 or high == 1 or side < _FEW_ROWS:
        for steps in (3, 2):
            if (steps - 1) * _SIDE < rows < steps * _SIDE and columns % _SIDE == 0:
                return steps, _across(columns, steps), _SIDE, rows % _SIDE == 0
    return high, across, side, rows % side == 0


def _across(columns: int, high: int) -> int:
    blocks = columns // _SIDE
    if columns % _SIDE or not blocks:
        return 1
    if high == 1 and blocks % 3 == 0:
        return 3
    return 2 if blocks % 2 == 0 and high < 3 else 1


def _long(rows: int, columns: int, depth_bytes: int) -> tuple[int, int] | None:
    """Return tiles in one row or column, where operands of that depth fit the cache so."""
    if depth_bytes < (_CACHE - 4 * 1024) // (6 * _SIDE):
        return None
    fits_five = depth_bytes < (_CACHE - 5 * 1024) // (5 * _SIDE)
    fits_four = depth_bytes < (_CACHE - 4 * 1024) // (4 * _SIDE)
    for size, count, extent, fits in (
        (columns, 5, rows, fits_five), (columns, 4, rows, fits_four),
        (rows, 5, columns, fits_five), (rows, 4, columns, fits_four),
    ):  # fmt: skip
        if size % (count * _SIDE) == 0 and fits and extent > _WIDE:
            return 1, count
    return None
