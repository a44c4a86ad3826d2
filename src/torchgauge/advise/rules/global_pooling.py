"""A linear layer that reads every pixel of a map: average the pixels first."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.subject import Subject, input_of, like, put
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.trace import OpRecord
from torchgauge.units import format_integer

_LEAST_SHARE = 0.05
"""Of the model's parameters, in the layer: below, it is not worth training again."""


class GlobalPooling:
    """Find ``flatten`` followed by a wide linear layer."""

    name = "global-pooling"
    about = "flatten and a linear layer over all pixels, instead of an average over them"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield each linear layer that reads a flattened map."""
        for path, layer in subject.of_type(nn.Linear):
            shape = _map_behind(subject, path)
            if shape is None or shape[0] * shape[1] * shape[2] != layer.in_features:
                continue
            before = layer.weight.numel()
            if before < _LEAST_SHARE * subject.report.totals.params:
                yield f"{path} holds less than 5 % of the parameters"
                continue
            channels, height, width = shape
            yield Change(
                rule=self.name,
                text=f"average the {height} × {width} pixels before {path}",
                why=f"{path} reads {format_integer(layer.in_features)} inputs; "
                f"after an average it reads {channels}",
                where=(path,),
                settings={"channels": channels, "height": height, "width": width},
                accuracy=Accuracy.RETRAIN,
                cost="the classifier no longer sees where something is in the image",
                source="Lin, Chen, Yan, Network In Network, ICLR 2014, section 3.2",
                snippet=(
                    "x = torch.nn.functional.adaptive_avg_pool2d(x, 1)  # before flatten",
                    f"nn.Linear({channels}, {layer.out_features})",
                ),
                keeps_state=False,
            )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Put the average into the place of the layer: its input is flat already."""
        (path,) = change.where
        layer = model.get_submodule(path)
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{path} is not a linear layer")
        settings = change.settings
        channels = settings["channels"]
        small = nn.Linear(channels, layer.out_features, bias=layer.bias is not None)
        put(
            model,
            path,
            nn.Sequential(
                nn.Unflatten(1, (channels, settings["height"], settings["width"])),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(1),
                like(layer, small),
            ),
        )


def _map_behind(subject: Subject, path: str) -> tuple[int, int, int] | None:
    """Return the shape of the map that a layer reads flattened: channels, height, width."""
    call = subject.only_call(path)
    given = None if call is None else input_of(call)
    if call is None or given is None or len(given.shape) != 2:
        return None
    for op in subject.trace.ops[call.first_op : call.end_op]:
        for storage in op.reads:
            for writer in subject.writers.get(storage, ()):
                for spec in writer.outputs:
                    shape = spec.shape
                    if writer.index < op.index and len(shape) == 4 and shape[2] * shape[3] > 1:
                        is_map = _makes_maps(subject, writer)
                        return (shape[1], shape[2], shape[3]) if is_map else None
    return None


def _makes_maps(subject: Subject, op: OpRecord, depth: int = 8) -> bool:
    """Return whether an operator's output has channels, height and width, in this order.

    That of a convolution, a pool or a batch norm has, and what is computed element by element from
    such; a copy may have its axes in another order, and so may a product.
    """
    name = op.name.removeprefix("aten.").partition(".")[0]
    if any(kind in name for kind in _MAKERS):
        return True
    if depth == 0 or not any(kind in name for kind in _ELEMENTWISE):
        return False
    shape = op.outputs[0].shape if op.outputs else ()
    before = (
        writer
        for storage in op.reads
        for writer in subject.writers.get(storage, ())
        if writer.index < op.index and any(spec.shape == shape for spec in writer.outputs)
    )
    return any(_makes_maps(subject, writer, depth - 1) for writer in before)


_MAKERS = ("conv", "pool", "batch_norm", "upsample")
_ELEMENTWISE = (
    "relu", "elu", "silu", "sigmoid", "swish", "mish", "tanh", "clamp", "dropout", "add", "mul",
    "div", "softplus",
)  # fmt: skip
