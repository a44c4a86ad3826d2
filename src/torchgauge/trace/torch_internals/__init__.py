"""The only file that imports private torch names. Each with the versions it was seen in.

If one of them disappears, this is the file to change; everything else uses the names below.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
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

from torchgauge.trace.torch_internals.onednn import lstm_workspace_bytes

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


def is_alone() -> bool:
    """Return whether one dispatch mode is active, and nothing that sees operators besides it.

    No function mode, no function transform, no tracing (``torch._C._len_torch_dispatch_stack``,
    ``_len_torch_function_stack``, ``_functorch.peek_interpreter_stack``, ``_get_tracing_state``:
    2.6–2.13).
    """
    internals: Any = torch._C
    return (
        internals._len_torch_dispatch_stack() == 1
        and internals._len_torch_function_stack() == 0
        and internals._functorch.peek_interpreter_stack() is None
        and internals._get_tracing_state() is None
    )


def dispatch_modes() -> list[Any]:
    """Return the dispatch modes that are active in this thread, the innermost last."""
    modes: list[Any] = _get_current_dispatch_mode_stack()
    return modes


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


@contextmanager
def higher_order_kernels(kernels: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Run ``kernels`` in place of the higher-order operators of these names, above autograd.

    A kernel may return ``NotImplemented``, and ``vmap`` and the like keep PyTorch's way. The other
    operators fall through autocast, as on every device. ``HigherOrderOperator.__call__``: 2.6–2.13.
    """
    call: Callable[..., Any] = HigherOrderOperator.__call__

    def to_kernel(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        kernel = kernels.get(self.name())
        result: Any = NotImplemented
        if kernel is not None and torch._C._functorch.peek_interpreter_stack() is None:
            result = kernel(*args, **kwargs)
        if result is NotImplemented:
            with outside_autocast_key():
                result = call(self, *args, **kwargs)
        return result

    HigherOrderOperator.__call__ = to_kernel  # type: ignore[method-assign]
    try:
        yield
    finally:
        HigherOrderOperator.__call__ = call  # type: ignore[method-assign]


def scan_by_halves(
    function: Callable[..., Any], scanned: Sequence[Any], additional: Sequence[Any]
) -> list[Any]:
    """Return ``torch._higher_order_ops.associative_scan.generic_associative_scan`` (2.6–2.13)."""
    from torch._higher_order_ops.associative_scan import generic_associative_scan

    extra = {"additional_inputs": additional} if additional else {}
    return list(generic_associative_scan(function, list(scanned), **extra))


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
"""A key above autograd that no device of today uses (2.6–2.13). Excluded where nothing asks."""


@contextmanager
def autocast_key(
    kernels: Callable[[], dict[str, Callable[..., Any]]],
) -> Iterator[Callable[[bool], None]]:
    """Yield a switch that sends the operators of ``aten`` through ``kernels``, above autograd.

    The switch acts on tensors of all kinds, in the thread that calls it; other operators fall
    through the key. ``kernels`` is called, and its kernels are registered, when the switch is
    first turned on. ``torch._C._dispatch_tls_set_dispatch_key_included`` and ``…_excluded``:
    2.6–2.13.
    """
    libraries: list[Any] = []

    def switch(on: bool) -> None:
        if on and not libraries:
            others, library = (torch.library.Library(name, "IMPL") for name in ("_", "aten"))
            libraries.extend((library, others))
            others.fallback(torch.library.fallthrough_kernel, _AUTOCAST_KEY.name)
            for name, kernel in kernels().items():
                library.impl(name.removesuffix(".default"), kernel, _AUTOCAST_KEY.name)
        torch._C._dispatch_tls_set_dispatch_key_included(_AUTOCAST_KEY, on)
        torch._C._dispatch_tls_set_dispatch_key_excluded(_AUTOCAST_KEY, not on)

    try:
        yield switch
    finally:
        switch(False)
        for library in libraries:
            library._destroy()


def outside_autocast_key() -> Any:
    """Return a context in which operators do not go through the key of ``autocast_key``."""
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_AUTOCAST_KEY))


@contextmanager
def autocast_of_the_caller() -> Iterator[None]:
    """Let operators that a dispatch mode calls go through the key of ``autocast_key``, if it is on.

    ``torch._C._dispatch_tls_is_dispatch_key_included``, ``…_excluded``: 2.6–2.13.
    """
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(_AUTOCAST_KEY)
    if torch._C._dispatch_tls_is_dispatch_key_included(_AUTOCAST_KEY):
        torch._C._dispatch_tls_set_dispatch_key_excluded(_AUTOCAST_KEY, False)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(_AUTOCAST_KEY, excluded)


