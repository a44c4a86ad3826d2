"""The model's twin: the same modules, with other tensors, so that the model is never touched.

The twin is a copy of the module tree. Parameters, buffers and every other tensor found in the
modules' attributes are replaced through ``convert`` (meta tensors for a simulation, CPU copies
for a real run); tensors that shared a storage share one again. Settings are copied, code is the
original; a function that holds on to values (a closure) holds on to their twins.
"""

from __future__ import annotations

import copy
import copyreg
import dis
import functools
import operator
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from torchgauge.facts.guess import Guess
from torchgauge.trace.copy.casting import Casting
from torchgauge.trace.copy.restored import (
    FLAT,
    Restored,
    RestoredParameters,
    answer_as,
    is_distributed,
    whole,
)
from torchgauge.trace.inspect.geometry import is_whole, view_of, view_over
from torchgauge.trace.inspect.irregular import dense_parts, is_irregular, sparse_over
from torchgauge.trace.inspect.modules import tensors_of
from torchgauge.trace.inspect.packed_objects import is_packed
from torchgauge.trace.inspect.subclasses import (
    ORDINARY,
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
    is_of_distributed,
    own_attributes,
    user_class,
)
from torchgauge.trace.inspect.wrappers import unwrap as unwrap
from torchgauge.trace.python.threads import is_of_threads
from torchgauge.trace.torch_internals.autograd import viewed
from torchgauge.trace.torch_internals.tensors import storage_key

_SHARED = frozenset((
    bool, int, float, complex, str, bytes, type(None), type, types.BuiltinFunctionType,
    types.ModuleType, torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout,
    range,
))  # fmt: skip
_KEYED = (dict, OrderedDict, defaultdict, weakref.WeakKeyDictionary, WeakTensorKeyDictionary)
"""Dictionaries whose keys may be tensors and modules, or their identities."""
_DICTIONARIES = (dict, OrderedDict)
_LEFT_OUT = ("_compiled_call_impl",)
"""Attributes that a twin must not have: it runs the original code, not a compiled one."""

_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
"""Where modules keep what runs around their forward."""


