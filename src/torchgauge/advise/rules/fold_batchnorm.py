"""Batch normalisation after a convolution: at inference it is a factor and an offset per channel.

Pairs are found in what ran: the norm reads what the convolution wrote, and nothing else does. So
norms that are subclasses, or that are called by another module, are seen too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from torchgauge.advise.folding import folding_lines
from torchgauge.advise.hooks import seen_by_hooks
from torchgauge.advise.subject import Subject, put, together
from torchgauge.changes.change import Change
from torchgauge.facts.trace import ModuleCall
from torchgauge.units import format_number_of

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_AFTER = ("drop", "act")
"""What timm's norms with an activation do besides, as attributes: ``BatchNormAct2d``."""


class FoldBatchNorm:
    """Find norms whose statistics are fixed, right after a convolution or a linear layer."""

    name = "fold-batchnorm"
    about = "batch norms after convolutions, whose factors the weights could hold at inference"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all pairs."""
        if subject.report.scenario.is_training:
            yield "in training the statistics are those of each batch"
            return
        pairs, left = _pairs(subject), 0
        whys = dict(_whys(subject, pairs))
        yield from dict.fromkeys(whys.values())
        pairs = {path: norm for path, norm in pairs.items() if path not in whys}
        for path, module in subject.modules.items():
            if isinstance(module, _BatchNorm) and path not in pairs.values():
                left += 1
        if not pairs and whys:
            return
        if not pairs:
            yield (
                f"none of {format_number_of(left, 'batch norm')} follows a convolution alone"
                if left
                else "there are no batch norms to fold"
            )
            return
        count = format_number_of(len(pairs), "batch norm")
        yield Change(
            rule=self.name,
            text=f"fold {count} into the layers before",
            why="at inference a batch norm is a factor and an offset for each channel",
            where=tuple(pairs),
            settings={"norms": list(pairs.values())},
            source="torch.nn.utils.fusion.fuse_conv_bn_eval",
            snippet=_snippet(subject, pairs),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Give each layer the folded weights, and put what else the norm did into its place."""
        for path, norm_path in zip(change.where, change.settings["norms"], strict=True):
            layer, norm = model.get_submodule(path), model.get_submodule(norm_path)
            if not isinstance(layer, _LAYERS) or not isinstance(norm, _BatchNorm):
                raise ValueError(f"{norm_path} after {path} is not a pair")
            is_linear = isinstance(layer, nn.Linear)
            fuse: Any = fuse_linear_bn_weights if is_linear else fuse_conv_bn_weights
            weight, bias, mean, var, factor, offset = together(
                layer.weight,
                layer.bias,
                norm.running_mean,
                norm.running_var,
                norm.weight,
                norm.bias,
            )
            weight, bias = fuse(weight, bias, mean, var, norm.eps, factor, offset)
            for name, tensor in (("weight", weight), ("bias", bias)):
                layer.register_parameter(name, nn.Parameter(tensor.detach()))
            put(model, norm_path, _rest(norm))


def _snippet(subject: Subject, pairs: dict[str, str]) -> tuple[str, ...]:
    try:
        lines = folding_lines(subject.model, pairs)
    except ValueError as error:
        return (f"model = suggestion.apply(model)  # {error}",)
    return ("model.eval()", *lines)


def _rest(norm: _BatchNorm) -> nn.Module:
    """Return what a norm does besides normalising."""
    found = (getattr(norm, name, None) for name in _AFTER)
    parts = [part for part in found if isinstance(part, nn.Module)]
    parts = [part for part in parts if not isinstance(part, nn.Identity)]
    if not parts:
        return nn.Identity()
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _can_fold(subject: Subject, norm: nn.Module) -> bool:
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return False
    if norm.training and not subject.model.training:  # else the trace puts all in eval mode
        return False
    plain = type(norm).forward is _BatchNorm.forward
    known = all(hasattr(norm, name) for name in _AFTER)  # timm
    return plain or (known and type(norm).__module__.startswith("timm."))


def _pairs(subject: Subject) -> dict[str, str]:
    """Return the norm of each layer, by their paths."""
    found: dict[str, str] = {}
    for path, norm in subject.modules.items():
        call = subject.only_call(path)
        if call is None or not isinstance(norm, _BatchNorm) or not _can_fold(subject, norm):
            continue
        layer_path = _only_source(subject, call)
        layer = subject.modules.get(layer_path) if layer_path is not None else None
        if layer_path is None or not isinstance(layer, _LAYERS) or layer_path in found:
            continue
        if subject.only_call(layer_path) and layer.weight.shape[0] == norm.num_features:
            found[layer_path] = path
    return found


def _whys(subject: Subject, pairs: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the layers that cannot take a norm, with the reason."""
    for path, norm in pairs.items():
        layer = subject.modules[path]
        if not isinstance(layer._parameters.get("weight"), nn.Parameter):
            yield path, f"the weight of {path} is computed in each forward (constant-folding)"
        elif (watcher := subject.watcher(path, norm)) is not None:
            yield path, f"{norm}: {seen_by_hooks(watcher)}"


def _only_source(subject: Subject, call: ModuleCall) -> str | None:
    """Return the module that wrote what a norm reads, where nothing else reads or writes it."""
    ops = subject.trace.ops[call.first_op : call.end_op]
    first = next((op for op in ops if "batch_norm" in op.name), None)
    if first is None or not first.reads:
        return None
    writers = subject.writers.get(first.reads[0], [])
    readers = subject.readers.get(first.reads[0], [])
    if len(writers) != 1 or any(op.call != first.call for op in readers):
        return None
    return subject.path_of(writers[0])
