"""Regions of autocast that a model opens itself: which of them act on the target device.

A region acts on the device that it names. In a run for a GPU, ``torch.autocast("cpu")`` changes
nothing, and the reverse. A model that asks a tensor where it is gets an answer that the target
would not give ("meta" in a simulated run), and means the target with it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch

from torchgauge.trace.torch_internals.autocast import casts_of_autograd_functions, has_no_cuda

_WITHOUT_EFFECT = (
    "the model opens torch.autocast('{named}'), which does nothing on {device}; the figures are "
    "without it"
)
_MADE_BEFORE = (
    "a torch.autocast('cuda') was made before the analysis, on a machine without CUDA, where it "
    "switches itself off; it was taken as off (make it in the forward, or name its dtype)"
)
_DEVICES = {"cpu": "the CPU", "cuda": "the GPU"}
_OF_TRANSFORMERS = "maybe_autocast"
"""Opens a region where one is open, or is asked for; in ``transformers.utils.generic`` (5.0)."""
_MADE_HERE = "_torchgauge_made_in_a_run"
_FRAMES = 4
"""How far the function that an instance decorates is from its ``__enter__``, at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regions:
    """What ``torch.autocast`` and the questions about it mean while a run is recorded.

    ``target`` is the type of the device whose numbers are wanted, ``aliases`` are the types that
    its tensors have in this run. ``switch`` turns the casts of the target on and off, ``on_clear``
    drops the cached ones. ``note`` is told about regions without effect, ``assume`` about guesses.
    """

    target: str
    aliases: tuple[str, ...]
    switch: Callable[[bool], None]
    on_clear: Callable[[], None]
    note: Callable[[str], None]
    assume: Callable[[str], None]

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Replace PyTorch's own functions while the context is open.

        ``torch.autocast`` calls ``torch.set_autocast_enabled`` where a region begins and ends,
        and ``torch.clear_autocast_cache`` when the outermost one ends (2.6–2.13).
        """
        kind: Any = torch.amp.autocast_mode.autocast
        clear_cache = torch.clear_autocast_cache
        replaced: list[tuple[Any, str, Callable[..., Any]]] = [
            (kind, "__init__", self._making(kind.__init__)),
            (kind, "__enter__", self._entering(kind.__enter__)),
            (
                torch,
                "clear_autocast_cache",
                lambda: [call() for call in (self.on_clear, clear_cache)],
            ),
            (torch, "set_autocast_enabled", self._switching(torch.set_autocast_enabled)),
        ]
        askers: list[tuple[Any, str]] = [
            (torch, "is_autocast_enabled"),
            (torch, "get_autocast_dtype"),
            (torch, "set_autocast_dtype"),
            (torch.amp, "is_autocast_available"),
            (torch.amp.autocast_mode, "is_autocast_available"),
            *((module, _OF_TRANSFORMERS) for module in _users_of_transformers()),
        ]
        replaced += [(owner, name, self._asking(getattr(owner, name))) for owner, name in askers]
        with ExitStack() as stack:
            stack.enter_context(casts_of_autograd_functions(self._device_of))
            for owner, name, function in replaced:
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, function)
            yield

    def _named(self, device_type: Any) -> Any:
        """Return the type of device that a name stands for in this run."""
        return self.target if device_type in self.aliases else device_type

    def _device_of(self, tensor: torch.Tensor, device_type: str) -> str:
        here = tensor.device.type
        return here if self._named(device_type) == self.target == self._named(here) else device_type

    # ------------------------------------------------------------------ replacements

    def _asking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def ask(*args: Any, **kwargs: Any) -> Any:
            if "device_type" in kwargs:
                kwargs = {**kwargs, "device_type": self._named(kwargs["device_type"])}
            return function(*map(self._named, args), **kwargs)

        return ask

    def _switching(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def set_enabled(*args: Any) -> None:
            named, enabled = args if len(args) > 1 else ("cuda", *args)
            device_type = self._named(named)
            if device_type == self.target:
                self.switch(enabled)
            elif device_type == "cuda":  # the same answer on machines with and without a GPU
                enabled = False
            function(device_type, enabled)

        return set_enabled

    def _making(self, init: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(init)
        def make(
            region: Any,
            device_type: str,
            dtype: torch.dtype | None = None,
            enabled: bool = True,
            cache_enabled: bool | None = None,
        ) -> None:
            named = self._named(device_type)
            if named != "cuda":
                init(region, named, dtype, enabled, cache_enabled)
            else:  # without asking this machine's GPU
                init(region, named, dtype, False, cache_enabled)
                region._enabled = enabled
            setattr(region, _MADE_HERE, True)

        return make

    def _entering(self, enter: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(enter)
        def enter_region(region: Any) -> Any:
            if region.device != self.target:
                if region._enabled and region.device in _DEVICES:
                    device = _DEVICES[self.target]
                    self.note(_WITHOUT_EFFECT.format(named=region.device, device=device))
                return enter(region)
            switched_off = not (region._enabled or hasattr(region, _MADE_HERE))
            if switched_off and region.device == "cuda" and has_no_cuda():
                region._enabled = self._was_meant_on(region)
                try:
                    return enter(region)
                finally:
                    region._enabled = False
            return enter(region)

        return enter_region

    def _was_meant_on(self, region: Any) -> bool:
        """Return whether a region that was made before the run would be on with a GPU.

        Decorators are made with their class. Where no GPU is found they switch themselves off,
        and then look as if ``enabled=False`` had been written.
        """
        frame = sys._getframe(1)
        for _ in range(_FRAMES):
            if frame.f_code.co_name == "decorate_autocast":
                written = _written_as_enabled(frame.f_locals.get("func"))
                if written is not None:
                    return written
            if frame.f_back is None:
                break
            frame = frame.f_back
        if region.fast_dtype is not torch.float16:  # a dtype was named, which is for being on
            return True
        self.assume(_MADE_BEFORE)
        return False


def _users_of_transformers() -> list[Any]:
    """Return the modules that use transformers' own function, which leaves meta tensors alone."""
    return [
        module
        for name, module in tuple(sys.modules.items())
        if name.startswith("transformers.") and _OF_TRANSFORMERS in getattr(module, "__dict__", ())
    ]


def _written_as_enabled(function: Any) -> bool | None:
    """Return what the decorator ``autocast`` in a function's source says, ``None`` if unknown."""
    if not isinstance(function, FunctionType):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    decorators = getattr(tree.body[0], "decorator_list", []) if tree.body else []
    for call in decorators:
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("autocast"):
            is_old = "cuda.amp" in ast.unparse(call.func)  # its first argument is ``enabled``
            place = 0 if is_old else 2
            values = [k.value for k in call.keywords if k.arg == "enabled"] + call.args[place:][:1]
            if not values:
                return True
            return bool(values[0].value) if isinstance(values[0], ast.Constant) else None
    return None
