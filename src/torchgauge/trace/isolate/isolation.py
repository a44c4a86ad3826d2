"""Process-wide state that a run may disturb: saved before, restored after, whatever happens."""

from __future__ import annotations

import functools
import gc
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from torchgauge.trace.torch_internals.modes import without_modes
from torchgauge.trace.torch_internals.replaced import replaced

_one_at_a_time = threading.RLock()
"""What a run disturbs belongs to the process: two runs would restore each other's settings.
Reentrant, because a model may analyse another one in its forward."""


@contextmanager
def eager_only() -> Iterator[None]:
    """Run compiled functions as they were written: their operators are what is analysed."""
    if "torch._dynamo" in sys.modules:
        with torch.compiler.set_stance("force_eager"):
            yield
        return
    # Nothing is compiled yet; importing the compiler only to switch it off would take a second.
    with replaced(torch, compile=_written_as):
        yield


def constants_on_cpu() -> AbstractContextManager[None]:
    """Make constants from Python numbers on the CPU even where the meta device is named.

    ``torch.tensor([1, 2], device=x.device)`` would make a meta tensor without values and without
    an operator; from the CPU it reaches the recorder, which keeps its values.
    """
    return replaced(torch, tensor=_from_cpu(torch.tensor), as_tensor=_from_cpu(torch.as_tensor))


def _from_cpu(constructor: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(constructor)
    def construct(data: Any, *args: Any, **kwargs: Any) -> Any:
        device = kwargs.get("device")
        if isinstance(data, (list, tuple)):
            data = _numbers(data)
        if (
            device is not None
            and torch.device(device).type == "meta"
            and not isinstance(data, torch.Tensor)
        ):
            kwargs = {**kwargs, "device": "cpu"}
        return constructor(data, *args, **kwargs)

    return construct


_PLAIN = frozenset((bool, int, float, complex, str))
"""What lists of numbers hold, which may be millions: a look at each item would take seconds."""


def _numbers(data: Any) -> Any:
    """Return lists of scalar meta tensors as numbers; torch would read those past the recorder."""
    if isinstance(data, (list, tuple)):
        if hasattr(data, "_fields") or _PLAIN.issuperset(map(type, data)):
            return data
        return type(data)(map(_numbers, data))
    if isinstance(data, torch.Tensor) and data.is_meta and data.dim() == 0:
        return data.item()
    return data


def _written_as(model: Any = None, **options: Any) -> Any:
    return (lambda function: function) if model is None else model


@contextmanager
def neutral() -> Iterator[None]:
    """Step out of the contexts that the caller is in: the scenario alone says how a model is run.

    Inference mode would forbid gradients, autocast changes what a real run executes, anomaly
    detection reads every gradient, a default device moves what the model makes, and the modes of
    others do not know these tensors.
    """
    dtype = torch.get_default_dtype()
    with (
        _one_at_a_time,
        without_modes(),
        torch.inference_mode(False),
        _outside_autocast(),
        torch.autograd.set_detect_anomaly(False),
    ):
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def _outside_autocast() -> Iterator[None]:
    """Step out of the caller's regions of autocast; a model's own one is then the outermost.

    PyTorch lets go of the casts of weights when the outermost region ends. A region that is
    switched off would count as one, and they would outlive the region that made them.
    """
    enabled = {kind: torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")}
    dtypes = {kind: torch.get_autocast_dtype(kind) for kind in enabled}
    caches = torch.is_autocast_cache_enabled()
    depth = _leave_regions()
    if depth:
        torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(True)
    for kind in enabled:
        torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        _leave_regions()
        torch.clear_autocast_cache()
        for _ in range(depth):
            torch.autocast_increment_nesting()
        torch.set_autocast_cache_enabled(caches)
        for kind, was_on in enabled.items():
            torch.set_autocast_enabled(kind, was_on)
            torch.set_autocast_dtype(kind, dtypes[kind])


def _leave_regions() -> int:
    """Set the depth of nested regions of autocast to zero and return what it was."""
    depth = torch.autocast_increment_nesting() - 1
    while torch.autocast_decrement_nesting() > 0:
        pass
    return depth


@contextmanager
def unheard() -> Iterator[None]:
    """Drop what this thread prints: for a run of a model that has run, and said it, before."""
    with _one_at_a_time:
        heard = sys.stdout
        if heard is None:  # a program without a console
            yield
            return
        sys.stdout = muted = _WithoutThisThread(heard)
        try:
            yield
        finally:
            if sys.stdout is muted:
                sys.stdout = heard


class _WithoutThisThread:
    """A text stream that passes on what other threads write."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return len(text)
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the cycle collector out: it would walk through all that a run makes, and find little."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def untouched(*, collect: bool = False) -> Iterator[None]:
    """Restore RNG states, grad mode and working directory; keep the cycle collector out of the run.

    The collector frees reference cycles at moments that differ from machine to machine, and a
    storage's lifetime is part of the answer. What is timed runs as the user's code would, with the
    collector (``collect``).
    """
    with _one_at_a_time, _restored(collect=collect):
        yield


def _working_directory() -> str | None:
    """Return the working directory, ``None`` where it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the random numbers that come next as they are: of torch, Python and numpy."""
    torch_state = torch.get_rng_state()
    python_state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


@contextmanager
def _restored(*, collect: bool) -> Iterator[None]:
    grad_enabled = torch.is_grad_enabled()
    collecting = gc.isenabled()
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    recursion_limit = sys.getrecursionlimit()
    folder = _working_directory()
    # The recorder's frames stand between the model's: what Python runs without them still runs.
    sys.setrecursionlimit(2 * recursion_limit)
    if not collect:
        gc.disable()
    try:
        with random_state_kept(), eager_only():
            yield
    finally:
        torch.set_grad_enabled(grad_enabled)
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        sys.setrecursionlimit(recursion_limit)
        if folder != _working_directory() and folder is not None:
            os.chdir(folder)
        if collecting:
            gc.enable()
