"""A dense convolution: one filter per channel, then a mix of the channels."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.subject import Subject, like, put
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy

_FEWEST_CHANNELS = 32
_LEAST_SHARE = 0.1
"""Of the model's MACs, in the layer."""


class DepthwiseSeparable:
    """Find dense convolutions that hold much of the work."""

    name = "depthwise-separable"
    about = "dense convolutions that hold much of the work, instead of separable ones"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield each convolution that does a tenth of the work."""
        for path, layer in subject.of_type(nn.Conv2d):
            if layer.groups != 1 or min(layer.kernel_size) < 3:
                continue
            if min(layer.in_channels, layer.out_channels) < _FEWEST_CHANNELS:
                continue
            macs = subject.report.modules[path].macs if path in subject.report.modules else 0
            if macs < _LEAST_SHARE * subject.report.totals.forward_macs:
                continue
            size = " × ".join(map(str, layer.kernel_size))
            yield Change(
                rule=self.name,
                text=f"make {path} a depthwise {size} and a pointwise 1 × 1 convolution",
                why=f"each of its {layer.out_channels} filters looks at all {layer.in_channels} "
                "channels",
                where=(path,),
                accuracy=Accuracy.RETRAIN,
                cost="MobileNet lost 1.1 points of ImageNet's top-1 against dense convolutions",
                source="Howard et al., MobileNets, arXiv 1704.04861, table 4",
                snippet=(
                    f"nn.Sequential(nn.Conv2d({layer.in_channels}, {layer.in_channels}, "
                    f"{layer.kernel_size}, stride={layer.stride}, padding={layer.padding!r}, "
                    f"groups={layer.in_channels}, bias=False),",
                    f"              nn.Conv2d({layer.in_channels}, {layer.out_channels}, 1"
                    f"{'' if layer.bias is not None else ', bias=False'}))",
                ),
                keeps_state=False,
            )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Put the two convolutions into the place of the one."""
        (path,) = change.where
        old = model.get_submodule(path)
        if not isinstance(old, nn.Conv2d):
            raise ValueError(f"{path} is not a convolution")
        depthwise = nn.Conv2d(
            old.in_channels,
            old.in_channels,
            old.kernel_size,  # type: ignore[arg-type]
            stride=old.stride,  # type: ignore[arg-type]
            padding=old.padding,  # type: ignore[arg-type]
            dilation=old.dilation,  # type: ignore[arg-type]
            groups=old.in_channels,
            bias=False,
            padding_mode=old.padding_mode,
        )
        pointwise = nn.Conv2d(old.in_channels, old.out_channels, 1, bias=old.bias is not None)
        return put(model, path, nn.Sequential(like(old, depthwise), like(old, pointwise)))
