"""Sizes, tensors, dicts and arrays to the arguments of a forward.

A size says nothing about dtype or batch, so a reading is chosen here, stated in the report, and
corrected by ``session`` when the model rejects it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from torchgauge.errors import InputError
from torchgauge.facts.guess import Guess
from torchgauge.request import InputSize, Size
from torchgauge.trace.inputs.sizes import (
    check_batch,
    check_room,
    dtypes_of,
    named_sizes,
    with_batch_dim,
)

_RANKS: tuple[tuple[tuple[type[nn.Module], ...], int], ...] = (
    ((nn.Conv1d, nn.ConvTranspose1d, nn.LazyConv1d, nn.MaxPool1d, nn.AvgPool1d), 3),
    ((nn.Conv2d, nn.ConvTranspose2d, nn.LazyConv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d,
      nn.AdaptiveAvgPool2d, nn.Dropout2d, nn.Upsample), 4),
    ((nn.Conv3d, nn.ConvTranspose3d, nn.LazyConv3d, nn.BatchNorm3d, nn.MaxPool3d), 5),
    ((nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
      nn.Transformer), 3),
    ((nn.Embedding, nn.RNNCellBase, nn.Linear, nn.BatchNorm1d, nn.Bilinear), 2),
)  # fmt: skip
"""Rank of a batched input by the kind of layer that consumes it. Linear admits more than 2."""
_AT_LEAST = (nn.Linear, nn.BatchNorm1d, nn.Embedding)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
INTEGER_NAMES = frozenset(
    ("input_ids", "token_type_ids", "position_ids", "labels", "decoder_input_ids", "ids", "tokens",
     "token_ids", "input_tokens", "edge_index", "idx", "indices", "lengths", "seq_lengths",
     "input_lengths", "target_lengths")
)  # fmt: skip
_MASK_NAMES = frozenset(["attention_mask", "decoder_attention_mask", "padding_mask", "mask"])


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTensor:
    """One tensor to make: its argument, full shape (batch included) and dtype.

    ``is_guess`` marks a dtype that was not asked for and may be corrected. ``values`` are those of
    one sample, row by row, where they are known. ``per_sample`` rows of the first dimension belong
    to each sample of the batch: models that pack the patches of all images have many.
    """

    name: str
    keyword: bool
    shape: Size
    dtype: torch.dtype
    is_guess: bool = True
    ones: bool = False
    values: tuple[Any, ...] | None = None
    per_sample: int = 1

    def with_batch(self, batch: int, dim: int = 0) -> InputTensor:
        """Return the same input for another number of samples."""
        shape = list(self.shape)
        shape[dim] = batch * self.per_sample
        return replace(self, shape=tuple(shape))

    def has_batch(self, batch: int | None, dim: int = 0) -> bool:
        """Return whether the dimension ``dim`` holds ``batch`` samples."""
        shape = self.shape
        return (
            batch is not None
            and -len(shape) <= dim < len(shape)
            and shape[dim] == batch * self.per_sample
        )

    def with_dtype(self, dtype: torch.dtype) -> InputTensor:
        """Return the same input in another dtype."""
        return replace(self, dtype=dtype)

    def make(self, device: str) -> torch.Tensor:
        """Make the tensor: zeros for integers, ones for masks, noise for real floats.

        Of mean 0 and variance 1, as normalized data: on noise that is all positive half of the
        channels after a first ReLU would be dead, and pooling them faster.
        """
        if self.values is not None:
            samples = self.shape[0] // self.per_sample
            repeats = (samples, *(1 for _ in self.shape[1:]))
            return torch.tensor(self.values, dtype=self.dtype, device=device).repeat(repeats)
        if self.ones:
            return torch.ones(self.shape, dtype=self.dtype, device=device)
        if device == "meta" or not self.dtype.is_floating_point:
            return torch.zeros(self.shape, dtype=self.dtype, device=device)
        return torch.randn(self.shape, dtype=torch.float32, device=device).to(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPlan:
    """The arguments of the forward: given ones as they are, others still to be made."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any]
    batch_size: int | None = None
    batch_dim: int = 0
    assumptions: tuple[str, ...] = ()
    floating_dtype: torch.dtype = torch.float32
    """What an input of real numbers has."""
    alternatives: tuple[InputPlan, ...] = ()
    """Other readings to try, in order, when the model rejects this one."""

    def with_integer(self, name: str) -> InputPlan | None:
        """Return the plan with one guessed float input made integer; ``None`` if there is none."""
        if not any(item.name == name and item.is_guess for item in self.tensors_to_make()):
            return None
        alternatives = tuple(other.with_integer(name) or other for other in self.alternatives)
        return replace(self.with_dtypes({name: torch.int64}), alternatives=alternatives)

    def with_dtypes(self, dtypes: Mapping[str, torch.dtype]) -> InputPlan:
        """Return the plan with other dtypes for the named inputs that are made from a size."""

        def convert(value: Any) -> Any:
            if isinstance(value, InputTensor) and value.is_guess and value.name in dtypes:
                return replace(value, dtype=dtypes[value.name], is_guess=False)
            return value

        return replace(
            self,
            args=tuple(convert(value) for value in self.args),
            kwargs={key: convert(value) for key, value in self.kwargs.items()},
        )

    def tensors_to_make(self) -> list[InputTensor]:
        """Return the inputs that exist as a size only."""
        return [v for v in (*self.args, *self.kwargs.values()) if isinstance(v, InputTensor)]


