"""What hooks on modules do not see: bare parameters, functional calls, tied weights.

The embedding's weight is also the output projection (one matrix, counted once), the projection
is a bare ``nn.Parameter`` used through ``F.linear``, and attention is a function call.
"""

import torch
import torch.nn.functional as F
from torch import nn


class TinyLanguageModel(nn.Module):
    """One attention block over tokens; input and output share the embedding."""

    def __init__(self, vocabulary: int = 1000, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(vocabulary, width)
        self.qkv = nn.Parameter(torch.zeros(3 * width, width))
        self.output = nn.Linear(width, vocabulary, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(tokens)
        batch, length, width = hidden.shape
        qkv = F.linear(hidden, self.qkv).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))


if __name__ == "__main__":
    import torchgauge as tg

    # A shape is enough: that the input is integers follows from the embedding that takes it.
    report = tg.summary(TinyLanguageModel(), (1, 128))
    length, width, vocabulary = 128, 64, 1000
    assert report.totals.params == vocabulary * width + 3 * width * width
    projection, attention = 3 * length * width * width, 2 * length * length * width
    assert report.totals.forward_macs == projection + attention + length * width * vocabulary
