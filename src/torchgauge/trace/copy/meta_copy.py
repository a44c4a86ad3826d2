"""The copy that runs in place of the model: the same modules with other tensors.

A simulation runs a copy on the meta device (a meta copy), a real run one on its own device.
Parameters, buffers and all other tensors that the modules' attributes hold come from a converter
(``converters.py``). Tensors that share a storage share one in the copy too. Settings are copied and
the code is the original. Functions that hold values (closures) are copied with copies of them.
"""

from __future__ import annotations

import copy
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from torch.utils.weak import WeakTensorKeyDictionary

from torchgauge.trace.copy.casting import Casting
from torchgauge.trace.copy.converters import MetaConverter
from torchgauge.trace.copy.copied_objects import ObjectCopies
from torchgauge.trace.copy.restored import (
    FLAT,
    Restored,
    RestoredParameters,
    answer_as,
    is_distributed,
    whole,
)
from torchgauge.trace.inspect.geometry import view_of
from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.inspect.modules import tensors_of
from torchgauge.trace.inspect.subclasses import (
    copy_attributes,
    has_attributes,
    is_wrapper,
    rebuilt,
    slots,
)
from torchgauge.trace.inspect.wrappers import (
    COMPOSED_STATE,
    distributes,
    has_composed_state,
    own_attributes,
    unwrap,
    user_class,
)
from torchgauge.trace.torch_internals.autograd import viewed

_SHARED = frozenset((
    bool, int, float, complex, str, bytes, type(None), type, types.BuiltinFunctionType,
    types.ModuleType, torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout,
    range,
))  # fmt: skip
_KEYED = (dict, OrderedDict, defaultdict, weakref.WeakKeyDictionary, WeakTensorKeyDictionary)
"""Dictionaries whose keys may be tensors and modules, or their identities."""
_EMPTY = frozenset((dict, OrderedDict, set))
"""Containers that are made anew where they hold nothing."""
_LEFT_OUT = ("_compiled_call_impl",)
"""Attributes that a copy must not have: it runs the original code, not a compiled one."""
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
"""Where modules keep what runs around their forward."""


