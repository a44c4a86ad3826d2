"""Random networks: a description that hypothesis draws and shrinks, and the model that it means.

A network takes one to three inputs (vectors, sequences, tokens, images), sends each through a
chain of layers, joins what comes out, and returns a tensor or a nested structure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

Shape = tuple[int, ...]
"""Without the batch: ``(width,)``, ``(length, width)`` or ``(channels, height, width)``."""


@dataclass(frozen=True)
class Layer:
    """A layer: its kind, its settings in the order of the builder's, and the layers inside."""

    kind: str
    settings: tuple[Any, ...] = ()
    inner: tuple[Layer, ...] = ()

    def build(self) -> nn.Module:
        return BUILDERS[self.kind](*self.settings, *(layer.build() for layer in self.inner))


@dataclass(frozen=True)
class Network:
    """What is drawn: an input shape and a chain per branch, and how the results are returned."""

    batch: int
    inputs: tuple[Shape, ...]
    vocabulary: tuple[int, ...]
    """Per input: 0, or the number of tokens in an embedding that comes first."""
    chains: tuple[Layer, ...]
    widths: tuple[int, ...]
    returns: str
    frozen: bool
    """Whether the first branch is frozen."""
    training: bool
    given_as: str
    """``batched`` or ``single`` sizes, ``tensors``, or ``names`` (tensors by argument)."""

    def build(self) -> nn.Module:
        return Joined(self)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Make one tensor per input."""
        return tuple(
            torch.randint(count, (self.batch, *shape)) if count else torch.rand(self.batch, *shape)
            for shape, count in zip(self.inputs, self.vocabulary, strict=True)
        )


# ------------------------------------------------------------------------ modules


class Joined(nn.Module):
    """The root: branches, joined by concatenation, and a head."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        branches = []
        for shape, count, chain in zip(
            network.inputs, network.vocabulary, network.chains, strict=True
        ):
            first = [nn.Embedding(count, shape_after_embedding(shape)[-1])] if count else []
            branches.append(nn.Sequential(*first, chain.build(), Pool()))
        self.branches = nn.ModuleList(branches)
        self.head = nn.Linear(sum(network.widths), 3)
        self.returns = network.returns
        if network.frozen:
            self.branches[0].requires_grad_(False)

    def forward(
        self, first: torch.Tensor, second: torch.Tensor | None = None,
        third: torch.Tensor | None = None,
    ) -> Any:  # fmt: skip
        given = [value for value in (first, second, third) if value is not None]
        parts = [branch(x) for branch, x in zip(self.branches, given, strict=True)]
        result = self.head(torch.cat(parts, dim=1))
        if self.returns == "tuple":
            return result, None, tuple(parts)
        if self.returns == "dict":
            return {"result": result, "more": {"parts": parts, "mean": result.mean()}}
        return result


class Pool(nn.Module):
    """Mean over everything between batch and features."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 4:
            return x.mean((2, 3))
        return x.mean(1) if x.dim() == 3 else x


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class Repeat(nn.Module):
    """One module called several times."""

    def __init__(self, times: int, inner: nn.Module) -> None:
        super().__init__()
        self.times, self.inner = times, inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.times):
            x = self.inner(x)
        return x


class Fork(nn.Module):
    """Two branches and a dictionary of what they return."""

    def __init__(self, main: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.main, self.other = main, other

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> dict[str, Any]:
        return {"main": self.main(x) * scale, "rest": (None, [self.other(x)])}


class Forked(nn.Module):
    def __init__(self, main: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.fork = Fork(main, other)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fork(x, scale=0.5)["main"]


class Recurrent(nn.Module):
    def __init__(self, kind: str, width: int, hidden: int, layers: int, both: bool) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(width, hidden, layers, batch_first=True, bidirectional=both)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


class Cell(nn.Module):
    def __init__(self, kind: str, width: int, hidden: int, steps: int) -> None:
        super().__init__()
        self.cell, self.steps = getattr(nn, f"{kind}Cell")(width, hidden), steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = None
        for _ in range(self.steps):
            state = self.cell(x, state)
        return state[0] if isinstance(state, tuple) else state


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, batch_first: bool, weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=batch_first)
        self.weights = weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=self.weights)[0]


class FunctionalAttention(nn.Module):
    """Attention without a module for it: fused, or as two products and a softmax."""

    def __init__(self, width: int, heads: int, form: str) -> None:
        super().__init__()
        self.heads, self.form = heads, form
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.form == "products":
            out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        elif self.form == "einsum":
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1)
            out = torch.einsum("bhqk,bhkd->bhqd", scores, v)
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=self.form == "causal")
        return out.transpose(1, 2).reshape(batch, length, width)

    def macs(self, x: torch.Tensor) -> int:
        """Two products; ``torch.einsum`` multiplies where one element is summed over."""
        batch, length, width = x.shape
        product = batch * length * length * width
        if self.form == "einsum":
            return product * ((width > self.heads) + (length > 1))
        return 2 * product


class Weight(nn.Module):
    """A product with a bare parameter."""

    def __init__(self, width: int, out: int, form: str) -> None:
        super().__init__()
        self.weight, self.form = nn.Parameter(torch.rand(out, width)), form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.form == "linear":
            return F.linear(x, self.weight)
        if self.form == "einsum":
            return torch.einsum("...i,oi->...o", x, self.weight)
        return x @ self.weight.t()

    def macs(self, x: torch.Tensor) -> int:
        return x.numel() * self.weight.shape[0]


class Tied(nn.Module):
    """Two layers that share one weight, and have a bias each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Unused(nn.Module):
    """A module with a layer that is never called."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.used, self.spare = nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


class AlongTime(nn.Module):
    """A 1-D convolution over ``[B, T, C]``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


