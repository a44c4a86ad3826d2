"""The steps of random programs: each takes two tensors and a variant, and gives a function of them.

``None`` stands for a step that does not fit the tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

BLOCKS = ("autocast", "no grad", "frozen", "checkpoint", "twice", "thread", "threads")
WIDTHS = (32, 64, 48, 17)
Make = Callable[[torch.Tensor, torch.Tensor, int], Any]


class Fn(nn.Module):
    """A module around a function of what it holds and its arguments."""

    def __init__(self, function: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return self.function(self, x, y)


def one(module: nn.Module) -> Callable[..., Any]:
    """Let a module of one argument take two."""
    return First(module)


class First(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor, _: Any = None) -> Any:
        return self.module(x)


def only_first(function: Callable[[torch.Tensor], Any]) -> Make:
    """Return a step without variants."""
    return lambda x, y, n: lambda x, y: function(x)


def pick(*functions: Callable[[torch.Tensor, torch.Tensor], Any]) -> Make:
    """Return a step whose variant is one of some functions of two tensors."""
    return lambda x, y, n: functions[n % len(functions)]


def floats(make: Make) -> Make:
    """Let a step fit tensors of floats alone."""
    return lambda x, y, n: make(x, y, n) if x.is_floating_point() and x.dim() else None


def bit(n: int, index: int) -> int:
    return (n >> index) & 1


# ------------------------------------------------------------------------ layers


class Linear(nn.Linear):
    """A linear layer that ignores a second argument."""

    def forward(self, x: torch.Tensor, _: Any = None) -> torch.Tensor:
        return super().forward(x)


def linear(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    return Linear(x.shape[-1], WIDTHS[n % 4], bias=not bit(n, 2))


def conv(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    if not 3 <= x.dim() <= 5:
        return None
    channels = x.shape[1]
    kernel = (1, 3)[bit(n, 0)]
    groups = channels if bit(n, 3) else 1
    out = channels if groups > 1 else (8, 16)[bit(n, 4)]
    name = ("Conv", "ConvTranspose")[bit(n, 5)] + f"{x.dim() - 2}d"
    kind = getattr(nn, name)
    return one(
        kind(channels, out, kernel, 1 + bit(n, 1), kernel // 2, groups=groups, bias=bit(n, 2) == 0)
    )


def norm(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    kind = n % 5
    if kind == 0:
        return one(nn.LayerNorm(x.shape[-1], elementwise_affine=bit(n, 4) == 0))
    if kind == 1:
        return one(nn.RMSNorm(x.shape[-1]))
    if not 2 <= x.dim() <= 5:
        return None
    if kind == 2:
        name = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}[x.dim()]
        return one(getattr(nn, name)(x.shape[1]))
    if kind == 3:
        return one(nn.GroupNorm(2 if x.shape[1] % 2 == 0 else 1, x.shape[1]))
    if x.dim() < 3:
        return None
    return one(getattr(nn, f"InstanceNorm{x.dim() - 2}d")(x.shape[1], affine=bool(bit(n, 4))))


def pool(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    if not 3 <= x.dim() <= 5:
        return None
    rank = x.dim() - 2
    name = ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool")[n % 4]
    return one(getattr(nn, f"{name}{rank}d")(2))


ACTIVATIONS = ("ReLU", "GELU", "SiLU", "Sigmoid", "Tanh", "LeakyReLU", "ELU", "Hardswish",
               "Softplus", "Mish")  # fmt: skip


def activation(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    return one(getattr(nn, ACTIVATIONS[n % len(ACTIVATIONS)])())


def attention(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    if x.dim() != 3 or x.shape[-1] % 4:
        return None
    module = nn.MultiheadAttention(
        x.shape[-1], (1, 2, 4)[n % 3], dropout=0.1 * bit(n, 2), batch_first=bool(bit(n, 3))
    )
    return Fn(lambda self, x, y: self.m(x, x, x, need_weights=bool(bit(n, 4)))[0], m=module)


def heads(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    """Attention as a function, over views."""
    if x.dim() != 3 or x.shape[-1] % 4:
        return None

    def attend(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        q = x.view(*x.shape[:2], 4, -1).transpose(1, 2)
        if bit(n, 0):
            out = (q @ q.transpose(-2, -1)).softmax(-1) @ q
        else:
            mask = (
                torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril() if bit(n, 2) else None
            )
            out = F.scaled_dot_product_attention(
                q, q, q, mask, is_causal=bool(bit(n, 1)) and mask is None
            )
        return out.transpose(1, 2).reshape(x.shape)

    return attend


def encoder(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    if x.dim() != 3 or x.shape[-1] % 4:
        return None
    return one(nn.TransformerEncoderLayer(
        x.shape[-1], 4, 48, dropout=0.1 * bit(n, 0), batch_first=True, norm_first=bool(bit(n, 1)),
        activation="gelu" if bit(n, 2) else "relu",
    ))  # fmt: skip


def embedding(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    if x.dtype != torch.int64 or x.dim() != 2:
        return None
    if bit(n, 0):
        return one(nn.EmbeddingBag(50, 64, mode=("sum", "mean", "max")[n // 2 % 3]))
    return one(nn.Embedding(50, WIDTHS[n // 2 % 4], padding_idx=0 if bit(n, 3) else None))


def recurrent(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    if x.dim() != 3:
        return None
    kind = getattr(nn, ("LSTM", "GRU", "RNN")[n % 3])
    first = bool(bit(n, 2))
    module = kind(x.shape[-1], 32, 1 + bit(n, 3), batch_first=first, bidirectional=bool(bit(n, 4)))
    if not bit(n, 5):
        return Fn(lambda self, x, y: self.m(x)[0], m=module)
    batch, length = x.shape[:2] if first else x.shape[1::-1]
    lengths = [max(1, length - i % 3 * (length // 4)) for i in range(batch)]
    if bit(n, 0):
        lengths.sort(reverse=True)

    def packed(self: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        given = torch.tensor(lengths)
        inputs = pack_padded_sequence(x, given, batch_first=first, enforce_sorted=bool(bit(n, 0)))
        return pad_packed_sequence(self.m(inputs)[0], batch_first=first)[0]

    return Fn(packed, m=module)


def cell(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    if x.dim() != 2:
        return None
    module = getattr(nn, ("LSTMCell", "GRUCell", "RNNCell")[n % 3])(x.shape[-1], 32)

    def run(self: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        state = None
        for _ in range(1 + bit(n, 3)):
            state = self.m(x, state)
        return state[0] if isinstance(state, tuple) else state

    return Fn(run, m=module)


def parameter(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    """A bare parameter or buffer: scale, shift, product."""
    value = torch.rand(x.shape[-1]) if n % 4 < 3 else torch.rand(x.shape[-1], 32)
    held = {"p": nn.Parameter(value)}
    functions = (
        lambda self, x, y: x * self.p,
        lambda self, x, y: x + self.p,
        lambda self, x, y: x / self.p,
        lambda self, x, y: x @ self.p,
    )
    return Fn(functions[n % 4], **held)


def dropout(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
    return one(nn.Dropout(0.25, inplace=bool(bit(n, 0))))


# ------------------------------------------------------------------------ functions

VIEWS = pick(
    lambda x, y: x.reshape(x.shape[0], -1),
    lambda x, y: x.view(-1, x.shape[-1]),
    lambda x, y: x.transpose(-1, -2),
    lambda x, y: x.transpose(0, 1),
    lambda x, y: x.narrow(0, 0, max(1, x.shape[0] // 2)),
    lambda x, y: x[..., ::2],
    lambda x, y: x[..., 1:],
    lambda x, y: x.unsqueeze(1),
    lambda x, y: x.squeeze(),
    lambda x, y: x[:, :1].expand(x.shape),
    lambda x, y: x.as_strided((x.shape[0], 4), (x.stride(0), 1)),
    lambda x, y: x.chunk(2, -1)[-1],
    lambda x, y: x.unfold(-1, 4, 2),
    lambda x, y: x.detach(),
    lambda x, y: x[0],
    lambda x, y: x.permute(*reversed(range(x.dim()))),
    lambda x, y: x.flatten(1),
    lambda x, y: x.view_as(x),
    lambda x, y: x.diagonal(dim1=-2, dim2=-1),
    lambda x, y: x.movedim(-1, 1),
)
ARITHMETIC = pick(
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x - y,
    lambda x, y: x / (y + 2),
    lambda x, y: torch.maximum(x, y),
    lambda x, y: x @ y.transpose(-1, -2),
    lambda x, y: torch.cat((x, y), -1),
    lambda x, y: torch.stack((x, y)),
    lambda x, y: torch.where(x > 0.5, x, y),
    lambda x, y: torch.einsum("...i,...i->...", x, y),
    lambda x, y: F.mse_loss(x, y, reduction="none"),
    lambda x, y: torch.addcmul(x, x, y, value=0.5),
    lambda x, y: torch.lerp(x, y, 0.3),
    lambda x, y: torch.cat((x, y, x), 0),
)
FUNCTIONS = pick(
    lambda x, y: x * 2,
    lambda x, y: x * 0.5 + 1,
    lambda x, y: x**2,
    lambda x, y: x.exp(),
    lambda x, y: x.softmax(-1),
    lambda x, y: x.log_softmax(-1),
    lambda x, y: x.sum(-1),
    lambda x, y: x.mean((0, -1), keepdim=True),
    lambda x, y: x.cumsum(-1),
    lambda x, y: x.var(-1),
    lambda x, y: x.sort(-1)[0],
    lambda x, y: x.topk(4, -1)[0],
    lambda x, y: x.max(-1)[0],
    lambda x, y: x.amax(-1, keepdim=True),
    lambda x, y: x.logsumexp(-1),
    lambda x, y: x.norm(dim=-1),
    lambda x, y: F.normalize(x, dim=-1),
    lambda x, y: x.contiguous(),
    lambda x, y: x.clone(),
    lambda x, y: x.abs().sqrt(),
    lambda x, y: x.flip(0),
    lambda x, y: x.roll(1, -1),
    lambda x, y: x.repeat(2, *(1,) * (x.dim() - 1)),
    lambda x, y: x.tril(),
    lambda x, y: F.pad(x, (1, 2)),
    lambda x, y: x.clamp(0.1, 0.9),
    lambda x, y: x[torch.arange(x.shape[0]).flip(0)],
    lambda x, y: x.gather(-1, torch.zeros_like(x, dtype=torch.int64)),
    lambda x, y: x.index_select(0, torch.tensor([0, 0])),
    lambda x, y: x.masked_fill(x > 0.5, 0.0),
    lambda x, y: F.glu(x, -1),
    lambda x, y: x.repeat_interleave(2, 0),
    lambda x, y: F.interpolate(x, scale_factor=2),
    lambda x, y: x.sin() * x.cos(),
)
CONSTANTS = pick(
    lambda x, y: torch.ones(x.shape),
    lambda x, y: torch.zeros_like(x),
    lambda x, y: torch.full((64,), 0.5),
    lambda x, y: torch.randn(x.shape[-1], x.shape[-1]),
    lambda x, y: torch.arange(x.shape[-1], dtype=torch.float32),
    lambda x, y: x + torch.linspace(0, 1, x.shape[-1]),
    lambda x, y: x + torch.rand_like(x),
    lambda x, y: x.new_zeros(4, 64),
    lambda x, y: x * torch.tensor(0.5),
    lambda x, y: torch.eye(x.shape[-1]),
)
CASTS = pick(
    lambda x, y: x.float(),
    lambda x, y: x.to(torch.bfloat16),
    lambda x, y: x.double(),
    lambda x, y: x.type_as(y),
    lambda x, y: x.to(x.dtype),
    lambda x, y: x > 0.5,
    lambda x, y: x.long() % 50,
)


def last(function: Callable[[torch.Tensor, torch.Tensor], Any]) -> Any:
    """Return a function that gives nothing back: what it did is in its argument."""

    def run(x: torch.Tensor, y: torch.Tensor) -> None:
        function(x, y)

    return run


IN_PLACE = pick(*(last(function) for function in (
    lambda x, y: x.relu_(),
    lambda x, y: x.add_(1),
    lambda x, y: x.mul_(0.5),
    lambda x, y: x.add_(y),
    lambda x, y: x.mul_(y),
    lambda x, y: x.clamp_(0.1, 0.9),
    lambda x, y: x[..., :2].zero_(),
    lambda x, y: x.narrow(0, 0, 1).fill_(1),
    lambda x, y: x.copy_(y),
    lambda x, y: x.sigmoid_(),
    lambda x, y: x.masked_fill_(x > 0.5, 0.0),
    lambda x, y: x.__setitem__((..., 0), 1.0),
    lambda x, y: x.__setitem__(0, y[0]),
    lambda x, y: x.view(-1).add_(1),
    lambda x, y: x.div_(2),
    lambda x, y: x.addcmul_(x, y),
    lambda x, y: x.transpose_(-1, -2),
    lambda x, y: x.unsqueeze_(0),
    lambda x, y: x.index_add_(0, torch.tensor([0]), y[:1]),
    lambda x, y: x.index_fill_(0, torch.tensor([0]), 0.0),
    lambda x, y: x.exp_(),
    lambda x, y: x.zero_(),
)))  # fmt: skip

STEPS: dict[str, Make] = {
    "linear": floats(linear),
    "conv": floats(conv),
    "norm": floats(norm),
    "pool": floats(pool),
    "activation": floats(activation),
    "dropout": floats(dropout),
    "attention": floats(attention),
    "heads": floats(heads),
    "encoder": floats(encoder),
    "embedding": embedding,
    "recurrent": floats(recurrent),
    "cell": floats(cell),
    "parameter": floats(parameter),
    "view": VIEWS,
    "alias": only_first(lambda x: x),
    "arithmetic": floats(ARITHMETIC),
    "function": floats(FUNCTIONS),
    "constant": floats(CONSTANTS),
    "cast": CASTS,
    "in place": floats(IN_PLACE),
}
