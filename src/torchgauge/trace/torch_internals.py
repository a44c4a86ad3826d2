"""The only file that imports private torch names. Each with the versions it was seen in.

If one of them disappears, this is the file to change; everything else uses the names below.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._C import DispatchKey  # 2.6–2.13
from torch._ops import HigherOrderOperator  # 2.6–2.13
from torch._ops import OpOverload as OpOverload  # 2.6–2.13: what a dispatch mode receives
from torch.overrides import _get_current_function_mode_stack  # 2.6–2.13
from torch.overrides import _pop_mode as _pop_function_mode
from torch.overrides import _push_mode as _push_function_mode
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import (  # 2.6–2.13
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _pop_mode_temporarily,
    _push_mode,
)

NO_SEQUENCE_NR = 2**64 - 1
"""What autograd gives to nodes that no forward op made (AccumulateGrad)."""


class DispatchMode(TorchDispatchMode):
    """A dispatch mode whose handler is called as it is.

    From 2.8 on, the base class wraps handlers so that torch.compile leaves them alone, which
    imports all of ``torch._dynamo`` and costs time on every operator; nothing is compiled here.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


@contextmanager
def without_modes() -> Iterator[None]:
    """Take every active mode off the stacks, and put all back at the end.

    Function modes too: a default device is one. ``_disable_current_modes`` in
    ``torch.utils._python_dispatch`` does the same for dispatch modes, but imports half of the
    compiler.
    """
    function_modes = _get_current_function_mode_stack()
    for _ in function_modes:
        _pop_function_mode()
    modes = _get_current_dispatch_mode_stack()
    for _ in modes:
        _pop_mode()
    try:
        yield
    finally:
        for mode in modes:
            _push_mode(mode)
        for mode in function_modes:
            _push_function_mode(mode)


@contextmanager
def higher_order_operators() -> Iterator[None]:
    """Let our dispatch modes see higher-order operators while the context is open.

    ``TorchDispatchMode.supports_higher_order_operators`` (2.13) asks for that. Without it (2.6),
    an operator refuses every mode whose class has not been registered with it.
    """
    if hasattr(TorchDispatchMode, "supports_higher_order_operators"):
        yield
        return
    dispatch: Callable[..., Any] = HigherOrderOperator.dispatch

    def to_mode(self: Any, dispatch_key: DispatchKey, /, *args: Any, **kwargs: Any) -> Any:
        if dispatch_key == DispatchKey.Python and isinstance(
            _get_current_dispatch_mode(), DispatchMode
        ):
            with _pop_mode_temporarily() as mode:
                return mode.__torch_dispatch__(self, (), args, kwargs)
        return dispatch(self, dispatch_key, *args, **kwargs)

    HigherOrderOperator.dispatch = to_mode  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        HigherOrderOperator.dispatch = dispatch  # type: ignore[method-assign]


def current_autograd_node() -> Any:
    """Return the backward node that the engine is executing, ``None`` outside of backward.

    ``torch._C._current_autograd_node``: 2.6–2.13.
    """
    return torch._C._current_autograd_node()


def reference_counts(tensor: torch.Tensor) -> tuple[int, int]:
    """Return how many references C++ has to a tensor and to its storage, those of Python included.

    ``Tensor._use_count`` and ``torch._C._storage_Use_Count``: 2.6–2.13.
    """
    count: int = tensor._use_count()  # type: ignore[attr-defined]
    storage: int = torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)
    return count, storage