class Twin:
    """A copy of a module tree whose tensors come from ``convert``.

    ``root`` is the copied model. ``notes`` names the attributes that could not be copied and are
    shared, ``assumptions`` what of a wrapped model's wrapping is left out.
    """

    def __init__(self, model: nn.Module, convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._convert = convert
        self._device = getattr(convert, "device", torch.device("meta"))
        self._casting: Casting | None = getattr(convert, "casting", None)
        self._memo: dict[int, Any] = {}
        self._kept: list[Any] = []  # keeps originals alive, so that no identity is used twice
        self._parameters: list[nn.Parameter] = []
        self.leaves: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Tensors that gradients are computed for, each with its twin."""
        self.tensors: list[torch.Tensor] = []
        """All copies, in their order."""
        self.optimizers: list[torch.optim.Optimizer] = []
        """Copies of optimizers that the model, or a hook, refers to."""
        self.notes: list[str] = []
        self.shared: list[Any] = []
        """Objects that could not be copied: the copy's are the model's own."""
        self._path = ""
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

    def value(self, original: Any) -> Any:
        """Return the twin of any value: containers are copied, tensors and modules replaced."""
        kind = type(original)
        if kind in _SHARED:
            return original
        known = self._memo.get(id(original))
        if known is not None:
            return known
        if kind is nn.Parameter and _is_untouched(original):
            return self._parameter(original)
        if isinstance(original, torch.Tensor):
            return self._tensor(original)
        if isinstance(original, nn.Module):
            return self._module(original)
        if kind in _KEYED:
            target = kind(original.default_factory) if kind is defaultdict else kind()
            self._remember(original, target)
            for key, item in list(original.items()):
                target[self._key(key)] = self.value(item)
            return target
        if kind is list:
            items: list[Any] = []
            self._remember(original, items)
            items.extend([self.value(item) for item in original])
            return items
        if kind in (tuple, set, frozenset):
            return kind(self.value(item) for item in original)
        if kind is PackedSequence:  # its constructor wants the batch sizes on the CPU
            data, sizes, *orders = original
            return tuple.__new__(kind, (self.value(data), sizes, *map(self.value, orders)))
        return self._other(original, kind)

    def _key(self, key: Any) -> Any:
        """Return the key under which a copied dictionary keeps what is kept for a tensor."""
        if isinstance(key, (torch.Tensor, nn.Module)):
            return self.value(key)
        if type(key) is int and self.knows_identity(key):
            return id(self._memo[key])
        return key

    def knows_identity(self, number: int) -> bool:
        """Return whether a number is the identity of a tensor or module that has a twin."""
        return isinstance(self._memo.get(number), (torch.Tensor, nn.Module))

    def stand_for(self, original: Any, twin: Any) -> None:
        """Give out ``twin`` wherever ``original`` is referred to."""
        self._remember(original, twin)

    def _optimizer(self, original: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Copy all attributes: a subclass may keep more than what it pickles."""
        twin: torch.optim.Optimizer = object.__new__(type(original))
        self._remember(original, twin)
        self.optimizers.append(twin)
        for name, value in list(original.__dict__.items()):
            twin.__dict__[name] = self.value(value)
        return twin

    def _other(self, original: Any, kind: type) -> Any:
        if issubclass(kind, torch.optim.Optimizer):
            return self._optimizer(original)
        if kind is types.MethodType:
            return types.MethodType(original.__func__, self.value(original.__self__))
        if kind is weakref.ReferenceType:
            target = original()
            twin = None if target is None else self._memo.get(id(target))
            return original if twin is None else weakref.ref(twin)
        if kind is RemovableHandle:
            return self._handle(original)
        if kind is types.FunctionType:
            return self._function(original)
        if callable(original) and isinstance(original, type):
            return original
        if is_of_distributed(kind) or is_packed(original):
            return original  # nothing changes what is packed
        if is_of_threads(kind):
            self.shared.append(original)
            return original
        try:
            with _TensorTwins(self):
                twin = self._copied(original, kind)
        except Exception:
            self.notes.append(
                f"{self._path or 'model'}: a {kind.__name__} in its attributes cannot be copied "
                "and is shared with the analysed copy"
            )
            self.shared.append(original)
            twin = original
        self._remember(original, twin)
        return twin

    def _copied(self, original: Any, kind: type) -> Any:
        """Copy an object as ``copy.deepcopy`` does, but with twins of what it holds."""
        if hasattr(kind, "__deepcopy__"):
            return original.__deepcopy__(self._memo)
        reduce = copyreg.dispatch_table.get(kind)
        reduced: Any = original.__reduce_ex__(4) if reduce is None else reduce(original)
        if isinstance(reduced, str):  # a name: something global
            return original
        return copy._reconstruct(  # type: ignore[attr-defined]
            original, self._memo, *reduced, deepcopy=lambda value, memo: self.value(value)
        )

    def _function(self, original: types.FunctionType) -> types.FunctionType:
        """Copy a function that refers to what is copied: hooks and lambdas made in ``__init__``."""
        cells = tuple(self._cell(cell) for cell in original.__closure__ or ())
        defaults = self.value(original.__defaults__)
        keywords = self.value(original.__kwdefaults__)
        before = (*(original.__defaults__ or ()), *(original.__kwdefaults__ or {}).values())
        if (
            all(map(_same_contents, cells, original.__closure__ or ()))
            and all(map(operator.is_, (*(defaults or ()), *(keywords or {}).values()), before))
            and not _writes_cells(original.__code__)
        ):
            return original
        twin = types.FunctionType(
            original.__code__, original.__globals__, original.__name__, defaults, cells
        )
        twin.__kwdefaults__ = keywords
        self._remember(original, twin)
        for name in functools.WRAPPER_ASSIGNMENTS:
            setattr(twin, name, getattr(original, name))
        twin.__dict__.update(self.value(original.__dict__))
        return twin

    def _cell(self, original: types.CellType) -> types.CellType:
        known = self._memo.get(id(original))
        if known is not None:
            return known  # type: ignore[no-any-return]
        twin = types.CellType()
        self._remember(original, twin)
        with suppress(ValueError):  # nothing is in it yet
            twin.cell_contents = self.value(original.cell_contents)
        return twin

    def _handle(self, original: RemovableHandle) -> RemovableHandle:
        """Copy the handle of a hook so that it removes the twin's hook, not the original's."""
        hooks = original.hooks_dict_ref()
        handle = RemovableHandle.__new__(RemovableHandle)
        handle.id = original.id
        twin_hooks = OrderedDict() if hooks is None else self.value(hooks)
        handle.hooks_dict_ref = weakref.ref(twin_hooks)
        handle.extra_dict_ref = ()
        self._kept.append(twin_hooks)
        return handle

    def _remember(self, original: Any, twin: Any) -> None:
        self._memo[id(original)] = twin
        self._kept.append(original)

    def _tensor(self, original: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same class with twins of what is inside and attached to it."""
        if type(original) is nn.Parameter and _is_untouched(original):
            return self._parameter(original)
        if is_distributed(original):
            return self._distributed(original)
        base = viewed(original)
        if isinstance(base, nn.Parameter) and self.value(base).stride() == base.stride():
            twin = view_of(self.value(base), original, base)
            self._remember(original, twin)
            return twin
        convert = self._uninitialized if is_lazy(original) else partial(self._plain, original)
        twin = rebuilt(original, convert, self.value, self._device)
        if is_wrapper(type(original)):
            twin = self._cast(original, twin)
        self._remember(original, twin)
        if has_attributes(original):
            copy_attributes(original, twin, self.value)
        self.tensors.append(twin)
        if isinstance(twin, nn.Parameter):
            self._parameters.append(twin)
        if twin.requires_grad and twin.is_leaf:
            self.leaves.append((original, twin))
        return twin

    def _parameter(self, original: nn.Parameter) -> torch.Tensor:
        """Return the twin of a parameter that is numbers and nothing else."""
        data = self._convert(original)
        twin = torch.Tensor._make_subclass(nn.Parameter, data, original.requires_grad)
        self._remember(original, twin)
        self.tensors.append(twin)
        self._parameters.append(twin)
        if original.requires_grad:
            self.leaves.append((original, twin))
        return twin

    def _plain(self, original: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        """Convert the data of a tensor, cast as the tensor is."""
        if self._casting is not None and data is not original:
            self._casting.follow(original, data)
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
        if self._casting is not None:
            self._casting.follow(original, source)
        twin = self._tensor(source)
        self._remember(original, twin)
        answer_as(original, twin)
        self.leaves.append((original, twin))
        for name, item in original.__dict__.items():
            twin.__dict__.setdefault(name, self.value(item))
        return twin

    def _cast(self, original: torch.Tensor, twin: torch.Tensor) -> torch.Tensor:
        """Cast a tensor that has tensors inside as its class does it, where it can."""
        dtype = twin.dtype if self._casting is None else self._casting(original)
        if dtype == twin.dtype:
            return twin
        try:
            with torch.no_grad():
                return twin.to(dtype).requires_grad_(twin.requires_grad)
        except (NotImplementedError, RuntimeError, TypeError, AssertionError):
            return twin  # then a module cannot cast it either

    def _uninitialized(self, original: torch.Tensor) -> torch.Tensor:
        dtype = original.dtype if self._casting is None else self._casting(original)
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
        twins: dict[str, Any] = {}
        for name, tensor in held.items():
            found = restored.get(name)
            if found is None:
                twins[name] = self.value(tensor)
                continue
            twins[name] = self._whole(found, is_parameter=is_parameter)
            if tensor is not None:
                self._remember(tensor, twins[name])
                self.leaves.append((tensor, twins[name]))
        return twins

    def _held(self, original: dict[str, Any]) -> dict[str, Any]:
        """Copy the parameters that a module holds by their names."""
        known: dict[str, Any] | None = self._memo.get(id(original))
        if known is not None or type(original) is not dict:
            return self.value(original)  # type: ignore[no-any-return]
        target: dict[str, Any] = {}
        self._remember(original, target)
        for name, item in original.items():
            target[name] = self.value(item)
        return target

    def _whole(self, restored: Restored, *, is_parameter: bool) -> torch.Tensor:
        known = self._memo.get(id(restored))
        if known is not None:
            return known  # type: ignore[no-any-return]
        source = restored.tensor
        if is_parameter and type(source) is torch.Tensor:
            source = nn.Parameter(source.detach(), requires_grad=restored.requires_grad)
        if self._casting is not None:
            self._casting.add(source)
        twin = self._tensor(source)
        self._kept.append(source)
        self._remember(restored, twin)
        return twin

    def _hooks(self, original: OrderedDict[int, Any]) -> Any:
        """Copy hooks, without those that shard; the handles of the others still remove them."""
        twin = self._memo.get(id(original))
        if twin is None and not original:
            twin = OrderedDict()
            self._remember(original, twin)
        elif twin is None:
            kept = {key: hook for key, hook in original.items() if not distributes(hook)}
            twin = self.value(OrderedDict(kept)) if kept else OrderedDict()
            self._remember(original, twin)
        return twin

    def _module(self, original: nn.Module) -> nn.Module:
        twin: nn.Module
        known = self._memo.get(id(original))
        if known is not None:
            return known  # type: ignore[no-any-return]
        wrapper, original = original, unwrap(original)
        if wrapper is not original:
            twin = self._module(original)
            if not hasattr(twin, "module"):  # code that knows of the wrapper asks for it
                twin.__dict__["module"] = weakref.proxy(twin)
            return twin
        if isinstance(original, torch.jit.ScriptModule):
            with torch.no_grad():  # with gradients the copies would not be leaves
                scripted: nn.Module = copy.deepcopy(original)
            if self._casting is not None:
                self._casting.script(scripted)
            for copied, parameter in zip(scripted.parameters(), original.parameters(), strict=True):
                copied.requires_grad_(parameter.requires_grad)
            self._remember(original, scripted)
            return scripted
        twin = object.__new__(user_class(type(original)))
        self._remember(original, twin)
        state: dict[str, Any] = twin.__dict__
        outer, self._path = self._path, type(original).__name__
        restored = self._restored.of(original)
        is_composed = has_composed_state(original)
        is_as_built = not (restored or is_composed)
        for name, value in own_attributes(original).items():
            kind = type(value)
            if is_as_built and kind in _SHARED:
                state[name] = value
            elif is_as_built and kind in _DICTIONARIES and not value and name not in _HOOKS:
                state[name] = kind()
            elif is_as_built and name == "_parameters" and FLAT not in value:
                state[name] = self._held(value)
            elif name in _LEFT_OUT:
                state[name] = None
            elif name in restored or (is_composed and name.startswith(COMPOSED_STATE)):
                continue
            elif name in ("_parameters", "_buffers") and (restored or FLAT in value):
                state[name] = self._own(original, name, restored)
            elif name in _HOOKS:
                state[name] = self._hooks(value)
            elif kind in _SHARED:
                state[name] = value
            elif kind in _DICTIONARIES and not value:
                state[name] = kind()
            else:
                state[name] = self.value(value)
        for name in slots(type(original)):
            if hasattr(original, name):
                object.__setattr__(twin, name, self.value(getattr(original, name)))
        self._path = outer
        return twin


def whole_model(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return the user's model behind wrappers, and what of the wrapping that leaves out.

    A copy on the meta device where a wrapper took parameters apart.
    """
    restored = RestoredParameters(model, with_values=False)
    if not restored.is_sharded:
        return unwrap(model), restored.notes
    return Twin(model, MetaConverter()).root, restored.notes


def _is_untouched(parameter: nn.Parameter) -> bool:
    """Return whether a parameter is numbers in one block, and nobody has added anything to it."""
    kept: Any = parameter
    return not (
        is_irregular(parameter)
        or parameter.__dict__
        or kept._backward_hooks
        or getattr(kept, "_post_accumulate_grad_hooks", None)
    )


def _writes_cells(code: types.CodeType) -> bool:
    """Return whether a function may give a variable of its closure another value."""
    return bool(code.co_freevars) and dis.opmap["STORE_DEREF"] in code.co_code[::2]


def _same_contents(left: types.CellType, right: types.CellType) -> bool:
    try:
        return left.cell_contents is right.cell_contents
    except ValueError:  # both are empty
        return True


class _TensorTwins(TorchFunctionMode):
    """While an unknown object is copied, the tensors inside it are replaced by their twins."""

    def __init__(self, twin: Twin) -> None:
        super().__init__()
        self._twin = twin

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.__deepcopy__:
            return self._twin.value(args[0])
        return func(*args, **(kwargs or {}))


class MetaConverter:
    """Turn real tensors into meta tensors that share storages where the originals do.

    ``casting`` says which of them get another dtype. ``on_new`` hears of each original and its
    copy.
    """

    def __init__(
        self,
        casting: Casting | None = None,
        on_new: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
    ) -> None:
        self.casting = casting
        self._on_new = on_new
        self.irregular: torch.Tensor | None = None
        """The last sparse or nested tensor that was met; it has no copy without data."""
        self._storages: dict[int, torch.UntypedStorage] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the meta copy."""
        dtype = tensor.dtype if self.casting is None else self.casting(tensor)
        if is_irregular(tensor):
            self.irregular = tensor
            return torch.empty(0, dtype=dtype, device="meta")
        if not (type(tensor) in ORDINARY and not tensor.is_quantized) and not _is_plain(tensor):
            twin = torch.empty(tensor.shape, dtype=dtype, device="meta")
        else:
            twin = self._strided(tensor, dtype)
        if self._on_new is not None:
            self._on_new(tensor, twin)
        return twin

    def _strided(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        shared = self._storages.get(key)
        if shared is None and dtype == tensor.dtype and is_whole(tensor, storage):
            twin = torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=_META)
            self._storages[key] = twin.untyped_storage()
            return twin
        if shared is None:
            shared = torch.UntypedStorage(storage.nbytes(), device="meta")
            self._storages[key] = shared
        twin = view_over(shared, tensor)
        # A tensor of another dtype is one of its own, as those that module.to(dtype) makes.
        return twin if dtype == tensor.dtype else torch.empty_like(twin, dtype=dtype)


class CpuConverter:
    """Copy tensors for a real run; meta tensors get a small constant as value.

    The copies are on the CPU unless another ``device`` is named.
    """

    def __init__(
        self,
        casting: Casting | None,
        assumptions: list[str],
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.casting = casting
        self._assumptions = assumptions
        self._storages: dict[int, torch.UntypedStorage] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the copy."""
        dtype = tensor.dtype if self.casting is None else self.casting(tensor)
        if is_irregular(tensor) and not tensor.is_nested and dense_parts(tensor):
            *indices, values = (self(part) for part in dense_parts(tensor))
            return sparse_over(tensor, indices, values.to(dtype))
        if not _is_plain(tensor):
            return tensor.detach().to(self.device, copy=True).to(dtype)
        if dtype != tensor.dtype:
            return self._filled(tensor).to(dtype)
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        twin = self._storages.get(key)
        if twin is None:
            twin = torch.UntypedStorage(storage.nbytes(), device=self.device)
            if not tensor.is_meta:
                twin.copy_(storage, False)
            self._storages[key] = twin
            if tensor.is_meta:
                self._note()
                whole = torch.empty(0, dtype=tensor.dtype, device=self.device).set_(twin)
                whole.fill_(_FILL if tensor.dtype.is_floating_point else 0)
        return view_over(twin, tensor)

    def _filled(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor.detach().to(self.device, copy=True)
        self._note()
        filled = torch.empty_like(tensor, device=self.device, requires_grad=False)
        return filled.fill_(_FILL)

    def _note(self) -> None:
        note = Guess(
            f"tensors on the meta device have no values; the real run used {_FILL} for them"
        )
        if note not in self._assumptions:
            self._assumptions.append(note)


_FILL = 0.01
_META = torch.device("meta")


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        (
            type(tensor) in (torch.Tensor, nn.Parameter, nn.Buffer)
            or type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
        )
        and not is_irregular(tensor)
        and not tensor.is_quantized
    )
