"""What to try when a model fails: the layer's own terms, then the error's."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from torchgauge.facts.trace import NamedValue, TensorSpec
from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.failures.missing_data import causes
from torchgauge.trace.inspect.code_lines import place


def guessed_hint(what: str) -> str:
    """Return the hint for a failure after a decision on an input that holds made-up values."""
    return (
        f"{what} read an input that was made from its size alone, whose integers are zeros; pass "
        "tensors with real values: input_data=(…) or input_data={'lengths': torch.tensor([9, 7])}"
    )


def explain_optimizer(error: Exception) -> str:
    """Return one sentence on what to do when an optimizer's step fails."""
    text = str(error)
    if "support sparse gradients" in text:
        return "use torch.optim:SparseAdam or sgd, or nn.Embedding without sparse=True"
    if "support dense gradients" in text:
        return "it takes only the gradients of nn.Embedding(sparse=True); use adam for the others"
    return (
        "its step() was called without a closure; optimizer='none' gives forward and backward, "
        "another optimizer the whole step"
    )


def explain_loss(error: Exception) -> str:
    """Return one sentence on what to do when a loss is called without a target, else ``""``."""
    if not re.search(r"missing \d+ required positional argument", str(error)):
        return ""
    return (
        "a loss is called with the output alone; write loss='cross_entropy', or "
        "loss=lambda output: criterion(output, target)"
    )


def explain(module: nn.Module, inputs: tuple[NamedValue, ...], error: Exception) -> str:
    """Return one sentence on what the layer needs and what it got; empty when nothing is known."""
    for link in causes(error):
        if isinstance(link, DataDependentError):
            return _values(link)
    first = next((value.tensor for value in inputs if value.tensor is not None), None)
    if first is not None:
        for kinds, rule in _RULES:
            if isinstance(module, kinds):
                hint = rule(module, first)
                if hint:
                    return hint
    return _from_message(error)


def _values(error: BaseException) -> str:
    """Say what to do about values that only a real run has: there was none, or it failed too."""
    if re.match(r"what (sparse|nested) tensors cost", str(error)):
        return (
            "sparse and nested tensors are run for real, and no real run was made; have more "
            "memory free, use a smaller model or input, or dense (padded) tensors"
        )
    line = line_of(error)
    return (
        f"{line or 'the model'} decides on values that a simulated run does not have, and no real "
        "run was made; free some memory, use a smaller configuration of the model, or, where "
        "they are the values of an input, pass that one: input_data=…"
    )


def line_of(error: BaseException) -> str:
    """Return ``file.py:12``: the innermost line of the model's code that an error went through."""
    found, traceback = "", error.__traceback__
    while traceback is not None:
        if name := place(traceback.tb_frame.f_code.co_filename):
            found = f"{name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found


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
     "the device is out of memory; use a smaller batch or input, precision bf16, or "
     "checkpointing"),
    (r"EOF when reading a line|lost sys.stdin",
     "the model reads from the standard input; pass what it asks for as an argument"),
    (r"maximum recursion depth exceeded",
     "the model calls itself without end; the lines are in the traceback of the original error"),
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
    (r"must be Tensor, not \w*(DataLoader|Dataset)\b|'\w*(DataLoader|Dataset)' object",
     "an input is a whole data set; pass one batch without its labels: "
     "input_data=next(iter(loader))[0]"),
    (r"Guard failed",
     "the program was exported for other sizes; leave the input size out, or export it with "
     "dynamic shapes"),
    (r"Length of all samples has to be greater than 0",
     "an input of lengths that is made from its size holds zeros; pass tensors: "
     "input_data=(x, torch.tensor([9, 7, …])), or a dict by argument"),
    (r"Storage size calculation overflowed|Overflow when unpacking long|integer multiplication "
     r"overflow|numel.*overflow",
     "a tensor would be larger than 2^63 bytes; use a smaller batch or input"),
    (r"does not require grad and does not have a grad_fn",
     "what is differentiated depends on nothing that requires a gradient, so there is no gradient "
     "to compute; look for detach(), no_grad() and frozen parameters on the way"),
    (r"[Oo]utput size is too small|Calculated output size|Kernel size can't be greater",
     "the input is too small for the layers before; use a larger input size"),
    (r"Expected more than 1 value per channel",
     "normalisation over one value in training; use a larger batch or input"),
    (r"same reduction dim|shapes cannot be multiplied|must match the size|not broadcastable|"
     r"are not compatible|size mismatch|Sizes of tensors must match",
     "two tensors do not fit together; compare the shapes above with what the layer expects"),
    (r"_sparse_csr_impl_mkl. not implemented for '(Half|BFloat16)'",
     "PyTorch's CPU multiplies CSR, CSC, BSR and BSC tensors only in float32 and float64; keep "
     "float32 there, use a COO tensor, or name the GPU that it is meant for as the device"),
    (r"not implemented for '(Half|BFloat16)'",
     "the CPU has no kernel of this operator in half precision; keep float32 there, or name the "
     "GPU that it is meant for as the device"),
    (r"must have the same dtype|expected scalar type .* but found|Input dtypes must be the same|"
     r"(weight|bias) type .* should be the same",
     "two operands differ in dtype; cast one of them: x.to(self.weight.dtype), or x.float() where "
     "a region of autocast ends. A named precision casts parameters, buffers and inputs, no other "
     "tensor: register it as a buffer"),
    (r"Expected attn_mask dtype to be bool",
     "the mask of attention is true or false, or a number that is added; pass one, or name its "
     "dtype: --dtype bool, or dtypes={'mask': 'bool'}"),
    (r"shape '.*' is invalid for input of size",
     "a view or reshape assumes another input size; check the size or compute it from x.shape"),
    (r"with arguments from the 'CPU' backend",
     "the installed torch has no kernel of the operator for the CPU; use another operator, or a "
     "newer torch"),
    (r"is only available for these backends",
     "the operator has no kernel for this kind of tensor on the CPU; use another layout, CSR for "
     "instance, or a dense tensor"),
    (r"[Oo]nly (CUDA|supports? CUDA|supported (on|for) CUDA|available (on|for) CUDA)",
     "the operator runs on CUDA devices only; replace it by a dense layer for the analysis"),
    (r"compiled with CUDA|CUDA (error|driver|GPU|device)|NVIDIA driver|\bdevice\b.*\bcuda\b|"
     r"\bcuda(:\d+)? and\b|\band cuda\b|'cuda",
     "the model names a CUDA device; move tensors to x.device instead"),
)  # fmt: skip


def _from_message(error: Exception) -> str:
    text = str(error)
    for pattern, hint in _MESSAGES:
        if re.search(pattern, text):
            return hint
    return ""