def is_python_node(node: Any) -> bool:
    """Return whether a backward node runs a backward written in Python."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def next_sequence_nr() -> int:
    """Return the number that the next differentiable forward op will give to its node.

    ``torch.autograd._get_sequence_nr``: 2.6–2.13.
    """
    number: int = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
    return number


def node_sequence_nr(node: Any) -> int:
    """Return the sequence number of a backward node (``Node._sequence_nr``: 2.6–2.13)."""
    number: int = node._sequence_nr()
    return number


def node_variable(node: Any) -> torch.Tensor | None:
    """Return the leaf that an AccumulateGrad node writes to, ``None`` for other nodes."""
    return getattr(node, "variable", None)


_AUTOCAST_KEY: Any = getattr(DispatchKey, "AutocastIPU")  # noqa: B009  # not in the stubs
_AUTOCAST_DEVICE = "ipu"
"""A key above autograd that no device of today uses (2.6–2.13)."""


@contextmanager
def autocast_key(kernels: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Let operators of ``aten`` go through ``kernels``, above autograd, for tensors of all kinds.

    ``torch._C._IncludeDispatchKeyGuard``: 2.6–2.13. Other operators fall through the key.
    """
    others = torch.library.Library("_", "IMPL")
    library = torch.library.Library("aten", "IMPL")
    before = torch.is_autocast_enabled(_AUTOCAST_DEVICE)
    try:
        others.fallback(torch.library.fallthrough_kernel, _AUTOCAST_KEY.name)
        for name, kernel in kernels.items():
            library.impl(name.removesuffix(".default"), kernel, _AUTOCAST_KEY.name)
        torch.set_autocast_enabled(_AUTOCAST_DEVICE, True)
        with torch._C._IncludeDispatchKeyGuard(_AUTOCAST_KEY):
            yield
    finally:
        torch.set_autocast_enabled(_AUTOCAST_DEVICE, before)
        library._destroy()
        others._destroy()


def outside_autocast_key() -> Any:
    """Return a context in which operators do not go through the key of ``autocast_key``."""
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_AUTOCAST_KEY))