def encoder_layer(width: int, heads: int, hidden: int, norm_first: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.1, batch_first=True, norm_first=norm_first
    )


def twice(inner: nn.Module) -> nn.Module:
    """One module registered under two names."""
    return nn.Sequential(inner, nn.Identity(), inner)


def convolution(
    kind: str, channels: int, out: int, kernel: int, stride: int, padding: int, dilation: int,
    groups: int, bias: bool,
) -> nn.Module:  # fmt: skip
    options = {"dilation": dilation, "groups": groups, "bias": bias}
    return getattr(nn, kind)(channels, out, kernel, stride, padding, **options)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "chain": nn.Sequential,
    "residual": Residual,
    "repeat": Repeat,
    "twice": twice,
    "fork": Forked,
    "linear": nn.Linear,
    "weight": Weight,
    "tied": Tied,
    "unused": Unused,
    "activation": lambda name: getattr(nn, name)(),
    "dropout": nn.Dropout,
    "layer norm": nn.LayerNorm,
    "batch norm 1d": nn.BatchNorm1d,
    "batch norm 2d": nn.BatchNorm2d,
    "group norm": nn.GroupNorm,
    "convolution": convolution,
    "along time": AlongTime,
    "max pool": nn.MaxPool2d,
    "average pool": nn.AvgPool2d,
    "recurrent": Recurrent,
    "cell": Cell,
    "attention": SelfAttention,
    "functional attention": FunctionalAttention,
    "encoder layer": encoder_layer,
}

# ------------------------------------------------------------------------ strategies

WIDTHS = st.sampled_from((4, 6, 8, 12))
KINDS = st.sampled_from(("LSTM", "GRU", "RNN"))
ACTIVATIONS = st.sampled_from(("ReLU", "GELU", "Tanh", "Sigmoid", "SiLU", "LeakyReLU"))


def shape_after_embedding(shape: Shape) -> Shape:
    """Return ``(length, width)`` for tokens ``(length,)``."""
    return (*shape, 8)