@contextmanager
def casts_of_autograd_functions(device_of: Callable[[torch.Tensor, str], str]) -> Iterator[None]:
    """Let ``torch.amp.custom_fwd`` cast tensors that are elsewhere than on the device it names.

    ``device_of`` gives the type of device to look for, by a tensor and the type named.
    ``torch.amp.autocast_mode._cast``: 2.6–2.13.
    """
    module: Any = torch.amp.autocast_mode
    cast = module._cast

    def cast_for_device(value: Any, device_type: str, dtype: torch.dtype) -> Any:
        if isinstance(value, torch.Tensor):
            device_type = device_of(value, device_type)
        return cast(value, device_type, dtype)

    module._cast = cast_for_device
    try:
        yield
    finally:
        module._cast = cast


def has_no_cuda() -> bool:
    """Return whether ``torch.autocast("cuda")`` switches itself off when it is made.

    ``torch.cuda.amp.common.amp_definitely_not_available``: 2.6–2.13.
    """
    return bool(torch.cuda.amp.common.amp_definitely_not_available())


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


def global_module_hooks() -> list[Callable[..., Any]]:
    """Return the hooks that run around every module, in ``torch.nn.modules.module`` (2.6–2.13)."""
    names = (
        "_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_hooks",
        "_global_backward_pre_hooks",
    )  # fmt: skip
    module = torch.nn.modules.module
    return [hook for name in names for hook in getattr(module, name, {}).values()]


TENSOR_HOOKS = "_backward_hooks"
"""Where ``Tensor.register_hook`` keeps hooks, by number; settable (2.6–2.13)."""
POST_ACCUMULATE_HOOKS = "_post_accumulate_grad_hooks"
"""Where ``register_post_accumulate_grad_hook`` keeps them (2.6–2.13)."""


def node_hooks(node: Any) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return the hooks before and after a node that accumulates a leaf's gradient.

    A node names its dictionaries to the handle of a hook that is added to them
    (``THPCppFunction_register_hook`` in ``torch/csrc/autograd/python_cpp_function.cpp``, 2.6–2.13).
    A node that nobody holds is a new one, and has none.
    """
    found = []
    for register in (node.register_prehook, node.register_hook):
        handle = register(print)
        hooks = handle.hooks_dict_ref()
        handle.remove()
        found.append({} if hooks is None else hooks)
    return found[0], found[1]


def gradient_node(leaf: torch.Tensor) -> Any:
    """Return the node that accumulates a leaf's gradient; it lives while somebody holds it."""
    return torch.autograd.graph.get_gradient_edge(leaf).node


class _Gathered(torch.autograd.Function):
    """A node that comes after those of all its arguments."""

    @staticmethod
    def forward(ctx: Any, *leaves: torch.Tensor) -> torch.Tensor:
        """Return a tensor that seems to be computed from the leaves."""
        return torch.empty(0, device="cpu")


def gradient_nodes(leaves: Sequence[torch.Tensor]) -> list[Any]:
    """Return the nodes that accumulate the gradients of leaves, all at once."""
    if not leaves:
        return []
    with torch.enable_grad():
        gathered = _Gathered.apply(*leaves)  # type: ignore[no-untyped-call]
    return [node for node, _ in gathered.grad_fn.next_functions]


def storage_key(storage: torch.UntypedStorage) -> int:
    """Return the address of the storage's C++ object: unique while it lives (2.6–2.13)."""
    key: int = storage._cdata
    return key


def profiler_is_on() -> bool:
    """Return whether a profiler runs in this thread (``torch._C._autograd``: 2.6–2.13)."""
    on: bool = torch._C._autograd._profiler_enabled()
    return on


def memory_events(run: Callable[[], None]) -> list[int]:
    """Run a function; return the bytes allocated (positive) and freed meanwhile, in order.

    ``torch.autograd.profiler.profile.kineto_results``: 2.6–2.13.
    """
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        run()
    results: Any = profiler.kineto_results
    found = [event for event in results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(found, key=lambda event: event.start_ns())]


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


@contextmanager
def attention_fused_on_meta() -> Iterator[None]:
    """Let attention take its fused fast path for meta tensors as it does on a device.

    ``MultiheadAttention`` and ``TransformerEncoderLayer`` take it on ``cpu``, ``cuda`` and the
    device of this name: ``torch.utils.backend_registration._privateuse1_backend_name`` (2.6–2.13).
    """
    names: Any = torch.utils.backend_registration
    before = names._privateuse1_backend_name
    names._privateuse1_backend_name = "meta"
    try:
        yield
    finally:
        names._privateuse1_backend_name = before


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


