"""Many channels where maps are still large: half of the filters of an early convolution."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.advise.rules.chain import BY_CHANNEL, POOLS, convolution_before
from torchgauge.advise.subject import Subject, like, output_of, put
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.trace import Role
from torchgauge.units import format_bytes

_FEWEST_CHANNELS = 32
_LEAST_SHARE = 0.1
"""Of what the forward makes, in the convolution's output."""


class WideEarlyMaps:
    """Find convolutions whose output is a tenth of all activations or more."""

    name = "wide-early-maps"
    about = "convolutions whose output alone is a tenth of all that the forward makes"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield each of them that one other convolution reads."""
        made = sum(
            storage.nbytes
            for storage in subject.trace.storages
            if storage.op >= 0 and storage.role in (Role.SAVED_ACTIVATION, Role.TEMPORARY)
        )
        found = False
        for path, layer in subject.of_type(nn.Conv2d):
            link = convolution_before(subject, path, (*BY_CHANNEL, *POOLS))
            if link is None or layer.groups != 1 or link.layer.groups != 1:
                continue
            call = subject.only_call(link.path)
            output = None if call is None else output_of(call)
            if output is None or link.layer.out_channels < _FEWEST_CHANNELS:
                continue
            if output.nbytes < _LEAST_SHARE * made:
                continue
            found = True
            channels = link.layer.out_channels
            norms = [p for p in link.between if isinstance(subject.modules[p], _BatchNorm)]
            yield Change(
                rule=self.name,
                text=f"halve the {channels} channels of {link.path}",
                why=f"its map of {output.shape[-2]} × {output.shape[-1]} pixels takes "
                f"{format_bytes(output.nbytes)}, a tenth of all activations or more",
                where=(link.path, path, *norms),
                accuracy=Accuracy.RETRAIN,
                cost="the filters with the smallest weights are removed",
                source="Li et al., Pruning Filters for Efficient ConvNets, arXiv 1608.08710",
                snippet=(
                    f"nn.Conv2d({link.layer.in_channels}, {channels // 2}, "
                    f"{link.layer.kernel_size}, …)  # {link.path}",
                    f"nn.Conv2d({channels // 2}, {layer.out_channels}, "
                    f"{layer.kernel_size}, …)  # {path}",
                ),
                keeps_state=False,
            )
        if not found:
            yield (
                f"no convolution of {_FEWEST_CHANNELS} channels or more makes a tenth of all "
                "activations for one other convolution"
            )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Keep the filters with the largest weights, and what belongs to them further on."""
        first, second = (model.get_submodule(path) for path in change.where[:2])
        if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.Conv2d):
            raise ValueError(f"{change.where[0]} and {change.where[1]} are not convolutions")
        weight = first.weight.detach()
        kept = torch.arange(len(weight) // 2, device=weight.device)
        if not weight.is_meta:
            largest = weight.abs().sum(dim=(1, 2, 3)).topk(len(kept)).indices
            kept = largest.sort().values
        model = put(model, change.where[0], _cut(first, kept, dim=0))
        model = put(model, change.where[1], _cut(second, kept, dim=1))
        for path in change.where[2:]:
            model = put(model, path, _cut_norm(model.get_submodule(path), kept))
        return model


def _cut(layer: nn.Conv2d, kept: Tensor, dim: int) -> nn.Conv2d:
    """Return a convolution with some of its filters (0) or of its input channels (1)."""
    weight = layer.weight.detach().index_select(dim, kept)
    new = like(
        layer,
        nn.Conv2d(
            weight.shape[1],
            weight.shape[0],
            layer.kernel_size,  # type: ignore[arg-type]
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
        ),
    )
    new.weight = nn.Parameter(weight)
    if layer.bias is not None:
        bias = layer.bias.detach()
        new.bias = nn.Parameter(bias.index_select(0, kept) if dim == 0 else bias.clone())
    return new


def _cut_norm(norm: nn.Module, kept: Tensor) -> nn.Module:
    if not isinstance(norm, _BatchNorm):
        raise ValueError("what is between the convolutions is not a batch norm")
    new = copy.copy(norm)  # of its class, with what it does besides
    new._parameters, new._buffers = dict(norm._parameters), dict(norm._buffers)
    new.num_features = len(kept)
    for name, tensor in norm.named_parameters(recurse=False):
        new.register_parameter(name, nn.Parameter(tensor.detach().index_select(0, kept)))
    for name, buffer in norm.named_buffers(recurse=False):
        new._buffers[name] = buffer.index_select(0, kept) if buffer.dim() else buffer.clone()
    return new