class ModelCopy(ObjectCopies):
    """A copy of a module tree whose tensors come from ``convert``.

    ``root`` is the copied model. ``assumptions`` say what of a wrapper is left out.
    """

    def __init__(self, model: nn.Module, convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._convert = convert
        self._device = getattr(convert, "device", torch.device("meta"))
        self.casting: Casting | None = getattr(convert, "casting", None)
        self._parameters: list[nn.Parameter] = []
        self.leaves: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Tensors that gradients are computed for, each with its copy."""
        self.tensors: list[torch.Tensor] = []
        """The copies of all tensors in order."""
        self._has_values = self._device.type != "meta"
        self._restored = RestoredParameters(model, with_values=self._has_values)
        self.assumptions = self._restored.notes
        self.root: nn.Module = self._module(unwrap(model))

    @property
    def is_sharded(self) -> bool:
        """Return whether the model's parameters were taken apart by a wrapper."""
        return self._restored.is_sharded

    def hidden_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the model reaches but has not registered."""
        known = set(map(id, tensors_of(self.root).parameters))
        return [p for p in self._parameters if id(p) not in known and not is_lazy(p)]

    @property
    def has_lazy(self) -> bool:
        """Return whether a tensor of the model has no shape yet."""
        return any(map(is_lazy, {type(tensor): tensor for tensor in self.tensors}.values()))

    def value(self, original: Any) -> Any:
        """Return the copy of any value: containers are copied, tensors and modules replaced."""
        kind = type(original)
        if kind in _SHARED:
            return original
        known = self._memo.get(id(original))
        if known is not None:
            return known
        if isinstance(original, torch.Tensor):
            return self._tensor(original)
        if isinstance(original, nn.Module):
            return self._module(original)
        if kind in _KEYED:
            target = kind(original.default_factory) if kind is defaultdict else kind()
            self.stand_for(original, target)
            for key, item in list(original.items()):
                target[self._key(key)] = self.value(item)
            return target
        if kind is list:
            items: list[Any] = []
            self.stand_for(original, items)
            items.extend([self.value(item) for item in original])
            return items
        if kind in (tuple, set, frozenset):
            return kind(self.value(item) for item in original)
        if kind is PackedSequence:  # its constructor wants the batch sizes on the CPU
            data, sizes, *orders = original
            return tuple.__new__(kind, (self.value(data), sizes, *map(self.value, orders)))
        return self._object(original, kind)

    def _key(self, key: Any) -> Any:
        """Return the key under which a copied dictionary keeps what is kept for a tensor."""
        if isinstance(key, (torch.Tensor, nn.Module)):
            return self.value(key)
        if type(key) is int and self.knows_identity(key):
            return id(self._memo[key])
        return key

    def knows_identity(self, number: int) -> bool:
        """Return whether a number is the identity of a tensor or module that has a copy."""
        return isinstance(self._memo.get(number), (torch.Tensor, nn.Module))

    def _tensor(self, original: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same class with copies of what it contains and has attached."""
        if type(original) is nn.Parameter and _is_untouched(original):
            return self._parameter(original)
        if is_distributed(original):
            return self._distributed(original)
        base = viewed(original)
        if isinstance(base, nn.Parameter) and self.value(base).stride() == base.stride():
            copied = view_of(self.value(base), original, base)
            self.stand_for(original, copied)
            return copied
        convert = self._uninitialized if is_lazy(original) else partial(self._plain, original)
        copied = rebuilt(original, convert, self.value, self._device)
        if is_wrapper(type(original)):
            copied = self._cast(original, copied)
        self.stand_for(original, copied)
        if has_attributes(original):
            copy_attributes(original, copied, self.value)
        self.tensors.append(copied)
        if isinstance(copied, nn.Parameter):
            self._parameters.append(copied)
        if copied.requires_grad and copied.is_leaf:
            self.leaves.append((original, copied))
        return copied

    def _parameter(self, original: nn.Parameter) -> nn.Parameter:
        """Return the copy of a parameter that is numbers and nothing else."""
        needs_gradient = original.requires_grad
        copied: Any = torch.Tensor._make_subclass(
            nn.Parameter, self._convert(original), needs_gradient
        )
        self.stand_for(original, copied)
        self.tensors.append(copied)
        self._parameters.append(copied)
        if needs_gradient:
            self.leaves.append((original, copied))
        return copied  # type: ignore[no-any-return]

    def _plain(self, original: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        """Convert the data of a tensor, cast as the tensor is."""
        if self.casting is not None and data is not original:
            self.casting.follow(original, data)
            self._kept.append(data)
        return self._convert(data)

    def _distributed(self, original: torch.Tensor) -> torch.Tensor:
        """Return a plain tensor of a DTensor's global shape, which answers as a DTensor would."""
        source = whole(original, with_values=self._has_values).detach()
        if isinstance(original, nn.Parameter):
            source = nn.Parameter(source, requires_grad=original.requires_grad)
        else:
            source.requires_grad_(original.requires_grad and original.is_leaf)
        self._kept.append(source)
        if self.casting is not None:
            self.casting.follow(original, source)
        copied = self._tensor(source)
        self.stand_for(original, copied)
        answer_as(original, copied)
        self.leaves.append((original, copied))
        for name, item in original.__dict__.items():
            copied.__dict__.setdefault(name, self.value(item))
        return copied

    def _cast(self, original: torch.Tensor, copied: torch.Tensor) -> torch.Tensor:
        """Cast a tensor that has tensors inside as its class does it, where it can."""
        dtype = copied.dtype if self.casting is None else self.casting(original)
        if dtype == copied.dtype:
            return copied
        try:
            with torch.no_grad():
                return copied.to(dtype).requires_grad_(copied.requires_grad)
        except (NotImplementedError, RuntimeError, TypeError, AssertionError):
            return copied  # then a module cannot cast it either

    def _uninitialized(self, original: torch.Tensor) -> torch.Tensor:
        dtype = original.dtype if self.casting is None else self.casting(original)
        return torch.empty(0, device=self._device, dtype=dtype)

    def _own(
        self, module: nn.Module, kind: str, restored: Mapping[str, Restored]
    ) -> dict[str, Any]:
        """Copy a module's parameters or buffers, with what its wrapper took in its place."""
        held: dict[str, Any] = dict(module.__dict__[kind])
        is_parameter = kind == "_parameters"
        if is_parameter:
            held.pop(FLAT, None)
            gone = (name for name in restored if name not in (*held, *module._buffers))
            held.update(dict.fromkeys(gone))
        copies: dict[str, Any] = {}
        for name, tensor in held.items():
            found = restored.get(name)
            if found is None:
                copies[name] = self.value(tensor)
                continue
            copies[name] = self._whole(found, is_parameter=is_parameter)
            if tensor is not None:
                self.stand_for(tensor, copies[name])
                self.leaves.append((tensor, copies[name]))
        return copies

    def _held(self, original: dict[str, Any]) -> dict[str, Any]:
        """Copy the parameters that a module holds by their names."""
        known: dict[str, Any] | None = self._memo.get(id(original))
        if known is not None or type(original) is not dict:
            return self.value(original)  # type: ignore[no-any-return]
        target: dict[str, Any] = {}
        self.stand_for(original, target)
        for name, item in original.items():
            if type(item) is nn.Parameter and id(item) not in self._memo and _is_untouched(item):
                target[name] = self._parameter(item)
            else:
                target[name] = self.value(item)
        return target

    def _whole(self, restored: Restored, *, is_parameter: bool) -> torch.Tensor:
        known = self._memo.get(id(restored))
        if known is not None:
            return known  # type: ignore[no-any-return]
        source = restored.tensor
        if is_parameter and type(source) is torch.Tensor:
            source = nn.Parameter(source.detach(), requires_grad=restored.requires_grad)
        if self.casting is not None:
            self.casting.add(source)
        copied = self._tensor(source)
        self._kept.append(source)
        self.stand_for(restored, copied)
        return copied

    def _hooks(self, original: OrderedDict[int, Any]) -> Any:
        """Copy hooks, without those that shard; the handles of the others still remove them."""
        copied = self._memo.get(id(original))
        if copied is None and not original:
            copied = OrderedDict()
            self.stand_for(original, copied)
        elif copied is None:
            kept = {key: hook for key, hook in original.items() if not distributes(hook)}
            copied = self.value(OrderedDict(kept)) if kept else OrderedDict()
            self.stand_for(original, copied)
        return copied

    def _module(self, original: nn.Module) -> nn.Module:
        known = self._memo.get(id(original))
        if known is not None:
            return known  # type: ignore[no-any-return]
        wrapper, original = original, unwrap(original)
        if wrapper is not original:
            copied: nn.Module = self._module(original)
            if not hasattr(copied, "module"):  # code that knows of the wrapper asks for it
                copied.__dict__["module"] = weakref.proxy(copied)
            return copied
        if isinstance(original, torch.jit.ScriptModule):
            return self._scripted(original)
        copied = object.__new__(user_class(type(original)))
        self.stand_for(original, copied)
        state: dict[str, Any] = copied.__dict__
        outer, self._path = self._path, type(original).__name__
        restored = self._restored.of(original)
        is_composed = has_composed_state(original)
        for name, value in own_attributes(original).items():
            kind = type(value)
            if restored and name in restored:
                continue
            if is_composed and name.startswith(COMPOSED_STATE):
                continue
            if kind in _SHARED:
                state[name] = value
            elif kind in _EMPTY and not value and not restored:
                state[name] = kind()
            elif name in ("_parameters", "_buffers") and (restored or FLAT in value):
                state[name] = self._own(original, name, restored)
            elif name in _HOOKS:
                state[name] = self._hooks(value)
            elif name == "_parameters":
                state[name] = self._held(value)
            else:
                state[name] = None if name in _LEFT_OUT else self.value(value)
        for name in slots(type(original)):
            if hasattr(original, name):
                object.__setattr__(copied, name, self.value(getattr(original, name)))
        self._path = outer
        return copied

    def _scripted(self, original: torch.jit.ScriptModule) -> nn.Module:
        self.may_hold_packed = True
        with torch.no_grad():  # with gradients the copies would not be leaves
            scripted: nn.Module = copy.deepcopy(original)
        if self.casting is not None:
            self.casting.script(scripted)
        for copied, parameter in zip(scripted.parameters(), original.parameters(), strict=True):
            copied.requires_grad_(parameter.requires_grad)
        self.stand_for(original, scripted)
        return scripted


def whole_model(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return the user's model behind wrappers, and what of the wrapping that leaves out.

    A copy on the meta device where a wrapper took parameters apart.
    """
    restored = RestoredParameters(model, with_values=False)
    if not restored.is_sharded:
        return unwrap(model), restored.notes
    return ModelCopy(model, MetaConverter()).root, restored.notes


def _is_untouched(parameter: nn.Parameter) -> bool:
    """Return whether a parameter is numbers in one block with nothing added to it."""
    kept: Any = parameter
    return not (
        is_irregular(parameter)
        or parameter.__dict__
        or kept._backward_hooks
        or getattr(kept, "_post_accumulate_grad_hooks", None)
    )