@functools.cache
def has_early_onednn() -> bool:
    """Return whether oneDNN's LSTM keeps as much as up to version 3.7; seen by running one.

    ``lstm_workspace_bytes`` says what it keeps. Yes in 2.6 and 2.9, no in 2.13.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    with without_modes(), torch.autocast("cpu", enabled=False):
        source, state = torch.zeros((1, 1, 1), device="cpu"), torch.zeros((1, 1), device="cpu")
        weight, bias = torch.zeros((4, 1), device="cpu"), torch.zeros(4, device="cpu")
        try:
            layer = torch.ops.aten.mkldnn_rnn_layer(
                source, weight, weight, bias, bias, state, state, False, [], 2, 1, 1, True, False,
                False, True,
            )  # fmt: skip
        except RuntimeError:  # a build whose oneDNN has no such kernel
            return False
    return bool(layer[3].nbytes > lstm_workspace_bytes(1, 1, 1, 1))


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

    ``torch._C._get_sdp_priority_order``: 2.6–2.13. In 2.6 its last place is empty, which reads as a
    second "math".
    """
    order = torch._C._get_sdp_priority_order()
    known = dict.fromkeys(number for number in order if number in _ATTENTION_BACKENDS)
    names = tuple(_ATTENTION_BACKENDS[number] for number in known)
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