def plan_inputs(
    model: nn.Module,
    input_size: InputSize | None,
    input_data: Any,
    *,
    batch_size: int | None,
    batch_dim: int | None,
    dtypes: Sequence[str | torch.dtype] | None,
    forward_kwargs: Mapping[str, Any],
    as_given: bool = False,
) -> InputPlan | None:
    """Return the plan for a call of ``model``, ``None`` when nothing was given.

    With ``as_given`` a size is the shape of the tensor and no other reading is tried.

    Raises:
        InputError: when the arguments contradict each other or are not sizes.
    """
    if input_size is not None and input_data is not None:
        raise InputError("both input_size and input_data were given", hint="give one of them")
    if input_data is not None:
        if batch_size is not None or batch_dim is not None or dtypes is not None:
            raise InputError(
                "batch_size, batch_dim and dtypes describe sizes and do not go with input_data",
                hint="give tensors of the shape and dtype that you mean",
            )
        args, kwargs = _from_data(input_data)
        return InputPlan(
            args=args, kwargs={**kwargs, **forward_kwargs}, batch_size=_batch_of(args, kwargs)
        )
    if input_size is None:
        return InputPlan(kwargs=forward_kwargs) if forward_kwargs else None
    named = named_sizes(model, input_size)
    types = dtypes_of(dtypes, len(named))
    return _plan_sizes(model, named, types, batch_size, batch_dim, forward_kwargs, as_given)


