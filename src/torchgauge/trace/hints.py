"""What to try when a model fails: the layer's own terms, then the error's."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from torchgauge.report.model import NamedValue, TensorSpec


def explain(module: nn.Module, inputs: tuple[NamedValue, ...], error: Exception) -> str:
    """Return one sentence on what the layer needs and what it got; empty when nothing is known."""
    first = next((value.tensor for value in inputs if value.tensor is not None), None)
    if first is not None:
        for kinds, rule in _RULES:
            if isinstance(module, kinds):
                hint = rule(module, first)
                if hint:
                    return hint
    return _from_message(error)


def _convolution(module: nn.Module, got: TensorSpec) -> str:
    channels = getattr(module, "in_channels", None)
    spatial = len(getattr(module, "kernel_size", ()))
    name = type(module).__name__
    if len(got.shape) not in (spatial + 1, spatial + 2):
        return (
            f"{name} takes [B, {channels}, {', '.join('DHW'[-spatial:])}], got {list(got.shape)}; "
            "check the number of dimensions of the input size"
        )
    if channels and got.shape[-spatial - 1] != channels:
        return (
            f"{name} takes {channels} channels, got {got.shape[-spatial - 1]} "
            f"in {list(got.shape)}; change the input size or in_channels"
        )
    return ""


def _linear(module: nn.Module, got: TensorSpec) -> str:
    features = getattr(module, "in_features", None)
    if got.shape and features and got.shape[-1] != features:
        return (
            f"Linear takes {features} features in the last dimension, got {list(got.shape)}; "
            f"change the input size, flatten before it, or set in_features={got.shape[-1]}"
        )
    return ""


def _recurrent(module: nn.Module, got: TensorSpec) -> str:
    size = getattr(module, "input_size", None)
    if got.shape and size and got.shape[-1] != size:
        return (
            f"{type(module).__name__} takes {size} features in the last dimension, "
            f"got {list(got.shape)}; change the input size or input_size"
        )
    return ""


def _embedding(module: nn.Module, got: TensorSpec) -> str:
    if got.dtype.startswith(("float", "bfloat")):
        return (
            f"{type(module).__name__} takes integer indices, got {got.dtype}; "
            "pass integer tensors, or dtypes=['int64'] (--dtype int64)"
        )
    return ""


def _normalization(module: nn.Module, got: TensorSpec) -> str:
    features = getattr(module, "num_features", None) or getattr(module, "num_channels", None)
    if features and len(got.shape) > 1 and got.shape[1] != features:
        return f"{type(module).__name__} takes {features} channels, got {list(got.shape)}"
    return ""


_RULES: tuple[tuple[tuple[type, ...], Callable[[nn.Module, TensorSpec], str]], ...] = (
    ((nn.modules.conv._ConvNd,), _convolution),
    ((nn.Linear,), _linear),
    ((nn.RNNBase, nn.RNNCellBase), _recurrent),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    ((nn.modules.batchnorm._NormBase, nn.GroupNorm), _normalization),
)

_MESSAGES: tuple[tuple[str, str], ...] = (
    (r"can't allocate memory|not enough memory|out of memory|bad_alloc",
     "the device has too little memory left; use a smaller batch or input, precision bf16, or "
     "checkpointing"),
    (r"missing \d+ required (positional|keyword-only) argument",
     "give every argument of forward: several --input-size, or input_data={...}"),
    (r"unexpected keyword argument|got multiple values for argument",
     "check the names of the inputs against the signature of forward"),
    (r"takes \d+ positional arguments? but|takes from \d+ to",
     "give as many inputs as forward takes, those that it takes by keyword by name: "
     "--input-size name=1,128, or input_size={'name': (1, 128)}"),
    (r"'list' object has no attribute '(size|shape|dim|device|dtype|to)'",
     "an input is a plain list; pass tensors: torch.tensor(...), or for a tokenizer "
     "return_tensors='pt'"),
    (r"Guard failed",
     "the program was exported for other sizes; leave the input size out, or export it with "
     "dynamic shapes"),
    (r"[Oo]utput size is too small|Calculated output size|Kernel size can't be greater",
     "the input is too small for the layers before; use a larger input size"),
    (r"Expected more than 1 value per channel",
     "normalisation over one value in training; use a larger batch or input"),
    (r"same reduction dim|shapes cannot be multiplied|must match the size|not broadcastable|"
     r"are not compatible|size mismatch|Sizes of tensors must match",
     "two tensors do not fit together; compare the shapes above with what the layer expects"),
    (r"must have the same dtype|(weight|bias) type .* should be the same",
     "cast one to the dtype of the other: x.to(self.weight.dtype). A named precision casts "
     "parameters, buffers and inputs, no other tensor: register it as a buffer"),
    (r"Expected attn_mask dtype to be bool",
     "the mask of attention is true or false, or a number that is added; pass one, or name its "
     "dtype: --dtype bool, or dtypes={'mask': 'bool'}"),
    (r"shape '.*' is invalid for input of size",
     "a view or reshape assumes another input size; check the size or compute it from x.shape"),
    (r"CUDA|cuda", "the model names a CUDA device; move tensors to x.device instead"),
)  # fmt: skip


def _from_message(error: Exception) -> str:
    text = str(error)
    for pattern, hint in _MESSAGES:
        if re.search(pattern, text):
            return hint
    return ""
