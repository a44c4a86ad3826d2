"""Dense convolutions: filters that need only a part of the channels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from torchgauge.advise.subject import Subject, like, put
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.units import format_number_of

GROUPS = 4
_FEWEST = 16
"""Channels of a group."""
_LEAST_SHARE = 0.1
"""Of the model's MACs, in all of these layers."""


class Grouped:
    """Find dense convolutions with enough channels for groups."""

    name = "grouped-convolution"
    about = "dense convolutions whose filters could each look at a group of the channels"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all layers."""
        found = tuple(
            path
            for path, layer in subject.of_type(nn.Conv2d)
            if path in subject.calls and _can_be_grouped(layer)
        )
        macs = sum(subject.report.modules[path].macs for path in found)
        if not found or macs < _LEAST_SHARE * subject.report.totals.forward_macs:
            yield "dense convolutions of 3 × 3 or more hold less than a tenth of the MACs"
            return
        first = subject.modules[found[0]]
        assert isinstance(first, nn.Conv2d)
        yield Change(
            rule=self.name,
            text=f"split {format_number_of(len(found), 'convolution')} into {GROUPS} groups",
            why=f"each filter of {found[0]} looks at all {first.in_channels} channels; "
            f"in a group it looks at {first.in_channels // GROUPS}",
            where=found,
            accuracy=Accuracy.RETRAIN,
            cost="groups exchange nothing within the layer; ResNeXt makes up for it with wider "
            "layers",
            source="Xie et al., Aggregated Residual Transformations, arXiv 1611.05431",
            snippet=(
                f"nn.Conv2d({first.in_channels}, {first.out_channels}, {first.kernel_size}, "
                f"…, groups={GROUPS})",
            ),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Replace each by a grouped convolution: a filter keeps the weights of its own group."""
        for path in change.where:
            old = model.get_submodule(path)
            if not isinstance(old, nn.Conv2d) or not _can_be_grouped(old):
                raise ValueError(f"{path} is not a dense convolution")
            model = put(model, path, _grouped(old))
        return model


def _can_be_grouped(layer: nn.Conv2d) -> bool:
    channels = (layer.in_channels, layer.out_channels)
    return (
        layer.groups == 1
        and min(layer.kernel_size) >= 3
        and all(count % GROUPS == 0 and count // GROUPS >= _FEWEST for count in channels)
    )


def _grouped(old: nn.Conv2d) -> nn.Conv2d:
    new = like(
        old,
        nn.Conv2d(
            old.in_channels,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]
            stride=old.stride,  # type: ignore[arg-type]
            padding=old.padding,  # type: ignore[arg-type]
            dilation=old.dilation,  # type: ignore[arg-type]
            groups=GROUPS,
            bias=old.bias is not None,
            padding_mode=old.padding_mode,
        ),
    )
    parts = old.weight.detach().chunk(GROUPS)
    kept = [part.chunk(GROUPS, dim=1)[number] for number, part in enumerate(parts)]
    new.weight = nn.Parameter(torch.cat(kept))
    if old.bias is not None:
        new.bias = nn.Parameter(old.bias.detach().clone())
    return new
