"""Dense factorizations and solvers: the leading term of the textbook count.

``flops`` there counts additions and multiplications one by one, so nothing is doubled here.
Source: Golub & Van Loan, Matrix Computations, 4th edition, sections given per formula; "LAWN 41" is
LAPACK Working Note 41 (Blackford and Dongarra), appendix C. Iterations are those that the textbook
expects. ``matrix_exp`` has no count: the norm of the matrix decides how many products it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from torchgauge.estimate.arguments import Shape, argument, output_shape, shape
from torchgauge.estimate.compute.registry import (
    DependsOnValuesError,
    FlopFormula,
    register_flop_formula,
    register_table,
)
from torchgauge.facts.trace import OpRecord


def _batch(matrix: Shape) -> int:
    return prod(matrix[:-2])


def _columns(right_side: Shape, matrix: Shape) -> int:
    """Return the number of right-hand sides; one where the batch holds vectors."""
    return right_side[-1] if len(right_side) >= len(matrix) else 1


def _factorization(row: Mapping[str, str]) -> FlopFormula:
    """Return the formula of ``[…, m, n]`` as a row of the table says, with ``n`` the smaller."""
    of_mn2, of_n3 = int(row["mn2"]), int(row["n3"])

    def formula(op: OpRecord) -> int:
        a = shape(op, 0)
        n, m = sorted(a[-2:])
        return _batch(a) * (of_mn2 * m * n**2 + of_n3 * n**3) // 3

    return formula


register_table(__file__, _factorization)
householder = _factorization({"mn2": "6", "n3": "-2"})
"""``2 n² (m − n/3)`` (5.2.1)."""


@register_flop_formula("aten._linalg_solve_ex", "aten.linalg_solve", "aten.linalg_solve_ex")
def solve(op: OpRecord) -> int:
    """``a: […, n, n]``, ``k`` right-hand sides: ``2 n³ / 3 + 2 n² k`` (3.2, 3.1)."""
    a, b = shape(op, 0), shape(op, 1)
    n, k = a[-1], _columns(b, a)
    return _batch(a) * (2 * n**3 + 6 * n**2 * k) // 3


@register_flop_formula("aten.linalg_qr", "aten.qr")
def qr(op: OpRecord) -> int:
    """``[…, m, n]``: ``2 n² (m − n/3)`` for R, as much for a thin Q (5.2.2).

    A complete Q costs ``4 (m² n − m n² + n³/3)``.
    """
    mode = argument(op, 1, "mode", "reduced")
    if mode == "r":
        return householder(op)
    if mode != "complete":
        return 2 * householder(op)
    a = shape(op, 0)
    n, m = sorted(a[-2:])
    return householder(op) + _batch(a) * 4 * (3 * m**2 * n - 3 * m * n**2 + n**3) // 3


@register_flop_formula("aten._linalg_eigh", "aten.linalg_eigh", "aten.linalg_eigvalsh")
def symmetric_eigen(op: OpRecord) -> int:
    """``[…, n, n]``: ``9 n³`` with vectors, ``4 n³ / 3`` for the values alone (8.3.3)."""
    a = shape(op, 0)
    values_only = "eigvalsh" in op.name or argument(op, 2, "compute_v", True) is False
    return _batch(a) * (4 * a[-1] ** 3 // 3 if values_only else 9 * a[-1] ** 3)


@register_flop_formula("aten._linalg_svd", "aten.linalg_svd", "aten.linalg_svdvals", "aten.svd")
def singular_values(op: OpRecord) -> int:
    """``[…, m, n]``, ``n`` the smaller (8.6.3, Golub-Reinsch).

    ``14 m n² + 8 n³`` with thin vectors, ``4 m² n + 8 m n² + 9 n³`` with full ones,
    ``4 m n² − 4 n³ / 3`` for the values alone.
    """
    a = shape(op, 0)
    n, m = sorted(a[-2:])
    if "svdvals" in op.name or argument(op, 2, "compute_uv", True) is False:
        return _batch(a) * (12 * m * n**2 - 4 * n**3) // 3
    full = _full_matrices(op)
    return _batch(a) * (
        4 * m**2 * n + 8 * m * n**2 + 9 * n**3 if full else 14 * m * n**2 + 8 * n**3
    )


def _full_matrices(op: OpRecord) -> bool:
    """Return whether U and V are square; ``aten.svd`` says ``some`` for the opposite."""
    if op.name.startswith("aten.svd"):
        return argument(op, 1, "some", True) is False
    default = op.name.startswith("aten.linalg_svd")
    return bool(argument(op, 1, "full_matrices", default))


@register_flop_formula("aten.linalg_householder_product", "aten.orgqr")
def householder_product(op: OpRecord) -> int:
    """``[…, m, n]`` and ``k`` reflectors: ``4 m n k − 2 (m + n) k² + 4 k³ / 3`` (LAWN 41)."""
    a, k = shape(op, 0), shape(op, 1)[-1]
    m, n = a[-2:]
    return _batch(a) * (12 * m * n * k - 6 * (m + n) * k**2 + 4 * k**3) // 3


@register_flop_formula("aten.ormqr")
def multiply_by_reflectors(op: OpRecord) -> int:
    """``c: […, m, n]`` and ``k`` reflectors (LAWN 41).

    ``4 m n k − 2 n k²`` from the left, ``4 m n k − 2 m k²`` from the right.
    """
    k, c = shape(op, 1)[-1], shape(op, 2)
    m, n = c[-2:]
    other = n if argument(op, 3, "left", True) else m
    return _batch(c) * (4 * m * n * k - 2 * other * k**2)


@register_flop_formula("aten.linalg_lstsq")
def least_squares(op: OpRecord) -> int:
    """``a: […, m, n]`` of full rank, ``k`` right-hand sides; ``p`` the smaller of m and n.

    By QR (``gels``, and ``gelsy``, which pivots): ``2 p² (q − p/3)``, ``q`` the larger, then
    ``4 q p k − 2 p² k`` for Q and ``p² k`` for R (5.2.1, 5.3.2). By singular values (``gelsd``,
    ``gelss``): ``4 q p² + 8 p³`` for Σ and V (8.6.3), then ``2 (m + n) p k`` for U and V.
    """
    a, b = shape(op, 0), shape(op, 1)
    m, n = a[-2:]
    p, q = sorted((m, n))
    k = _columns(b, a)
    if argument(op, 3, "driver") in ("gelsd", "gelss"):
        return _batch(a) * (4 * q * p**2 + 8 * p**3 + 2 * (m + n) * p * k)
    return householder(op) + _batch(a) * (4 * q * p * k - p**2 * k)


@register_flop_formula("aten.linalg_pinv", "aten.pinverse")
def pseudoinverse(op: OpRecord) -> int:
    """``[…, m, n]``: ``14 q p² + 8 p³`` for singular values and thin vectors (8.6.3), ``2 m n p``.

    A Hermitian matrix takes its eigenvectors instead, ``9 n³``. Source: ``linalg_pinv`` in
    PyTorch's ``aten/src/ATen/native/LinearAlgebra.cpp``.
    """
    a = shape(op, 0)
    p, q = sorted(a[-2:])
    hermitian = argument(op, _PINV_HERMITIAN.get(op.name, -1), "hermitian", False)
    vectors = 9 * p**3 if hermitian else 14 * q * p**2 + 8 * p**3
    return _batch(a) * (vectors + 2 * p * p * q)


_PINV_HERMITIAN = {"aten.linalg_pinv.default": 2, "aten.linalg_pinv.rcond_tensor": 2}
"""The position of ``hermitian`` in overloads where it is not given by name."""


@register_flop_formula("aten.linalg_matrix_exp", "aten.matrix_exp")
def matrix_exponential(op: OpRecord) -> int:
    """Raise, except for matrices of no or one element: the norm decides what is multiplied.

    Source: ``mexp_impl`` in PyTorch's ``aten/src/ATen/native/LinearAlgebra.cpp``.
    """
    a = output_shape(op)
    if prod(a) == 0 or a[-1] == 1:
        return 0
    raise DependsOnValuesError("the number of products depends on the norm of the matrix")
