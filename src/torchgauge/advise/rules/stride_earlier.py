"""A pool that drops three of four pixels which a convolution has just computed."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.rules.chain import BY_CHANNEL, convolution_before
from torchgauge.advise.subject import Subject, in_code, input_of, put
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy

_LEAST_SHARE = 0.05
"""Of the model's MACs, in the convolution."""


class StrideEarlier:
    """Find a convolution of stride 1 followed by a 2 × 2 pool."""

    name = "stride-earlier"
    about = "convolutions whose pixels a pool of 2 × 2 drops, instead of a stride of two"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield each pair."""
        pools = 0
        for path, pool in subject.of_type(nn.MaxPool2d, nn.AvgPool2d):
            if not _halves(pool):
                continue
            pools += 1
            call = subject.only_call(path)
            given = None if call is None else input_of(call)
            link = convolution_before(subject, path, BY_CHANNEL)
            if given is None or link is None or not _has_no_stride(link.layer):
                continue
            if given.shape[-1] % 2 or given.shape[-2] % 2:
                yield f"{path} gets an odd number of pixels"
                continue
            macs = subject.report.modules[link.path].macs
            if macs < _LEAST_SHARE * subject.report.totals.forward_macs:
                yield f"{link.path} holds less than 5 % of the MACs"
                continue
            yield Change(
                rule=self.name,
                text=f"give {link.path} a stride of two and leave out {path}",
                why=f"{link.path} computes four pixels for each that {path} returns",
                where=(link.path, path),
                accuracy=Accuracy.RETRAIN,
                cost="the largest or the mean of four pixels is no longer taken",
                source="Springenberg et al., Striving for Simplicity, arXiv 1412.6806",
                snippet=(
                    f"{in_code(link.path)}.stride = (2, 2)",
                    f"{in_code(path)} = nn.Identity()",
                ),
            )
        if not pools:
            yield "the model has no pool of 2 × 2"

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Set the stride and replace the pool by the identity; the weights stay."""
        path, pool = change.where
        layer = model.get_submodule(path)
        if not isinstance(layer, nn.Conv2d) or not _has_no_stride(layer):
            raise ValueError(f"{path} is not a convolution with a stride of one")
        layer.stride = (2, 2)
        return put(model, pool, nn.Identity())


def _halves(pool: nn.Module) -> bool:
    if not isinstance(pool, (nn.MaxPool2d, nn.AvgPool2d)):
        return False

    def both(value: object) -> object:
        return value if isinstance(value, tuple) else (value, value)

    sizes = both(pool.kernel_size), both(pool.stride), both(pool.padding)
    return sizes == ((2, 2), (2, 2), (0, 0))


def _has_no_stride(layer: nn.Conv2d) -> bool:
    return layer.stride == (1, 1) and layer.padding != "same"
