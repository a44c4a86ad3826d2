"""A model, its data and a metric, as a user's file holds them."""

import time
from collections.abc import Iterator

import torch
from torch import nn


class Net(nn.Module):
    """A wide classifier of small maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.head = nn.Linear(16 * 8 * 8, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).flatten(1))


def trained() -> Net:
    """Return a model whose weights are the same each time, as loaded ones are."""
    net = Net()
    generator = torch.Generator().manual_seed(7)
    state = {k: torch.randn(v.shape, generator=generator) for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    return net


def loader() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        x = torch.randn(8, 3, 8, 8, generator=generator)
        yield x, torch.randint(0, 10, (8,), generator=generator)


def broken() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield from loader()
    raise OSError("the disk is gone")


def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader()


def ends_the_program() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    raise SystemExit("no data here")
    yield from loader()


def slow() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    time.sleep(600)
    yield from loader()


def share_of_zeros(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float((outputs.argmax(1) == 0).float().mean())


def nothing_known(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float("nan")


def a_word(outputs: torch.Tensor, targets: torch.Tensor) -> str:
    return "0.9"


def for_each_sample(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(1) == targets).float()


def one_element(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(1) == 0).float().mean()[None]


def a_script(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    raise SystemExit(1)
