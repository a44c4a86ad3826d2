"""Many convolutions in a row on maps of one size."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.rules.chain import BY_CHANNEL, convolution_before
from torchgauge.advise.subject import Subject, in_code, output_of
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy

_FEWEST_LAYERS = 3
_FEWEST_PIXELS = 16
"""Of a side of the map."""
_LEAST_SHARE = 0.2
"""Of the model's MACs, in the row."""


class NoDownsampling:
    """Find rows of convolutions that leave the map as large as it is."""

    name = "no-downsampling"
    about = "three or more convolutions in a row that leave the map as large as it was"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield each row that holds much of the work."""
        rows = list(_rows(subject))
        if not rows:
            yield "no three convolutions in a row work on maps of 16 × 16 pixels or more"
        for row in rows:
            macs = sum(subject.report.modules[path].macs for path in row)
            if macs < _LEAST_SHARE * subject.report.totals.forward_macs:
                yield f"the {len(row)} convolutions up to {row[-1]} hold little of the work"
                continue
            height, width = _size(subject, row[0])
            yield Change(
                rule=self.name,
                text=f"give {row[0]} a stride of two, before {len(row) - 1} more convolutions",
                why=f"{len(row)} convolutions in a row work on maps of {height} × {width} pixels",
                where=row,
                accuracy=Accuracy.RETRAIN,
                cost="maps are coarser; SqueezeNet found higher accuracy with late downsampling",
                source="He, Sun, CNNs at Constrained Time Cost, arXiv 1412.1710, section 3",
                snippet=(f"{in_code(row[0])}.stride = (2, 2)",),
            )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Set the stride; the weights stay."""
        layer = model.get_submodule(change.where[0])
        if not isinstance(layer, nn.Conv2d) or layer.padding == "same":
            raise ValueError(f"{change.where[0]} is not a convolution that can take a stride")
        layer.stride = (2, 2)


def _size(subject: Subject, path: str) -> tuple[int, int]:
    call = subject.only_call(path)
    made = None if call is None else output_of(call)
    return (0, 0) if made is None else (made.shape[-2], made.shape[-1])


def _rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    """Yield the longest rows of convolutions whose outputs have one size."""
    before: dict[str, str] = {}
    for path, layer in subject.of_type(nn.Conv2d):
        link = convolution_before(subject, path, BY_CHANNEL)
        if link is None or layer.stride != (1, 1) or link.layer.stride != (1, 1):
            continue
        size = _size(subject, path)
        if size == _size(subject, link.path) and min(size) >= _FEWEST_PIXELS:
            before[path] = link.path
    for end in [path for path in before if path not in set(before.values())]:
        row = [end]
        while row[0] in before:
            row.insert(0, before[row[0]])
        first = subject.modules[row[0]]
        if len(row) >= _FEWEST_LAYERS and getattr(first, "padding", "same") != "same":
            yield tuple(row)
