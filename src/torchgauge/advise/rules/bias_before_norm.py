"""A bias that the batch norm behind it subtracts again."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.advise.flow import call_before
from torchgauge.advise.hooks import seen_by_hooks
from torchgauge.advise.subject import Subject, together
from torchgauge.changes.change import Change
from torchgauge.units import format_number_of

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class BiasBeforeNorm:
    """Find convolutions and linear layers with a bias, right before a batch norm."""

    name = "bias-before-norm"
    about = "biases that a batch norm subtracts again in training"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all of them."""
        if not subject.report.scenario.is_training:
            yield "at inference the batch norm is folded, bias and all: fold-batchnorm"
            return
        pairs = dict(self._pairs(subject))
        is_watched = False
        for path, norm_path in list(pairs.items()):
            if (watcher := subject.watcher(path, norm_path)) is not None:
                del pairs[path]
                is_watched = True
                yield f"{norm_path}: {seen_by_hooks(watcher)}"
        if not pairs and is_watched:
            return
        if not pairs:
            yield "no layer with a bias stands right before a batch norm"
            return
        layers = format_number_of(len(pairs), "layer")
        yield Change(
            rule=self.name,
            text=f"leave the bias out of {layers} before a batch norm",
            why="a batch norm subtracts the mean, and the bias with it",
            where=tuple(pairs),
            settings={"norms": list(pairs.values())},
            source="Ioffe, Szegedy, Batch Normalization, arXiv 1502.03167, section 3.2",
            snippet=tuple(
                f"{path}: {type(subject.modules[path]).__name__}(…, bias=False)"
                for path in list(pairs)[:3]
            ),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Take the biases out, and out of the running means, which hold them."""
        for path, norm_path in zip(change.where, change.settings["norms"], strict=True):
            layer, norm = model.get_submodule(path), model.get_submodule(norm_path)
            if not isinstance(layer, _LAYERS) or not isinstance(norm, _BatchNorm):
                raise ValueError(f"{norm_path} after {path} is not a pair")
            if layer.bias is None:
                raise ValueError(f"{path} has no bias")
            if norm.running_mean is not None:
                mean, bias = together(norm.running_mean, layer.bias.detach())
                norm.running_mean = mean - bias
            layer.bias = None

    def _pairs(self, subject: Subject) -> Iterator[tuple[str, str]]:
        for path, norm in subject.modules.items():
            if not isinstance(norm, _BatchNorm):
                continue
            call = subject.only_call(path)
            found = None if call is None else call_before(subject, call, through_dropout=False)
            if found is None:
                continue
            layer_path, layer = found
            channels = layer.weight.shape[0] if isinstance(layer, _LAYERS) else 0
            if not isinstance(layer, _LAYERS) or layer.bias is None or not norm.training:
                continue
            if channels == norm.num_features and subject.only_call(layer_path):
                yield layer_path, path