def _from_data(data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if inspect.isfunction(data) or inspect.ismethod(data):
        data = data()
    data = _tensors(data)
    if isinstance(data, Mapping) and all(isinstance(key, str) for key in data):
        return (), dict(data)
    if isinstance(data, (list, tuple)) and not hasattr(data, "_fields"):
        return tuple(data), {}
    return (data,), {}


def _tensors(data: Any) -> Any:
    """Turn NumPy arrays anywhere in the structure into tensors.

    Raises:
        InputError: for an array of objects, or one that runs backwards through memory.
    """
    if type(data).__module__ == "numpy" and hasattr(data, "dtype"):
        try:
            return torch.as_tensor(data)
        except TypeError as error:
            raise InputError(
                f"an array of {data.dtype} cannot become a tensor",
                hint="convert it: array.astype('float32')",
            ) from error
        except ValueError as error:
            raise InputError(
                f"an array of shape {data.shape} cannot become a tensor: {error}",
                hint="copy it: array.copy()",
            ) from error
    if isinstance(data, Mapping):
        return {key: _tensors(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)) and not hasattr(data, "_fields"):
        return type(data)(_tensors(value) for value in data)
    return data


def _batch_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    values = (*args, *kwargs.values())
    sizes = {v.size(0) for v in values if isinstance(v, torch.Tensor) and v.dim() > 0}
    sizes |= {v.shape[0] // v.per_sample for v in values if isinstance(v, InputTensor)}
    return int(sizes.pop()) if len(sizes) == 1 else None


def _plan_sizes(
    model: nn.Module,
    named: list[tuple[str, bool, Size]],
    dtypes: list[torch.dtype | None],
    batch_size: int | None,
    batch_dim: int | None,
    forward_kwargs: Mapping[str, Any],
    as_given: bool,
) -> InputPlan:
    check_batch(batch_size, batch_dim)
    explicit = batch_size is not None or batch_dim is not None
    dim, batch = int(batch_dim or 0), int(1 if batch_size is None else batch_size)
    with_batch = [(name, kw, with_batch_dim(size, dim, batch)) for name, kw, size in named]
    float_dtype = _floating_dtype(model)

    def plan(sizes: list[tuple[str, bool, Size]], added: bool, note: str) -> InputPlan:
        inputs = [
            _input(model, name, keyword, size, dtype, position, float_dtype)
            for position, ((name, keyword, size), dtype) in enumerate(
                zip(sizes, dtypes, strict=True)
            )
        ]
        firsts = {size[dim] for _, _, size in sizes if len(size) > dim}
        known = batch if added else (firsts.pop() if len(firsts) == 1 else None)
        return InputPlan(
            args=tuple(item for item in inputs if not item.keyword),
            kwargs={**{i.name: i for i in inputs if i.keyword}, **forward_kwargs},
            batch_size=known,
            batch_dim=dim,
            floating_dtype=float_dtype,
            assumptions=(note,) if note else (),
        )

    if explicit:
        return plan(with_batch, True, "")
    if as_given:
        return plan(named, False, "")
    lacks_batch, is_known = _lacks_batch(model, named[0][2])
    note = "the input size was read without a batch dimension; B = 1 was added"
    added = plan(with_batch, True, note if is_known else Guess(note))
    batched = plan(named, False, "the first dimension of the input size was read as the batch")
    if lacks_batch:
        return replace(added, alternatives=(batched,))
    return replace(batched, alternatives=(added,))


def _lacks_batch(model: nn.Module, size: Size) -> tuple[bool, bool]:
    """Return whether the first layer that consumes an input expects more dimensions.

    And whether there is such a layer: without one it is a guess from the number of dimensions.
    """
    for module in model.modules():
        for kinds, rank in _RANKS:
            if isinstance(module, kinds):
                if isinstance(module, _AT_LEAST):
                    return len(size) < rank, True
                return len(size) == rank - 1, True
    return len(size) in (1, 3), False


def _input(
    model: nn.Module,
    name: str,
    keyword: bool,
    size: Size,
    dtype: torch.dtype | None,
    position: int,
    float_dtype: torch.dtype,
) -> InputTensor:
    is_mask = name in _MASK_NAMES
    guess = float_dtype
    if is_mask or name in INTEGER_NAMES or (position == 0 and _starts_with_embedding(model)):
        guess = torch.int64
    check_room(name, size, dtype or guess)
    return InputTensor(
        name=name,
        keyword=keyword,
        shape=size,
        dtype=guess if dtype is None else dtype,
        is_guess=dtype is None,
        ones=is_mask and dtype in (None, torch.int64, torch.bool),
    )


def _starts_with_embedding(model: nn.Module) -> bool:
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            return isinstance(module, _EMBEDDINGS)
    return False


def _floating_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype of the first floating-point parameter: a half model wants half inputs."""
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point and parameter.dtype.itemsize >= 2:
            return parameter.dtype
    return torch.float32


def real_or_made(value: Any, make: Callable[[InputTensor], torch.Tensor]) -> Any:
    """Return a planned argument with sizes replaced by tensors."""
    return make(value) if isinstance(value, InputTensor) else value