@st.composite
def networks(draw: Callable[..., Any]) -> Network:
    """Draw a network."""
    count = draw(st.integers(1, 3))
    inputs: list[Shape] = []
    vocabulary: list[int] = []
    chains: list[Layer] = []
    widths: list[int] = []
    for _ in range(count):
        kind = draw(st.sampled_from(("image", "sequence", "tokens", "vector")))
        shape: Shape = (draw(WIDTHS),)
        if kind == "image":
            shape = (draw(WIDTHS), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
        elif kind != "vector":
            shape = (draw(st.integers(2, 7)), draw(WIDTHS))
        tokens = 10 if kind == "tokens" else 0
        inputs.append(shape[:1] if tokens else shape)
        vocabulary.append(tokens)
        inside = shape_after_embedding(shape[:1]) if tokens else shape
        layer, after = draw(chain(inside, depth=2))
        chains.append(layer)
        widths.append(after[0] if len(after) == 3 else after[-1])
    return Network(
        batch=draw(st.integers(2, 3)),
        inputs=tuple(inputs),
        vocabulary=tuple(vocabulary),
        chains=tuple(chains),
        widths=tuple(widths),
        returns=draw(st.sampled_from(("tensor", "tuple", "dict"))),
        frozen=draw(st.booleans()),
        training=draw(st.booleans()),
        given_as=draw(st.sampled_from(("batched", "single", "tensors", "names"))),
    )


@st.composite
def chain(
    draw: Callable[..., Any], shape: Shape, depth: int, keep: bool = False
) -> tuple[Layer, Shape]:
    """Draw one to three layers; with ``keep`` the shape after is the one before."""
    layers: list[Layer] = []
    for _ in range(draw(st.integers(1, 3))):
        layer, shape = draw(one_layer(shape, depth, keep))
        layers.append(layer)
    return Layer("chain", (), tuple(layers)), shape


@st.composite
def one_layer(
    draw: Callable[..., Any], shape: Shape, depth: int, keep: bool
) -> tuple[Layer, Shape]:
    """Draw a plain layer, or one with layers inside while ``depth`` allows it."""
    if depth > 0 and draw(st.booleans()):
        kind = draw(st.sampled_from(("residual", "repeat", "twice", "fork")))
        inner, _ = draw(chain(shape, depth - 1, True))
        if kind == "fork":
            other, _ = draw(chain(shape, depth - 1, False))
            return Layer("fork", (), (inner, other)), shape
        settings = (draw(st.integers(2, 3)),) if kind == "repeat" else ()
        return Layer(kind, settings, (inner,)), shape
    simple = {1: vector_layer, 2: sequence_layer, 3: image_layer}[len(shape)]
    return draw(simple(shape, keep))


def shapeless(draw: Callable[..., Any]) -> Layer:
    if draw(st.booleans()):
        return Layer("dropout", (0.25,))
    return Layer("activation", (draw(ACTIVATIONS),))


@st.composite
def vector_layer(draw: Callable[..., Any], shape: Shape, keep: bool) -> tuple[Layer, Shape]:
    (width,) = shape
    out = width if keep else draw(WIDTHS)
    kind = draw(st.sampled_from((
        "linear", "weight", "tied", "unused", "cell", "batch norm 1d", "layer norm", "",
    )))  # fmt: skip
    if kind == "linear":
        return Layer(kind, (width, out, draw(st.booleans()))), (out,)
    if kind == "weight":
        return Layer(kind, (width, out, draw(PRODUCTS))), (out,)
    if kind == "cell":
        return Layer(kind, (draw(KINDS), width, out, draw(st.integers(1, 3)))), (out,)
    return Layer(kind, (width,)) if kind else shapeless(draw), shape


PRODUCTS = st.sampled_from(("linear", "einsum", "matmul"))


@st.composite
def sequence_layer(draw: Callable[..., Any], shape: Shape, keep: bool) -> tuple[Layer, Shape]:
    length, width = shape
    out = width if keep else draw(WIDTHS)
    heads = draw(st.sampled_from([n for n in (1, 2, 3, 4) if width % n == 0]))
    kind = draw(st.sampled_from((
        "attention", "functional attention", "encoder layer", "recurrent", "along time", "linear",
        "weight", "tied", "unused", "layer norm", "",
    )))  # fmt: skip
    if kind == "attention":
        return Layer(kind, (width, heads, draw(st.booleans()), draw(st.booleans()))), shape
    if kind == "functional attention":
        form = draw(st.sampled_from(("fused", "causal", "products", "einsum")))
        return Layer(kind, (width, heads, form)), shape
    if kind == "encoder layer":
        return Layer(kind, (width, heads, draw(WIDTHS), draw(st.booleans()))), shape
    if kind == "recurrent":
        both = draw(st.booleans()) and not (keep and out % 2)
        hidden = out // 2 if both and keep else out
        layer = Layer(kind, (draw(KINDS), width, hidden, draw(st.integers(1, 2)), both))
        return layer, (length, 2 * hidden if both else hidden)
    if kind == "along time":
        inner, (after, length) = draw(convolution_layer("Conv1d", (width, length), keep))
        return Layer(kind, (), (inner,)), (length, after)
    if kind == "linear":
        return Layer(kind, (width, out, draw(st.booleans()))), (length, out)
    if kind == "weight":
        return Layer(kind, (width, out, draw(PRODUCTS))), (length, out)
    return Layer(kind, (width,)) if kind else shapeless(draw), shape


@st.composite
def image_layer(draw: Callable[..., Any], shape: Shape, keep: bool) -> tuple[Layer, Shape]:
    channels, height, width = shape
    kind = draw(st.sampled_from((
        "Conv2d", "ConvTranspose2d", "batch norm 2d", "group norm", "max pool", "average pool", "",
    )))  # fmt: skip
    if kind in ("Conv2d", "ConvTranspose2d"):
        return draw(convolution_layer(kind, shape, keep))
    if kind == "group norm":
        return Layer(kind, (2, channels)), shape
    if kind == "batch norm 2d":
        return Layer(kind, (channels,)), shape
    if kind and not keep and min(height, width) >= 4:
        return Layer(kind, (2,)), (channels, height // 2, width // 2)
    return shapeless(draw), shape


@st.composite
def convolution_layer(
    draw: Callable[..., Any], kind: str, shape: Shape, keep: bool
) -> tuple[Layer, Shape]:
    """Draw a convolution whose output has at least one element."""
    channels, *sizes = shape
    out = channels if keep else draw(WIDTHS)
    groups = draw(st.sampled_from([n for n in (1, 2, 4) if channels % n == out % n == 0]))
    bias = draw(st.booleans())
    if keep:
        half, dilation = draw(st.integers(0, 1)), draw(st.integers(1, 2))
        settings = (2 * half + 1, 1, half * dilation, dilation)
    else:
        kernel = draw(st.integers(1, min(3, *sizes)))
        dilation = draw(st.integers(1, 2)) if 2 * (kernel - 1) < min(sizes) else 1
        settings = (kernel, draw(st.integers(1, 2)), draw(st.integers(0, kernel // 2)), dilation)
    kernel, stride, padding, dilation = settings
    reach = dilation * (kernel - 1)
    if kind.startswith("ConvTranspose"):
        after = [(size - 1) * stride - 2 * padding + reach + 1 for size in sizes]
    else:
        after = [(size + 2 * padding - reach - 1) // stride + 1 for size in sizes]
    if min(after) < 1:
        return Layer("activation", ("ReLU",)), shape
    return Layer("convolution", (kind, channels, out, *settings, groups, bias)), (out, *after)