@contextmanager
def autocast_means_cpu(on_clear: Callable[[], None], *, asked_too: bool) -> Iterator[None]:
    """Read every ``torch.autocast`` as that of the CPU; ``on_clear`` hears of dropped caches.

    With ``asked_too``, whoever asks whether autocast is on for another device, as
    ``torch.amp.custom_fwd`` does, hears of the CPU's.

    ``torch.clear_autocast_cache`` is what ``torch.autocast`` calls when the outermost region
    ends (2.6–2.13).
    """
    kind = torch.amp.autocast_mode.autocast
    init, clear = kind.__init__, torch.clear_autocast_cache

    def init_for_cpu(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        init(self, "cpu" if isinstance(device_type, str) else device_type, *args, **kwargs)

    def clear_both() -> None:
        on_clear()
        clear()

    is_enabled, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    kind.__init__ = init_for_cpu  # type: ignore[method-assign]
    torch.clear_autocast_cache = clear_both
    if asked_too:
        torch.is_autocast_enabled = lambda *_: is_enabled("cpu")
        torch.get_autocast_dtype = lambda *_: dtype("cpu")
    try:
        yield
    finally:
        kind.__init__ = init  # type: ignore[method-assign]
        torch.clear_autocast_cache = clear
        torch.is_autocast_enabled, torch.get_autocast_dtype = is_enabled, dtype


@functools.cache
def cached_casts_require_grad() -> bool:
    """Return whether autocast differentiates the casts that it caches under ``no_grad`` too.

    It decides whether a linear layer of an inference folds its batch. Yes in 2.13, no in 2.6.
    """
    with without_modes(), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        weight = torch.ones((1, 1), requires_grad=True, device="cpu")
        torch.mm(torch.ones((1, 1), device="cpu"), weight)
        with torch.enable_grad():
            return torch.mm(torch.ones((1, 1), device="cpu"), weight).requires_grad


@contextmanager
def list_kernels_on_meta() -> Iterator[None]:
    """Let optimizers and gradient clipping take lists of meta tensors while the context is open.

    They ask ``_get_foreach_kernels_supported_devices``, ``_get_fused_kernels_supported_devices``
    (``torch.utils._foreach_utils``) and ``_get_capturable_supported_devices``
    (``torch.optim.optimizer``; all 2.6–2.13) for the types of device, by names that modules of
    ``torch.optim`` have imported.
    """
    asked = (
        "_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices",
        "_get_capturable_supported_devices",
    )  # fmt: skip
    places = ("torch.optim.", "torch.utils._foreach_utils")
    modules = [module for key, module in sys.modules.items() if key.startswith(places)]
    before = [
        (module, name, vars(module)[name])
        for module in modules
        for name in asked
        if name in vars(module)
    ]
    for module, name, function in before:
        setattr(module, name, lambda *a, function=function, **k: [*function(*a, **k), "meta"])
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


def storage_key(storage: torch.UntypedStorage) -> int:
    """Return the address of the storage's C++ object: unique while it lives (2.6–2.13)."""
    key: int = storage._cdata
    return key


def profiler_range(name: str) -> Any:
    """Return a context manager that the profiler shows as one event of that name.

    ``torch._C._profiler._RecordFunctionFast`` (2.6–2.13) costs a microsecond; the public
    ``record_function`` calls two operators, which would show up among those of the model.
    """
    fast = getattr(torch._C._profiler, "_RecordFunctionFast", None)
    return torch.profiler.record_function(name) if fast is None else fast(name)


@contextmanager
def meta_kernels(
    kernels: Mapping[str, Callable[..., Any]], fused: Iterable[str] = ()
) -> Iterator[None]:
    """Replace composite operators for meta tensors while the context is open.

    Those in ``fused`` stay whole: a kernel for the meta device makes autograd differentiate them
    by themselves, and the dispatch mode, which comes before it, says what they return.
    ``torch.library.Library.m`` (2.6–2.13), because ``impl`` refuses composite operators.

    Does nothing inside another such context. Registered at ``AutogradMeta``, above the dispatch
    mode and only for meta tensors, so that what real tensors do is not touched.
    ``torch.library.Library._destroy``: 2.6–2.13.
    """
    global _kernels_are_set
    if _kernels_are_set:
        yield
        return
    library = torch.library.Library("aten", "IMPL")
    _kernels_are_set = True
    try:
        for name, kernel in kernels.items():
            library.impl(name, kernel, "AutogradMeta")
        registry: Any = library.m
        for name in fused:
            registry.impl(name, "Meta", _left_to_the_mode, False)
        yield
    finally:
        _kernels_are_set = False
        library._destroy()


_kernels_are_set = False


def _left_to_the_mode(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("no kernel for meta tensors outside of an analysis")


def cpu_chooses_flash(*, grouped: bool) -> bool:
    """Return whether the CPU would run its flash attention now, for tensors that it can take.

    ``sdpa_kernel`` and ``enable_flash_sdp`` switch it off, and 2.6 has none for ``grouped``
    queries. ``torch._fused_sdp_choice``, ``torch._C._SDPBackend``: 2.6–2.13.
    """
    with without_modes():
        query = torch.empty((1, 2, 1, 8), device="cpu")
        key = query[:, :1] if grouped else query
        chosen = torch._fused_sdp_choice(query, key, key, enable_gqa=grouped)
    flash: int = torch._C._SDPBackend.FLASH_ATTENTION.value
    return chosen == flash


@functools.cache
def packed_lstm_takes_onednn() -> bool:
    """Return whether the CPU gives an LSTM over packed sequences of one length to oneDNN.

    Yes in 2.13, no in 2.6; seen by running one.
    """
    seen: list[str] = []

    class Watch(DispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with without_modes(), torch.no_grad():
        data, state = torch.zeros((2, 1), device="cpu"), torch.zeros((1, 1, 1), device="cpu")
        weight, sizes = torch.zeros((4, 1), device="cpu"), torch.ones(2, dtype=torch.int64)
        with Watch():
            torch.lstm(data, sizes, [state, state], [weight, weight], False, 1, 0.0, False, False)
    return any("mkldnn_rnn_layer" in name for name in seen)


def enabled_attention() -> frozenset[str]:
    """Return the attention kernels that ``sdpa_kernel`` has not switched off for CUDA."""
    cuda = torch.backends.cuda
    switches: dict[str, Callable[[], bool]] = {
        "flash": cuda.flash_sdp_enabled,
        "efficient": cuda.mem_efficient_sdp_enabled,
        "cudnn": cuda.cudnn_sdp_enabled,
        "math": cuda.math_sdp_enabled,
    }
    return frozenset(name for name, is_enabled in switches.items() if is_enabled())


_ATTENTION_BACKENDS = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn"}
"""Numbers of ``torch._C._SDPBackend`` (2.6–2.13); others have no kernel on CUDA."""
_ATTENTION_AT_START = ("flash", "efficient", "math", "cudnn")
"""``sdp_priority_order`` in ``aten/src/ATen/Context.h``; nothing changes it without a GPU."""


def attention_order_of_the_user() -> tuple[str, ...] | None:
    """Return the order that ``sdpa_kernel(…, set_priority=True)`` asks for, ``None`` without it.

    ``torch._C._get_sdp_priority_order``: 2.6–2.13.
    """
    order = torch._C._get_sdp_priority_order()
    names = tuple(_ATTENTION_BACKENDS[number] for number in order if number in _ATTENTION_BACKENDS)
    return None if names == _ATTENTION_AT_START else names


def is_composite(overload: OpOverload) -> bool:
    """Return whether an operator only calls others (``CompositeImplicitAutograd`` in C++).

    Not ``silu_backward`` and the few like it, for which devices have a kernel of their own too.
    ``torch._C._dispatch_has_kernel_for_dispatch_key``: 2.6–2.13. The method of the overload
    itself also answers yes for Python decompositions, which do not run on real devices.
    """
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return has_kernel(overload.name(), "CompositeImplicitAutograd") and not has_kernel(
        overload.name(), "CPU"
    )


FLEX_STATISTICS = 1 if torch.__version__ < TorchVersion("2.9.0.dev0") else 2
"""How many statistics FlexAttention returns: log-sum-exp, and from 2.9 on the row maximum."""


@contextmanager
def flex_attention_kernel(kernel: Callable[..., Any], *, any_device: bool) -> Iterator[None]:
    """Let FlexAttention run through ``kernel`` while the context is open, on every device if asked.

    In ``torch.nn.attention.flex_attention`` (2.6–2.13), ``_validate_device`` refuses devices by
    name, and the operator ``flex_attention_hop`` differentiates its score function by tracing it,
    which cannot be done under a dispatch mode (the process ends).
    """
    module: Any = sys.modules.get("torch.nn.attention.flex_attention")
    if module is None or not hasattr(module, "flex_attention_hop"):
        yield
        return
    before = module.flex_attention_hop, getattr(module, "_validate_device", _accept)
    module.flex_attention_hop = kernel
    if any_device:
        module._validate_device = _accept
    try:
        yield
    finally:
        module.flex_attention_hop, module._validate_device = before


def _accept(*tensors: torch.Tensor) -> None:
    """Accept every device."""


def without_transforms(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor that ``vmap``, ``grad`` and the like of ``torch.func`` have wrapped.

    What they wrap has a shape and no storage. ``torch._C._functorch``: 2.6–2.13.
    """
    functorch: Any = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def unwrap_compiled(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module that ``torch.compile`` wrapped (``_orig_mod``: 2.6–2.13)."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    original = module._modules.get("_orig_mod")
    return module if original is None else original


def flatten_subclass(tensor: torch.Tensor) -> list[torch.Tensor] | None:
    """Return the plain tensors inside a wrapper subclass, ``None`` for other tensors.

    ``__tensor_flatten__`` is the protocol of traceable subclasses (2.6–2.13).
    """
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        return None
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return None
    names, _ = flatten()
    return [getattr(tensor, name) for name in names]


# ---------------------------------------------------------------------------- nested structures


def flatten_with_names(value: Any) -> tuple[list[tuple[str, ...]], list[Any], Any]:
    """Return the path of each leaf as keys, indices and field names, the leaves, the structure.

    2.6–2.13; ``torch.utils._pytree`` has no public twin that knows transformers' outputs.
    """
    from torch.utils import _pytree

    pairs, spec = _pytree.tree_flatten_with_path(value)
    paths = [tuple(str(_key(entry)) for entry in path) for path, _ in pairs]
    return paths, [leaf for _, leaf in pairs], spec


def unflatten(leaves: Sequence[Any], spec: Any) -> Any:
    """Return the structure with ``leaves`` in it; see ``flatten_with_names``."""
    from torch.utils import _pytree

    return _pytree.tree_unflatten(list(leaves), spec)


def _key(entry: Any) -> Any:
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry
