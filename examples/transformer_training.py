"""One training step of a transformer encoder: what the backward and the optimizer add.

Nothing is computed: the step runs on tensors without data, so a large batch costs nothing here.
"""

import torch
from torch import nn

import torchgauge as tg


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        d_model=512, nhead=8, dim_feedforward=2048, dropout=0.0, batch_first=True
    )
    return nn.TransformerEncoder(layer, num_layers=6, enable_nested_tensor=False)


if __name__ == "__main__":
    with torch.device("meta"):  # no memory for the weights either
        model = encoder()
    for optimizer in ("sgd", "adamw"):
        report = tg.analyze(
            model,
            input_size=(128, 512),
            batch_size=64,
            scenario=tg.Scenario(mode="training", optimizer=optimizer),
        )
        assert report.memory is not None
        print(
            f"{optimizer:6} forward {report.totals.forward_flops / 1e12:.3f} TFLOPs, "
            f"backward {report.totals.backward_flops / 1e12:.3f} TFLOPs, "
            f"peak {report.memory.peak_allocated_bytes / 2**30:.2f} GiB"
        )
