"""A small convolutional network: the first thing to look at.

Run ``python examples/simple_cnn.py``, or
``torchgauge summary examples/simple_cnn.py:SimpleCNN --input-size 3,224,224``.
"""

import torch
from torch import nn


class SimpleCNN(nn.Module):
    """Two convolutions and one linear layer, which holds nearly all the parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 128, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(128 * 56 * 56, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


if __name__ == "__main__":
    import torchgauge as tg

    tg.summary(SimpleCNN(), (3, 224, 224))
