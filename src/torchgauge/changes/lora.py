"""Low-rank adapters in a copy of a model: only they are trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torchgauge.changes.ideas import RANK
from torchgauge.errors import UsageError

_SHARE = 0.5
"""Of the parameters that must lie in adapted layers; below, adapters do not help the model."""


class Adapted(nn.Module):
    """A frozen ``Linear`` with ``B(A(x))`` beside it, A ``[rank, in]``, B ``[out, rank]``.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685;
    the order of the operators is that of ``lora.Linear.forward`` in PEFT, without dropout.
    """

    def __init__(self, base: nn.Module, rank: int) -> None:
        super().__init__()
        kind = {"device": self._weight_of(base).device, "dtype": self._weight_of(base).dtype}
        features_in, features_out = _features(base)
        self.base = base
        self.lora_a = nn.Linear(features_in, rank, bias=False, **kind)
        self.lora_b = nn.Linear(rank, features_out, bias=False, **kind)

    @staticmethod
    def _weight_of(base: nn.Module) -> torch.Tensor:
        weight = base.weight
        assert isinstance(weight, torch.Tensor)
        return weight

    @property
    def weight(self) -> torch.Tensor:
        """Return the frozen weight: models look at its dtype."""
        return self._weight_of(self.base)

    @property
    def bias(self) -> Any:
        """Return the frozen bias, if there is one."""
        return self.base.bias

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        """``[..., in] → [..., out]``."""
        result: torch.Tensor = self.base(source)
        result = result + self.lora_b(self.lora_a(source)) * 2.0
        return result


def why_not(model: nn.Module) -> str:
    """Return why a model has no use for adapters, in a few words; ``""`` where it has."""
    places = _linear_layers(model)
    if any(nn.parameter.is_lazy(getattr(parent, name).weight) for parent, name in places):
        return "a lazy linear layer has no size before the first forward"
    weights = sum(getattr(parent, name).weight.numel() for parent, name in places)
    total = sum(p.numel() for p in model.parameters() if not nn.parameter.is_lazy(p))
    if weights < _SHARE * total:
        share = 100 * weights / max(total, 1)
        return f"linear layers hold only {share:.0f} % of the parameters"
    return ""


def adapt(model: nn.Module, rank: int = RANK) -> None:
    """Adapt the linear layers of a copy and freeze the rest.

    As PEFT's ``target_modules="all-linear"``: every linear layer but the output layer of a
    language model. The copy may share its tensors with the model: they stay as they are.

    Raises:
        UsageError: the model has no use for adapters.
    """
    if reason := why_not(model):
        raise UsageError(reason, hint="train all parameters")
    _freeze(model)
    replaced: dict[int, Adapted] = {}
    for parent, name in _linear_layers(model):
        layer = getattr(parent, name)
        if id(layer) not in replaced:
            replaced[id(layer)] = Adapted(layer, rank)
        setattr(parent, name, replaced[id(layer)])


def _freeze(model: nn.Module) -> None:
    """Put frozen parameters into the place of all, each over the same elements."""
    frozen: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None or not parameter.requires_grad:
                continue
            if id(parameter) not in frozen:
                frozen[id(parameter)] = _frozen(parameter)
            module._parameters[name] = frozen[id(parameter)]


def _frozen(parameter: Any) -> nn.Parameter:
    if nn.parameter.is_lazy(parameter):
        lazy: Any = nn.parameter.UninitializedParameter
        made: nn.Parameter = lazy(False, parameter.device, parameter.dtype)
        return made
    return nn.Parameter(parameter.detach(), requires_grad=False)


def _linear_layers(root: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return where the layers to adapt are: their parents and names there."""
    find = getattr(root, "get_output_embeddings", None)
    try:
        head = find() if callable(find) else None
    except NotImplementedError:
        head = None
    places = []
    for parent in root.modules():
        if isinstance(parent, (nn.MultiheadAttention, torch.jit.ScriptModule)):
            continue  # takes its layer's weight, not the layer
        for name, child in parent.named_children():
            if child is not head and (isinstance(child, nn.Linear) or _is_conv1d(child)):
                places.append((parent, name))
    return places


def _is_conv1d(module: nn.Module) -> bool:
    """Return whether it is the linear layer of GPT-2 in transformers, its weight transposed."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"


def _features(layer: nn.Module) -> tuple[int, int]:
    """Return how many numbers go into a layer and how many come out."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight.shape[0], weight.shape[1]
