"""Teach torchgauge what an operator of your own costs.

Without the formula the operator is listed under "not counted"; with it, it is part of the total.
"""

import torch
from torch import nn

import torchgauge as tg


@torch.library.custom_op("torchgauge_example::masked_mm", mutates_args=())
def masked_mm(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply two matrices and keep the lower triangle; stands for a kernel of your own."""
    return torch.tril(left @ right)


@masked_mm.register_fake
def _(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left.new_empty(left.shape[0], right.shape[1])


class Block(nn.Module):
    """A linear layer, then the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.linear(x)
        return masked_mm(hidden, hidden.T)


def not_counted(report: tg.Report) -> list[str]:
    return [entry.op for entry in report.not_counted]


if __name__ == "__main__":
    before = tg.analyze(Block(), input_size=(128, 64))
    print("without:", before.totals.forward_macs, "MACs, not counted:", not_counted(before))

    @tg.register_flop_formula("torchgauge_example::masked_mm")
    def masked_mm_flops(op) -> int:
        (rows, inner), (_, columns) = op.args[0].shape, op.args[1].shape
        return 2 * rows * inner * columns  # FLOPs: 2 per multiply-add

    after = tg.analyze(Block(), input_size=(128, 64))
    print("with:   ", after.totals.forward_macs, "MACs, not counted:", not_counted(after))
    assert after.totals.forward_macs - before.totals.forward_macs == 128 * 32 * 128
