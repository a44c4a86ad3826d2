"""Models that an analysis might change, and everything about one that it must not."""

from __future__ import annotations

import gc
import random
from typing import Any

import numpy as np
import torch
from torch import nn


class Moody(nn.Module):
    """BatchNorm, dropout, a frozen part, a hook, a counter; fails or is interrupted on demand."""

    def __init__(self, raises: type[BaseException] | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.Linear(4, 2)
        self.raises = raises
        self.count = 0
        self.seen: list[Any] = []
        self.features[1].eval()
        self.features[0].weight.requires_grad_(False)
        self.head.register_forward_hook(lambda module, args, output: output * 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.seen.append(x)
        self.last = self.features(x).mean((2, 3))
        if self.raises is not None:
            raise self.raises("on demand")
        return self.head(self.last)


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and the process that an analysis might change."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "identity": {name: id(tensor) for name, tensor in tensors.items()},
        "values": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        "versions": {name: tensor._version for name, tensor in tensors.items()},
        "grads": {n: None if p.grad is None else p.grad.clone() for n, p in tensors.items()},
        "requires_grad": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "flags": {name: module.training for name, module in model.named_modules()},
        "types": {name: type(module) for name, module in model.named_modules()},
        "attributes": {n: sorted(module.__dict__) for n, module in model.named_modules()},
        "hooks": {n: len(m._forward_hooks) + len(m._forward_pre_hooks)
                  for n, m in model.named_modules()},
        "keys": list(model.state_dict()),
        "plain": (getattr(model, "count", 0), len(getattr(model, "seen", []))),
        "rng": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()),
        "grad mode": torch.is_grad_enabled(),
        "collector": gc.isenabled(),
        "default dtype": torch.get_default_dtype(),
    }  # fmt: skip


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


class Talks(nn.Module):
    """Prints in its forward, as one does to look at shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("seen", tuple(x.shape))
        return self.layer(x)
