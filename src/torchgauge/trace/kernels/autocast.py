"""``torch.autocast`` for meta tensors, as the target device has it.

Autocast works at a dispatch key that belongs to the type of a tensor's device, and meta tensors
have none. While autocast is on for the target, a key that no device uses is added to every
operator, with Python kernels that follow the target's lists. Whether it is on, and its dtype,
are PyTorch's own state for the target's type of device (``autocast_regions.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from torchgauge.trace.kernels.autocast_lists import WITH_DTYPE, Policy
from torchgauge.trace.kernels.autocast_regions import Regions
from torchgauge.trace.record.inside_kernels import AutocastInside
from torchgauge.trace.shapes.rule import Args, Kwargs, Rule
from torchgauge.trace.torch_internals.autocast import (
    autocast_key,
    cached_casts_require_grad,
    outside_autocast_key,
)

_HALF = (torch.float16, torch.bfloat16)
_FIXED = {Policy.FLOAT32: torch.float32, Policy.FLOAT16: torch.float16}
_RANK = {torch.float16: 1, torch.bfloat16: 1, torch.float32: 2}


class _WeightCache:
    """Casts of parameters, kept until the outermost region ends."""

    def __init__(self) -> None:
        self._casts: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._with_gradients = cached_casts_require_grad()

    def cast(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return the tensor in that dtype; a float32 leaf that trains is cast once a region."""
        if not tensor.is_floating_point() or tensor.dtype in (dtype, torch.float64):
            return tensor
        if not (
            dtype in _HALF
            and tensor.dtype is torch.float32
            and tensor.requires_grad
            and tensor.is_leaf
            and not tensor._is_view()
            and torch.is_autocast_cache_enabled()
        ):
            return tensor.to(dtype)
        if id(tensor) not in self._casts:
            with torch.enable_grad() if self._with_gradients else nullcontext():
                self._casts[id(tensor)] = tensor, tensor.to(dtype)
        return self._casts[id(tensor)][1]

    def clear(self) -> None:
        self._casts.clear()


@contextmanager
def autocast_installed(
    policies: Mapping[str, Policy],
    *,
    target: str,
    aliases: tuple[str, ...],
    note: Callable[[str], None],
    assume: Callable[[str], None],
    inside: AutocastInside,
) -> Iterator[None]:
    """Let regions of autocast act on the tensors of a run as on the ``target`` type of device.

    ``aliases`` are the types of device that these tensors have in the run. ``note`` is told about
    regions without effect, ``assume`` about guesses. ``inside`` learns which regions are open.
    """
    cache = _WeightCache()

    def kernels() -> dict[str, Callable[..., Any]]:
        return {
            name: _kernel(operator, policy, cache, target)
            for name, policy in policies.items()
            if (operator := _operator(name)) is not None
        }

    with autocast_key(kernels) as switch:
        regions = Regions(
            target=target,
            aliases=aliases,
            switch=inside.note(switch),
            on_clear=cache.clear,
            note=note,
            assume=assume,
        )
        with regions.followed():
            yield


def _operator(name: str) -> Any:
    base, overload = name.split(".")
    packet = getattr(torch.ops.aten, base, None)
    return getattr(packet, overload, None)


def _kernel(
    operator: Any, policy: Policy, cache: _WeightCache, device_type: str
) -> Callable[..., Any]:
    run = _runs(operator, policy, cache, device_type)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with outside_autocast_key():
            return run(args, kwargs)

    return kernel


def _runs(operator: Any, policy: Policy, cache: _WeightCache, device_type: str) -> Rule:
    """Return how an operator runs while autocast is on for a type of device."""
    if policy is Policy.FLOAT32_OUTPUT:
        return _with_float32_output(operator)
    if policy is Policy.FLOAT32_APPENDED:
        return _with_dtype_appended(operator)
    if policy is Policy.BANNED:
        return _refusing(operator)

    def run(args: Args, kwargs: Kwargs) -> Any:
        dtype = _target_dtype(policy, args, device_type)
        if policy is Policy.FLOAT16:
            args = tuple(_weights_anew(value, dtype) for value in args)
        args, kwargs = _cast_all(args, kwargs, dtype, cache)
        return operator(*args, **kwargs)

    return run


def _weights_anew(value: Any, dtype: torch.dtype) -> Any:
    """Cast a list of weights; they are copied into one buffer, which no cache keeps."""
    if not (isinstance(value, list) and value and isinstance(value[0], torch.Tensor)):
        return value
    return [weight.to(dtype) for weight in value]


def _with_float32_output(operator: Any) -> Rule:
    names = [argument.name for argument in operator._schema.arguments]
    if "dtype" not in names:
        return lambda args, kwargs: operator(*args, **kwargs)
    place = names.index("dtype")

    def run(args: Args, kwargs: Kwargs) -> Any:
        args, kwargs = _asking_for_float32(args, kwargs, place)
        return operator(*args, **kwargs)

    return run


def _with_dtype_appended(operator: Any) -> Rule:
    name = str(operator).removeprefix("aten.")
    taking_dtype = _operator(WITH_DTYPE[name])
    arguments = operator._schema.arguments

    def run(args: Args, kwargs: Kwargs) -> Any:
        rest = arguments[len(args) :]
        all_args = [*args, *(kwargs.get(one.name, one.default_value) for one in rest)]
        dtype = args[0].dtype
        if dtype.is_floating_point and dtype is not torch.float64:
            dtype = torch.float32
        return taking_dtype(*all_args, dtype=dtype)

    return run


def _refusing(operator: Any) -> Rule:
    name = operator._schema.name.rpartition("::")[2]

    def run(args: Args, kwargs: Kwargs) -> Any:
        raise RuntimeError(
            f"torch.nn.functional.{name} and torch.nn.BCELoss are unsafe to autocast; use "
            f"{name}_with_logits or torch.nn.BCEWithLogitsLoss, which take what comes before the "
            "sigmoid"
        )

    return run


def _target_dtype(policy: Policy, args: Args, device_type: str) -> torch.dtype:
    if policy in _FIXED:
        return _FIXED[policy]
    lower = torch.get_autocast_dtype(device_type)
    if policy is Policy.LOWER:
        return lower
    dtypes = [tensor.dtype for tensor in _tensors(args) if tensor.dtype in _RANK]
    return max(dtypes, key=_RANK.__getitem__, default=lower)


def _asking_for_float32(
    args: Args, kwargs: Kwargs, place: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with a float32 ``dtype`` where a half input has none.

    Composite operators (``cross_entropy_loss``) pass their ``None`` by position, at ``place``.
    """
    first = args[0]
    if not (isinstance(first, torch.Tensor) and first.dtype in _HALF):
        return args, kwargs
    if len(args) > place:
        asked = torch.float32 if args[place] is None else args[place]
        return (*args[:place], asked, *args[place + 1 :]), kwargs
    return args, {**kwargs, "dtype": kwargs.get("dtype") or torch.float32}


def _cast_all(
    args: Args, kwargs: Kwargs, dtype: torch.dtype, cache: _WeightCache
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Cast all arguments, the last one first: GCC evaluates them so in PyTorch's own call."""
    named = [(name, _cast(value, dtype, cache)) for name, value in reversed(kwargs.items())]
    positional = [_cast(value, dtype, cache) for value in reversed(args)]
    return tuple(reversed(positional)), dict(reversed(named))


def _cast(value: Any, dtype: torch.dtype, cache: _WeightCache) -> Any:
    if isinstance(value, torch.Tensor):
        return cache.cast(value, dtype)
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(item, dtype, cache) for item in value)
    return value


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
