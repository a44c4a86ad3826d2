"""Models that patches are written for: what is to change, and what must not, stands beside it."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import Conv2d, ReLU, Sequential


class Course(nn.Module):
    """As a course writes it: one attribute after the other."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)  # normalises what conv1 returns
        self.conv2 = nn.Conv2d(
            width,
            width * 2,
            kernel_size=5,
            padding=2,  # keeps the size
        )
        self.bn2 = nn.BatchNorm2d(width * 2)
        self.relu = nn.ReLU()
        self.spare = nn.Linear(width, 10)
        self.aux = nn.Conv2d(width, 4, 1)
        self.fc1 = nn.Linear(width * 2 * 8 * 8, 64)
        self.fc2 = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        self.aux(x)
        x = self.bn2(self.conv2(x))
        x = x.view(x.size(0), -1)
        return torch.softmax(self.fc2(self.fc1(x)), dim=1)


class InSequence(nn.Module):
    """All in one literal, with an imported name and a flattening module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Sequential(
            Conv2d(3, 64, 3, padding=1),
            ReLU(),
            ReLU(),  # once too often
            Conv2d(64, 64, 3, padding=1, bias=False),
            ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 8 * 8, 32),
            nn.Linear(32, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Block(nn.Sequential):
    """A class whose one line makes as many layers as there are blocks."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__(
            nn.Conv2d(incoming, outgoing, 3, padding=1),
            nn.BatchNorm2d(outgoing),
            nn.ReLU(),
        )


class Blocks(nn.Module):
    """The same class three times: a change of all is one line, a change of one is none."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 32), Block(32, 64), Block(64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x).mean((2, 3))


class Loop(nn.Module):
    """Layers from a loop, a comprehension and a function."""

    def __init__(self) -> None:
        super().__init__()
        layers = []
        for _ in range(2):
            layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.listed = nn.ModuleList([nn.ReLU() for _ in range(2)])
        self.head = made(8 * 8 * 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.listed:
            x = layer(x + 1)
        x = self.layers(x)
        return self.head(F.dropout(x.flatten(1), training=self.training))


class Attention(nn.Module):
    """Attention of several heads, written by hand over several lines."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.drop = nn.Dropout(0.1)
        self.scale = 8**-0.5

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        # Every token looks at every other one.
        weights = q @ k.transpose(-2, -1)
        weights *= self.scale
        if mask is not None:
            weights = weights + mask
        weights = self.drop(weights.softmax(dim=-1))
        y = (weights @ v).transpose(1, 2).reshape(b, n, d)
        return self.out(y)


class OneHead(nn.Module):
    """Attention of one head, in one line."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.bmm(self.q(x), self.k(x).transpose(1, 2)) / 32**0.5
        return torch.bmm(torch.softmax(scores, -1), self.v(x))


class KeepsWeights(OneHead):
    """The weights are read a second time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1)
        self.entropy = (weights * weights.log()).sum()
        return weights @ self.v(x)


class Large(nn.Module):
    """A large kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 7, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Hidden(nn.Module):
    """Layers in a plain list and in a plain dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(8, 8) for _ in range(3)]
        self.heads = {}
        for name in ("a", "b"):
            self.heads[name] = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.heads["a"](x) + self.heads["b"](x)


class Early(nn.Module):
    """Wide maps at the beginning."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self.norm(self.stem(x)))


class Untied(nn.Module):
    """A head that starts from the embedding's values, and is another tensor."""

    def __init__(self, vocabulary: int = 50) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"token": nn.Embedding(vocabulary, 8)})
        self.head = nn.Linear(8, vocabulary, bias=False)
        # Both start from the same values.
        with torch.no_grad():
            # The head is the other way round.
            self.head.weight.copy_(self.parts["token"].weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.parts["token"](tokens))


class Tied(nn.Module):
    """A head that holds the embedding's tensor, until weights are assigned."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens))


def untied() -> nn.Module:
    net = Tied()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    return net.eval()


class UntiedLater(Tied):
    """A method sets another head."""

    def __init__(self) -> None:
        super().__init__()
        self.set_head()  # after the embedding
        self.scale = 0.5

    def set_head(self) -> None:
        self.head = nn.Linear(8, 50)
        self.head.weight = nn.Parameter(self.embed.weight.detach().clone())


class Stem(nn.Module):
    """Blocks of one class, and a layer of its own."""

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(*(Block(8, 8) for _ in range(depth)))
        self.head = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x))
        return self.head(self.blocks(x).mean((2, 3)))


def ready() -> nn.Module:
    net = Stem()
    net.to("cpu")  # of what is built without memory, some tensors now have values
    net.eval()
    return net


def made(width: int) -> nn.Linear:
    return nn.Linear(width, 10)


def plain() -> nn.Sequential:
    """A model that a function returns."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 4))


def folded() -> nn.Sequential:
    """A model that no class of ours holds."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
