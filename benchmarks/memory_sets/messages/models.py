"""Builders of the models of the messages, without weights; plain where a text has plain code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from torchgauge.models.torchvision_operators import define_missing_operators

EARLY = "early"
"""The name of :func:`early_attention` among the attentions of transformers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GptSize:
    """The numbers of a GPT-2."""

    layers: int
    width: int
    heads: int
    vocab: int = 50_257


GPT2 = GptSize(layers=12, width=768, heads=12)
GPT2_LARGE = GptSize(layers=36, width=1280, heads=20)
GPT2_XL = GptSize(layers=48, width=1600, heads=25)


class EarlySoftmax(torch.autograd.Function):
    """Softmax over the last dimension as PyTorch had it before 1.11: it keeps its input as well.

    Its derivative took the input for the sake of its dtype (``_softmax`` in PyTorch's
    ``tools/autograd/derivatives.yaml``), which now names ``self.scalar_type()`` instead.
    """

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor) -> torch.Tensor:
        """Return the weights."""
        weights = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(scores, weights)
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the scores."""
        scores, weights = ctx.saved_tensors
        found: torch.Tensor = torch.ops.aten._softmax_backward_data(
            gradient, weights, -1, scores.dtype
        )
        return found


def early_softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return the weights; half precision is cast to float32 first, as autocast does."""
    weights: torch.Tensor = EarlySoftmax.apply(scores.float())  # type: ignore[no-untyped-call]
    return weights


def early_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend an operator at a time with :func:`early_softmax`, as transformers calls it."""
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(query.shape[-1])
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = functional.dropout(early_softmax(scores), dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def of_transformers(
    config: str, model: str, dtype: str = "float32", attention: str = EARLY, **settings: Any
) -> nn.Module:
    """Return a model of transformers with the attention of its day."""
    define_missing_operators()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.AttentionInterface.register(EARLY, early_attention)
    masks = transformers.AttentionMaskInterface
    masks.register(EARLY, transformers.masking_utils.eager_mask)
    made = getattr(transformers, config)(attn_implementation=attention, **settings)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        built: nn.Module = getattr(transformers, model)(made)
    finally:
        torch.set_default_dtype(before)
    return built


def conv3d(source: int, output: int, padding: int, dtype: str) -> nn.Module:
    """Return one convolution of volumes with a window of 3 x 3 x 3."""
    return nn.Conv3d(source, output, 3, padding=padding, dtype=getattr(torch, dtype))


class Distances(nn.Module):
    """Distances between two sets of points that both get gradients; the input is not used."""

    def __init__(self, count: int, points: int, width: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(count, points, width))
        self.second = nn.Parameter(torch.empty(count, points, width))

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """Return ``[count, points, points]``."""
        return torch.cdist(self.first, self.second)


# ------------------------------------------------------------------------------ GPT-2 by hand


class Gpt(nn.Module):
    """GPT-2 with its loss, as the libraries of a day wrote it.

    ``attention``: ``"multiply"`` masks the scores by a product, as transformers did until April
    2020, ``"where"`` as it did afterwards, ``"fill"`` as nanoGPT does without PyTorch 2 and
    ``"fused"`` as it does with it.
    """

    HUGGING_FACE: ClassVar = ("multiply", "where")

    def __init__(
        self, size: GptSize, attention: str, dropout: float = 0.1, bias: bool = True
    ) -> None:
        super().__init__()
        width = size.width
        self.of_transformers = attention in self.HUGGING_FACE
        self.tokens = nn.Embedding(size.vocab, width)
        self.places = nn.Embedding(1024, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            GptBlock(width, size.heads, attention, dropout, bias) for _ in range(size.layers)
        )
        self.norm = nn.LayerNorm(width, bias=bias)
        self.head = nn.Linear(width, size.vocab, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        """Return the loss and what else the library returned."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.dropout(self.tokens(input_ids) + self.places(places))
        kept = []
        for block in self.blocks:
            hidden, past = block(hidden)
            kept.append(past)
        logits = self.head(self.norm(hidden))
        shown, wanted = logits, labels
        if self.of_transformers:
            shown, wanted = logits[:, :-1].contiguous(), labels[:, 1:].contiguous()
        loss = functional.cross_entropy(shown.view(-1, shown.shape[-1]), wanted.reshape(-1))
        return {"loss": loss, "logits": logits, "past": [past for past in kept if past is not None]}


class GptBlock(nn.Module):
    """Attention and feed-forward part, each after a norm and added to its input."""

    def __init__(self, width: int, heads: int, attention: str, dropout: float, bias: bool) -> None:
        super().__init__()
        self.first_norm, self.second_norm = (nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.attention = GptAttention(width, heads, attention, dropout, bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the new hidden states, and keys and values where they are kept."""
        attended, past = self.attention(self.first_norm(hidden))
        hidden = hidden + attended
        raised = _gelu(self.up(self.second_norm(hidden)))
        return hidden + self.dropout(self.down(raised)), past


class GptAttention(nn.Module):
    """Causal attention with the scores masked in the way that ``Gpt`` names."""

    def __init__(self, width: int, heads: int, kind: str, dropout: float, bias: bool) -> None:
        super().__init__()
        self.triangle: torch.Tensor
        self.heads, self.kind, self.probability = heads, kind, dropout
        self.together = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.score_dropout, self.dropout = nn.Dropout(dropout), nn.Dropout(dropout)
        if kind != "fused":
            dtype = torch.uint8 if kind == "where" else torch.float32
            triangle = torch.ones(1, 1, 1024, 1024, dtype=dtype).tril()
            self.register_buffer("triangle", triangle)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what is added to the input, and keys and values where they are kept."""
        batch, length, width = hidden.shape
        query, key, value = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.together(hidden).split(width, dim=2)
        )
        past = torch.stack((key, value)) if self.kind in Gpt.HUGGING_FACE else None
        if self.kind == "fused":
            mixed = functional.scaled_dot_product_attention(
                query, key, value, dropout_p=self.probability * self.training, is_causal=True
            )
        else:
            scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(value.shape[-1])
            masked = self._masked(scores)
            # nanoGPT's "fill" needs PyTorch 1.12.
            soft = early_softmax(masked) if self.kind in Gpt.HUGGING_FACE else masked.softmax(-1)
            weights = self.score_dropout(soft)
            mixed = torch.matmul(weights, value)
        merged = mixed.transpose(1, 2).contiguous().view(batch, length, width)
        return self.dropout(self.out(merged)), past

    def _masked(self, scores: torch.Tensor) -> torch.Tensor:
        length = scores.shape[-1]
        seen = self.triangle[:, :, :length, :length]
        if self.kind == "multiply":
            return scores * seen - 1e4 * (1 - seen)
        if self.kind == "where":
            lowest = torch.tensor(-1e4, dtype=scores.dtype, device=scores.device)
            return torch.where(seen.bool(), scores, lowest)
        return scores.masked_fill(seen == 0, float("-inf"))


def _gelu(x: torch.Tensor) -> torch.Tensor:
    """Return GELU by its formula with tanh, an operator at a time."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))
    return 0.5 * x * (1 + torch.tanh(inner))
