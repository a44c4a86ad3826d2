"""Output shapes of kernels that read values, but whose shapes do not depend on what they read."""

from __future__ import annotations

import torch

from torchgauge.trace.shapes.rule import Args, Kwargs, Rule, Tensors, made


def _ctc_loss(args: Args, kwargs: Kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """``[T, N, C] → [N]`` and the logarithms of alpha ``[N, T, 2 · longest target + 1]``.

    Source: ``ctc_loss_allocate_outputs`` in PyTorch's ``aten/src/ATen/native/LossCTC.cpp``; the
    lengths are lists of numbers by then. Lengths that are all 0 were made from a size alone.
    """
    scores, targets, target_lengths = args[0], args[1], args[3]
    steps, batch, _ = scores.shape
    longest = max(target_lengths, default=0)
    if longest == 0 and targets.dim() == 2:
        longest = targets.shape[1]
    loss = made(batch, scores.dtype)
    return loss, made((batch, steps, 2 * longest + 1), scores.dtype)


def _ctc_loss_backward(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """Gradient of the scores ``[T, N, C]``, contiguous."""
    return made(args[1].shape, args[1].dtype)


def _lstsq(args: Args, kwargs: Kwargs) -> Tensors:
    """Solution ``[..., n, k]``, residuals, ranks and singular values, for matrices of full rank.

    The solution lies in a column-major block of ``max(m, n)`` rows. Source: ``linalg_lstsq_out``
    in PyTorch's ``aten/src/ATen/native/BatchLinearAlgebra.cpp``. Matrices that lack ranks have no
    residuals, which ``gelsd`` and ``gelss`` return: a few numbers.
    """
    matrix, right = args[0], args[1]
    driver = kwargs.get("driver") or "gelsy"
    rows, columns = matrix.shape[-2:]
    is_vector = right.shape == matrix.shape[:-1]
    count = 1 if is_vector else right.shape[-1]
    batch = matrix.shape[:-2]
    if not is_vector:
        batch = torch.broadcast_shapes(batch, right.shape[:-2])
    block = made((*batch, count, max(rows, columns)), matrix.dtype)
    solution = block.mT[..., :columns, :]
    if is_vector:
        solution = solution.squeeze(-1)
    over = rows > columns and driver != "gelsy"
    residuals = (*batch, count) if over else (0,)
    real = matrix.dtype.to_real()
    values = (*matrix.shape[:-2], min(rows, columns)) if driver in ("gelsd", "gelss") else (0,)
    return (
        solution,
        made(residuals, real),
        made(matrix.shape[:-2] if driver != "gels" else 0, torch.int64),
        made(values, real),
    )


READER_RULES: dict[str, Rule] = {
    "aten._ctc_loss.default": _ctc_loss,
    "aten._ctc_loss_backward.default": _ctc_loss_backward,
    "aten._ctc_loss_backward.Tensor": _ctc_loss_backward,
    "aten.linalg_lstsq.default": _lstsq,
}
"""Rules by operator; each makes the outputs from ``(args, kwargs)``."""