def call_kernel(overload: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the kernel that an operator has for the CPU, or for all devices, on any tensors.

    Only for kernels that call other operators. ``OpOverload._op_dk``: 2.6–2.13.
    """
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    key = "CPU" if has_kernel(overload.name(), "CPU") else "CompositeExplicitAutograd"
    return overload._op_dk(getattr(DispatchKey, key), *args, **kwargs)


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


def negative_view(tensor: torch.Tensor) -> torch.Tensor:
    """Return the view whose values are negated when they are read (``torch._neg_view``: 2.6–2.13).

    The imaginary part of a conjugate is one.
    """
    return torch._neg_view(tensor)


def viewed(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the tensor that a differentiable view is a view of (``Tensor._base``: 2.6–2.13)."""
    if not tensor.requires_grad or tensor.is_leaf or type(tensor) is not torch.Tensor:
        return None
    return tensor._base if tensor.layout is torch.strided else None


def unwrap_compiled(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module that ``torch.compile`` wrapped (``_orig_mod``: 2.6–2.13)."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    original = module._modules.get("_orig_mod")
    return module if original is None else original


def is_default_dispatch(kind: type) -> bool:
    """Return whether operators on tensors of a class run as on any tensor (2.6–2.13)."""
    own = getattr(kind, "__torch_dispatch__", None)
    return own is None or own in (
        torch.Tensor.__torch_dispatch__,
        torch._C._disabled_torch_dispatch_impl,
    )


def function_mode_count() -> int:
    """Return how many function modes are active (``_len_torch_function_stack``: 2.6–2.13)."""
    count: int = torch._C._len_torch_function_stack()
    return count


_FLAGS: tuple[Callable[[], Any], ...] = tuple(
    getattr(torch._C, name)
    for name in (
        "_get_deterministic_algorithms", "_get_mkldnn_enabled", "_get_cudnn_enabled",
        "_get_cudnn_deterministic",
    )
    if hasattr(torch._C, name)
)  # fmt: skip
"""Settings that choose kernels (2.6–2.13)."""
_autocast_is_on: Callable[[Any], bool] = torch._C._dispatch_tls_is_dispatch_key_included
_autocast_dtypes = tuple(partial(torch.get_autocast_dtype, kind) for kind in ("cpu", "cuda"))
_added_keys: Callable[[], Any] = torch._C._dispatch_tls_local_include_set
_left_out_keys: Callable[[], Any] = torch._C._dispatch_tls_local_exclude_set


def dispatch_state() -> tuple[Any, ...]:
    """Return all settings that may change what an operator without data answers.

    The dispatch keys that this thread adds and leaves out hold inference mode, autocast and
    function transforms (``_dispatch_tls_local_include_set`` and ``…_exclude_set``: 2.6–2.13). A
    default device is a function mode.
    """
    state = (
        _default_dtype(), _is_grad_enabled(), _added_keys().raw_repr(),
        _left_out_keys().raw_repr(), *[flag() for flag in _FLAGS],
    )  # fmt: skip
    if _autocast_is_on(_AUTOCAST_KEY):
        return *state, *[dtype() for dtype in _autocast_dtypes]
    return state


_default_dtype, _is_grad_enabled = torch.get_default_dtype, torch.is_grad_enabled
_keys_of: Callable[[torch.Tensor], Any] = torch._C._dispatch_keys


def dispatch_keys(tensor: torch.Tensor) -> int:
    """Return where a tensor's operators go: its device, class, conjugation, negation, inference.

    ``torch._C._dispatch_keys`` and ``DispatchKeySet.raw_repr``: 2.6–2.13.
    """
    keys: int = _keys_of(tensor).raw_repr()
    return keys


def without_dispatch() -> Any:
    """Return a context in which dispatch modes see no operator.

    ``_DisableTorchDispatch``: 2.6–2.13.

    For what is cheap: taking the modes off their stack takes ten times as long.
    """
    return torch._C._DisableTorchDispatch()


def without_torch_function() -> Any:
    """Return a context in which ``__torch_function__`` of subclasses is not called (2.6–2.13)."""
    return torch._C.DisableTorchFunctionSubclass()


@contextmanager
def meta_answers_as(
    device: torch.device, unless: Callable[[], bool], *, hides_meta: bool = False
) -> Iterator[None]:
    """Let meta tensors say that they are on ``device`` while the context is open.

    Their ``is_meta`` stays true unless that is to be hidden as well. ``unless`` says when PyTorch's
    own kernels ask. Both are descriptors of ``torch._C.TensorBase`` (2.6–2.13).
    """
    descriptor: Any = torch.Tensor.__mro__[1].__dict__["device"]
    is_meta: Any = torch.Tensor.__mro__[1].__dict__["is_meta"]

    def answer(tensor: torch.Tensor) -> Any:
        return device if is_meta.__get__(tensor) and not unless() else descriptor.__get__(tensor)

    torch.Tensor.device = property(answer)  # type: ignore[assignment]
    if hides_meta:
        torch.Tensor.is_meta = property(  # type: ignore[assignment]
            lambda tensor: is_meta.__get__(tensor) and unless()
        )
    try:
        yield
    finally:
        del torch.Tensor.device
        if hides_meta:
            del torch.Tensor.is_meta


def wrapper_subclass(original: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor without data of the same class, sizes and dtype, on another device.

    ``torch.Tensor._make_wrapper_subclass``: 2.6–2.13.
    """
    make: Any = torch.Tensor._make_wrapper_subclass
    made: torch.Tensor = make(
        type(original),
        torch.Tensor.size(original),
        strides=torch.Tensor.stride(original),
        storage_offset=torch.Tensor.storage_offset(original),
        dtype=original.dtype,
        layout=original.layout,
        device=device,
    )
    return made


# ---------------------------------------------------------------------------- sparse and nested


def coordinate_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return indices and values of a COO tensor, coalesced or not (2.6–2.13)."""
    return [tensor._indices(), tensor._values()]


def compressed_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the parts of a CSR, CSC, BSR or BSC tensor, values last; none of other layouts."""
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


def nested_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the values of a strided nested tensor, then its sizes, strides and offsets.

    ``_nested_tensor_size``, ``_nested_tensor_strides``, ``_nested_tensor_storage_offsets``:
    2.6–2.13.
    """
    return [
        tensor.values(),
        tensor._nested_tensor_size(),
        tensor._nested_tensor_strides(),
        tensor._nested_tensor_storage_offsets(),
    ]


def jagged_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the values of a jagged nested tensor, then its offsets and what else it keeps."""
    names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
    names = sorted(names, key=lambda name: name != "_values")
    return [getattr(tensor, name) for name in names]


_ALIASING = ("aten::detach", "aten::alias")
"""Their kernels call them again, and nothing is computed in them."""


def irregular_kernel(
    func: OpOverload, args: Sequence[Any], tensor: torch.Tensor
) -> Callable[..., Any] | None:
    """Return the kernel of an operator for that kind of tensor, ``None`` without one.

    Called with it, what the kernel calls passes the active modes; it takes no number for a tensor.
    ``OpOverload.redispatch`` and ``torch._C._dispatch_has_computed_kernel_for_dispatch_key``:
    2.6–2.13.
    """
    kind = "NestedTensor"
    if not tensor.is_nested:
        kind = {torch.strided: "", torch.sparse_coo: "Sparse"}.get(tensor.layout, "SparseCsr")
    name = kind + tensor.device.type.upper()
    key = getattr(DispatchKey, name, None)
    if key is None or not isinstance(func, OpOverload) or func._schema.name in _ALIASING:
        return None
    if not torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), name):
        return None
    taken = zip(func._schema.arguments, args, strict=False)
    if any(str(a.type) == "Tensor" and isinstance(v, (int, float, complex)) for a, v in taken):
        return None
    return functools.partial(func.redispatch, torch._C.DispatchKeySet(key))


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


def sent_already(func: Any, args: tuple[Any, ...]) -> Any:
    """Return what a collective does, as if it were over: its first tensors, work that is done.

    Nothing is sent, and no other process is waited for. ``_create_work_from_future``: 2.6–2.13.
    """
    future: torch.futures.Future[list[Any]] = torch.futures.Future()
    future.set_result([])
    c10d: Any = torch._C._distributed_c10d
    work = c10d._create_work_from_future(future).boxed()
    returns = len(func._schema.returns)
    return (args[0], work) if returns > 1 else work if returns else None
