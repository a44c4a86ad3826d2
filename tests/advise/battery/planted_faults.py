"""Models with one fault each, and the rule that has to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A model in which a rule has to find something."""

    rule: str
    about: str
    make: Callable[[], nn.Module]
    where: tuple[str, ...]
    size: tuple[int, ...] = (4, 8)
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.rule}: {self.about}"


TRAINING = {"mode": "training"}
SOFT = TRAINING | {"loss": "cross_entropy"}


class Applied(nn.Module):
    """A model whose forward is a function of its parts."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.applied = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.applied(self, x)


def linears(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), *between, nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


def named() -> nn.Module:
    return Applied(lambda m, x: m.fc2(m.fc1(x)), fc1=nn.Linear(8, 32), fc2=nn.Linear(32, 4))


def in_a_block() -> nn.Module:
    block = Applied(lambda m, x: m.down(m.up(x)), up=nn.Linear(8, 32), down=nn.Linear(32, 8))
    return Applied(lambda m, x: x + m.mlp(m.norm(x)), norm=nn.LayerNorm(8), mlp=block)


def classifier(end: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 4), end)


def own_loss(loss: Callable[[Tensor], Tensor]) -> nn.Module:
    return Applied(lambda m, x: {"loss": loss(m.head(x))}, head=nn.Linear(8, 4))


def zeros(x: Tensor) -> Tensor:
    return torch.zeros(x.shape[0], dtype=torch.long, device=x.device)


def normed(*, frozen: bool = True) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(8 * 36, 4))
    if frozen:
        model[:2].requires_grad_(False)
    return model


def only_norms_frozen() -> nn.Module:
    model = normed(frozen=False)
    model[1].requires_grad_(False)
    return model


def conv_then_layer_norm(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *between, nn.LayerNorm(8))


def copied_head() -> nn.Module:
    model = Applied(lambda m, x: m.head(m.embed(x)), embed=nn.Embedding(50, 8))
    model.head = nn.Linear(8, 50, bias=False)
    with torch.no_grad():
        model.head.weight.copy_(model.embed.weight)
    return model


def clone_of_the_weight() -> nn.Module:
    model = copied_head()
    model.head.weight = nn.Parameter(model.embed.weight.detach().clone())
    return model


def head_with_bias() -> nn.Module:
    model = copied_head()
    weight = model.head.weight
    model.head = nn.Linear(8, 50)
    model.head.weight = weight
    return model


def in_mode(model: nn.Module, path: str, *, training: bool) -> nn.Module:
    model.train(not training).get_submodule(path).train(training)
    return model


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))


class ListOfLayers(nn.Module):
    """Keeps its layers in a plain list, which registers nothing."""

    def __init__(self, kind: type = list) -> None:
        super().__init__()
        layers = [nn.Linear(8, 8) for _ in range(3)]
        self.layers = layers if kind is list else {str(i): x for i, x in enumerate(layers)}
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values() if isinstance(self.layers, dict) else self.layers:
            x = torch.relu(layer(x))
        out: Tensor = self.head(x)
        return out


class Keeper(nn.Module):
    """Keeps what it makes in a list, for a plot at the end."""

    def __init__(self, what: Callable[[Tensor], Any] = Tensor.mean) -> None:
        super().__init__()
        self.fc, self.what = nn.Linear(8, 8), what
        self.kept: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x).relu()
        self.kept.append(self.what(y))
        return y


class KeepsItsLosses(nn.Module):
    """Computes its own loss and remembers all of them by name."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.history: dict[str, list[Tensor]] = {"loss": []}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loss = self.fc(x).square().mean()
        self.history["loss"].append(loss * 1.0)
        return {"loss": loss}


def planted(rule: str, about: str, make: Callable[[], nn.Module], *where: str, **more: Any) -> Any:
    return Planted(rule=rule, about=about, make=make, where=where, **more)


