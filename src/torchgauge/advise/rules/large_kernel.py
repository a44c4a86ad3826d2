"""A large kernel as several 3 × 3 convolutions that see the same pixels."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.subject import Subject, like, put
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy

_LEAST_SHARE = 0.02
"""Of the model's MACs, in the layer."""


class LargeKernel:
    """Find dense convolutions with square kernels of 5 × 5 or more."""

    name = "large-kernel"
    about = "dense convolutions of 5 × 5 or more, instead of several of 3 × 3"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield each layer that several smaller ones do for less."""
        for path, layer in subject.of_type(nn.Conv2d):
            size = layer.kernel_size[0]
            if not _fits(layer):
                continue
            count = (size - 1) // 2
            inner = layer.out_channels
            before = layer.in_channels * size * size
            after = 9 * (layer.in_channels + (count - 1) * inner)
            if after >= before:
                yield f"{path} has too few input channels: {count} convolutions take more"
                continue
            macs = subject.report.modules[path].macs if path in subject.report.modules else 0
            if macs < _LEAST_SHARE * subject.report.totals.forward_macs:
                continue
            yield Change(
                rule=self.name,
                text=f"replace the {size} × {size} convolution {path} by {count} of 3 × 3",
                why=f"they see the same pixels with {after} instead of {before} weights a filter",
                where=(path,),
                accuracy=Accuracy.RETRAIN,
                cost="other weights; VGG found higher accuracy after training",
                source="Simonyan, Zisserman, Very Deep Networks, arXiv 1409.1556, section 2.3",
                snippet=(
                    f"nn.Sequential(nn.Conv2d({layer.in_channels}, {inner}, 3, "
                    f"stride={layer.stride}, padding=1), nn.ReLU(), …)  # {count} in all",
                ),
                keeps_state=False,
            )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Put the small convolutions into the place of the large one."""
        (path,) = change.where
        old = model.get_submodule(path)
        if not isinstance(old, nn.Conv2d) or not _fits(old):
            raise ValueError(f"{path} is not a convolution with a large kernel")
        parts: list[nn.Module] = []
        count = (old.kernel_size[0] - 1) // 2
        for number in range(count):
            is_last = number == count - 1
            made = nn.Conv2d(
                old.in_channels if number == 0 else old.out_channels,
                old.out_channels,
                3,
                stride=old.stride if number == 0 else 1,  # type: ignore[arg-type]
                padding=1,
                bias=old.bias is not None or not is_last,
                padding_mode=old.padding_mode,
            )
            parts += [like(old, made)] if is_last else [like(old, made), nn.ReLU()]
        return put(model, path, nn.Sequential(*parts))


def _fits(layer: nn.Conv2d) -> bool:
    """Return whether the output keeps its size: an odd square kernel, padded by half of it."""
    size = layer.kernel_size[0]
    return (
        layer.groups == 1
        and size >= 5
        and size % 2 == 1
        and layer.kernel_size == (size, size)
        and layer.dilation == (1, 1)
        and layer.padding in ((size // 2, size // 2), "same")
    )
