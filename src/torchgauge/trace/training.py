"""Losses, optimizers and checkpointing of a training scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from torchgauge.errors import ScenarioError
from torchgauge.report.scenario import CUSTOM_LOSS
from torchgauge.trace.describe import tensors_in

_OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 1e-3}),
    "sgd-momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "adadelta": ("Adadelta", {}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "asgd": ("ASGD", {}),
    "rprop": ("Rprop", {}),
    "adafactor": ("Adafactor", {}),
}
"""Class in ``torch.optim`` and settings that differ from its defaults."""


def make_optimizer(name: str, parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer | None:
    """Return the optimizer of that name over the trainable parameters.

    The default implementation of a CPU is used: one loop over the parameters.
    """
    if name == "none":
        return None
    kind, settings = _OPTIMIZERS[name]
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if not trainable:
        raise ScenarioError(
            "no parameter requires a gradient, so there is nothing to train",
            hint="unfreeze a layer, or analyse with mode='inference'",
        )
    optimizer: torch.optim.Optimizer = getattr(torch.optim, kind)(trainable, **settings)
    return optimizer


def compute_loss(
    output: Any, name: str, custom: Callable[[Any], torch.Tensor] | None
) -> tuple[torch.Tensor, str]:
    """Return a scalar loss of the model's output, and a sentence that says which."""
    if custom is not None:
        loss = custom(output)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise ScenarioError(
                "the loss function did not return a tensor with one element",
                hint="reduce it, for example with .mean()",
            )
        return loss, ""
    if name.startswith(CUSTOM_LOSS):
        function = name.removeprefix(CUSTOM_LOSS)
        raise ScenarioError(
            f"the scenario's loss {function!r} is a function that was not given",
            hint="pass it as loss=function",
        )
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if name == "auto" and isinstance(own, torch.Tensor) and own.requires_grad:
        return own, "loss: the one that the model returns"
    floats = [t for t in tensors_in(output) if t.requires_grad and t.is_floating_point()]
    if not floats:
        raise ScenarioError(
            "no output depends on a trainable parameter, so there is no gradient to compute",
            hint="return a floating-point tensor, unfreeze a layer, or use mode='inference'",
        )
    if name in ("cross_entropy", "mse"):
        return _against_target(floats[0], name), f"loss: {name} of the first output, target zeros"
    reduce = torch.sum if name == "sum" else torch.mean
    loss = reduce(floats[0])
    for tensor in floats[1:]:
        loss = loss + reduce(tensor)
    verb = "sum" if name == "sum" else "mean"
    return loss, f"loss: {verb} of all outputs, in place of the real loss"


def _against_target(output: torch.Tensor, name: str) -> torch.Tensor:
    if name == "mse":
        return functional.mse_loss(output, torch.zeros_like(output))
    if output.dim() == 3:  # tokens: [B, S, V] with the classes last
        output = output.flatten(0, 1)
    if output.dim() < 2:
        raise ScenarioError(
            f"cross_entropy needs an output of shape [B, classes, ...], got {tuple(output.shape)}",
            hint="use another loss, or pass loss=callable",
        )
    shape = (output.shape[0], *output.shape[2:])
    target = torch.zeros(shape, dtype=torch.int64, device=output.device)
    return functional.cross_entropy(output, target)


def checkpoint_blocks(root: nn.Module) -> int:
    """Checkpoint each repeated block of a (twin) model; return how many there are.

    A block is a child of a ``ModuleList`` or ``Sequential`` that has siblings of its class,
    children and parameters: the layers of a transformer, the blocks of a ResNet stage.
    """
    count = 0
    for module in root.modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)):
            continue
        kinds = Counter(type(child) for child in module.children())
        for child in module.children():
            repeated = kinds[type(child)] > 1 and any(True for _ in child.children())
            if repeated and any(True for _ in child.parameters()):
                child.__dict__["forward"] = partial(checkpoint, child.forward, use_reentrant=False)
                count += 1
    return count