IMAGE = {"size": (4, 3, 8, 8)}
FAULTS = (
    planted("missing-activation", "Sequential", linears, "0", "1"),
    planted("missing-activation", "in training", linears, "0", "1", options=TRAINING),
    planted(
        "missing-activation", "dropout between", lambda: linears(nn.Dropout(0.5)), "0", "2",
        options=TRAINING,
    ),
    planted("missing-activation", "identity between", lambda: linears(nn.Identity()), "0", "2"),
    planted("missing-activation", "attributes", named, "fc1", "fc2"),
    planted("missing-activation", "in a residual block", in_a_block, "mlp.up", "mlp.down"),
    planted(
        "missing-activation", "autocast", named, "fc1", "fc2",
        options={"precision": "bf16-autocast"},
    ),
    planted(
        "batch-of-one", "one image", lambda: normed(frozen=False), "1",
        size=(3, 8, 8), options=TRAINING | {"batch_size": 1},
    ),
    planted(
        "batch-of-one", "one image in the size", lambda: normed(frozen=False), "1",
        size=(1, 3, 8, 8), options=TRAINING,
    ),
    planted("double-softmax", "module", lambda: classifier(nn.Softmax(-1)), "1", options=SOFT),
    planted(
        "double-softmax", "own loss",
        lambda: own_loss(lambda y: F.cross_entropy(y.softmax(-1), zeros(y))), "", options=TRAINING,
    ),
    planted(
        "double-softmax", "probabilities in nll_loss",
        lambda: own_loss(lambda y: F.nll_loss(y.softmax(-1), zeros(y))), "", options=TRAINING,
    ),
    planted(
        "double-softmax", "sigmoid before the loss with logits",
        lambda: own_loss(
            lambda y: F.binary_cross_entropy_with_logits(y.sigmoid(), torch.zeros_like(y))
        ),
        "", options=TRAINING,
    ),
    planted(
        "double-softmax", "sigmoid before cross-entropy", lambda: classifier(nn.Sigmoid()), "1",
        options=SOFT,
    ),
    planted("frozen-batchnorm", "backbone", normed, "1", **IMAGE, options=TRAINING),
    planted("frozen-batchnorm", "only norms", only_norms_frozen, "1", **IMAGE, options=TRAINING),
    planted(
        "frozen-batchnorm", "train() undoes eval()", lambda: normed().eval(), "1",
        **IMAGE, options=TRAINING,
    ),
    planted("layernorm-axis", "map", conv_then_layer_norm, "1", **IMAGE),
    planted("layernorm-axis", "after ReLU", lambda: conv_then_layer_norm(nn.ReLU()), "2", **IMAGE),
    planted(
        "layernorm-axis", "signal",
        lambda: nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.GELU(), nn.LayerNorm(16)), "2",
        size=(4, 3, 16),
    ),
    planted(
        "double-norm", "BatchNorm twice",
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)), "1", "2",
        **IMAGE,
    ),
    planted(
        "double-norm", "LayerNorm twice",
        lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.LayerNorm(8)), "1", "2",
    ),
    planted(
        "double-norm", "dropout between, in training",
        lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(), nn.LayerNorm(8)),
        "1", "3", options=TRAINING,
    ),
    planted("untied-copy", "copy_", copied_head, "head", options={"dtypes": ["int64"]}),
    planted("untied-copy", "clone", clone_of_the_weight, "head", options={"dtypes": ["int64"]}),
    planted("untied-copy", "with a bias", head_with_bias, "head", options={"dtypes": ["int64"]}),
    planted(
        "wrong-mode", "dropout at inference", lambda: in_mode(with_dropout(), "2", training=True),
        "2",
    ),
    planted(
        "wrong-mode", "norm at inference",
        lambda: in_mode(normed(frozen=False), "1", training=True), "1", **IMAGE,
    ),
    planted(
        "wrong-mode", "no dropout in training",
        lambda: in_mode(with_dropout(), "2", training=False), "2", options=TRAINING,
    ),
    planted(
        "wrong-mode", "F.dropout without its mode",
        lambda: Applied(lambda m, x: F.dropout(m.fc(x)), fc=nn.Linear(8, 4)), "",
    ),
    planted(
        "wrong-mode", "attention's dropout at inference",
        lambda: Applied(
            lambda m, x: F.scaled_dot_product_attention(m.q(x), m.k(x), x, dropout_p=0.1),
            q=nn.Linear(8, 8), k=nn.Linear(8, 8),
        ),
        "", size=(2, 4, 8),
    ),
    planted("hidden-modules", "list", ListOfLayers, ""),
    planted("hidden-modules", "dict", lambda: ListOfLayers(dict), ""),
    planted("hidden-modules", "in training", ListOfLayers, "", options=TRAINING),
    planted("kept-graph", "means", Keeper, "", options=TRAINING),
    planted("kept-graph", "in a block", lambda: nn.Sequential(Keeper(), nn.Linear(8, 2)), "0",
            options=TRAINING),
    planted("kept-graph", "own losses", KeepsItsLosses, "", options=TRAINING),
)  # fmt: skip
