"""What a model computes outside torch: tensors that become arrays, values that are read in loops.

No operator stands for such work, so nothing is known of it but that it happens. Each place where a
tensor leaves torch is noted, and becomes an entry of what was not counted:

- arrays of tensors: ``numpy()``, ``np.asarray(tensor)`` and every function that calls it (SciPy,
  pandas, Pillow), DLPack, the address of the data handed to C code, ``apply_`` and ``map_``;
- functions of C++ extensions that take tensors;
- values read into Python, when there are many in one call of a layer: loops over them;
- arrays that come in without being constants of the model: they were computed in the forward.

A value here and there (a length, a threshold, a flag) is read by every second model and is not
work. PyTorch's own functions that convert tensors are not either: the caller's file decides.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from torchgauge.facts.trace import OUTSIDE, NotCounted, Phase
from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.inspect.code_lines import is_ours, is_session, is_torch, place
from torchgauge.trace.python.arrays import FEW_FLOATS, FEW_INTEGERS, is_computed
from torchgauge.trace.torch_internals.modes import dispatch_modes, without_modes

if TYPE_CHECKING:
    from torchgauge.trace.record.recorder import Recorder

_ARRAY_LIBRARIES = ("numpy/", "scipy/", "pandas/", "PIL/", "numba/", "cv2/", "skimage/", "sklearn/")
"""Not the line to name: the one that calls them is."""
_COMPARE_ADDRESSES = ("accelerate/", "transformers/", "peft/", "diffusers/", "safetensors/")
"""Libraries that take the address of a tensor to recognize it, not to read there."""
_NOT_SEEN = "what is computed there is not counted: neither MACs, memory nor time"


@dataclass(slots=True)
class _Place:
    """Work outside torch at one line of one layer."""

    calls: set[int]
    times: int = 0


class OutsideWork:
    """Notes where tensors leave torch while ``recorder`` is on."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._places: dict[tuple[str, str, str, Phase], _Place] = {}
        """By layer, line, what happened, and when."""
        self._read: dict[tuple[int, bool], int] = {}
        """Values read, by call and whether they are floating-point numbers."""
        self._left: set[int] = set()
        """Calls in which a tensor became an array."""
        self._arrived: list[tuple[str, int, str]] = []
        """How, in which call and at which line an array came in."""
        self.assumptions: dict[str, None] = {}
        """What to say of the run, in order."""
        recorder.on_read = self._note_read
        recorder.python.on_compiled = self._note_compiled

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note what leaves torch while the context is open."""
        undo: list[Callable[[], None]] = []
        try:
            for name in _ARRAYS:
                _replace(torch.Tensor, name, self._leaving(name), undo)
            for name in _LOOPS:
                _replace(torch.Tensor, name, self._looping(name), undo)
            for holder, name in _ADDRESSES:
                _replace(holder, name, self._addressed(name), undo)
            for holder, name in _READS:
                _replace(holder, name, self._noting(self._read_at_once), undo)
            _replace(torch.Tensor, "__format__", self._written, undo)
            _replace(torch.utils.dlpack, "to_dlpack", self._leaving("__dlpack__"), undo)
            for module, name in _IMPORTS:
                _replace(module, name, self._arriving(name), undo)
            yield
        finally:
            while undo:
                undo.pop()()

    def not_counted(self) -> tuple[NotCounted, ...]:
        """Return an entry for each line of each layer that works outside torch."""
        for what, call, line in self._arrived:
            if call not in self._left:  # else it comes from the tensors that left
                self._add(what, call, line)
        self._arrived.clear()
        return tuple(
            NotCounted(
                op=f"{OUTSIDE} in {layer or _OWNERS.get(phase, 'the model itself')}"
                + (f" at {line}" if line else "")
                + (" (backward)" if phase is Phase.BACKWARD else ""),
                calls=found.times,
                why=what,
            )
            for (layer, line, what, phase), found in self._places.items()
        )

    # ------------------------------------------------------------------ what is put in place

    def _noting(self, note: Callable[[Any, FrameType], Any]) -> Callable[[Any], Any]:
        """Return what makes a replacement that first calls ``note`` with its first argument.

        The original gets what ``note`` returns in its place.
        """

        def replacement(original: Any) -> Any:
            def function(*args: Any, **kwargs: Any) -> Any:
                if self._is_on and args:
                    args = (note(args[0], _caller()), *args[1:])
                return original(*args, **kwargs)

            return function

        return replacement

    def _leaving(self, name: str) -> Callable[[Any], Any]:
        """Replace a method that turns a tensor into an array."""
        what = f"{_SHOWN.get(name, name)} took a tensor out of torch; {_NOT_SEEN}"

        def note(tensor: torch.Tensor, caller: FrameType) -> torch.Tensor:
            if name != "__dlpack_device__":
                self._note(what, caller)
            value = self._value(tensor, name)
            return tensor if value is None else value

        return self._noting(note)

    def _looping(self, name: str) -> Callable[[Any], Any]:
        """Replace a method that calls Python for each element."""
        what = f"a Python function ran for each element (Tensor.{name}); {_NOT_SEEN}"

        def note(tensor: torch.Tensor, caller: FrameType) -> torch.Tensor:
            self._note(what, caller)
            _needs_memory(tensor, f"Tensor.{name}")
            return tensor

        return self._noting(note)

    def _addressed(self, name: str) -> Callable[[Any], Any]:
        """Replace a method that hands out the memory itself."""
        what = f"the memory of a tensor was handed out ({name}); {_NOT_SEEN}"

        def note(owner: Any, caller: FrameType) -> Any:
            compared = place(caller.f_code.co_filename).startswith(_COMPARE_ADDRESSES)
            if not compared and self._note(what, caller):
                _needs_memory(owner, name)
            return owner

        return self._noting(note)

    def _read_at_once(self, owner: Any, caller: FrameType) -> Any:
        if not _is_in_torch(caller):
            self._count_read(owner, self._call(), caller)
        return owner

    def _written(self, original: Any) -> Any:
        """Write a number that has no value as nan or 0: a message is not worth a real run."""

        def written(tensor: Any, specification: str) -> Any:
            simulation = self._recorder.simulation
            is_known = not tensor.is_meta or tensor.dim() > 0
            if simulation is None or is_known or not self._is_on:
                return original(tensor, specification)
            with without_modes():
                value = simulation.values.get(tensor)
                if value is not None:  # it may be the key of a layer: the choice is a decision
                    return original(
                        simulation.values.decide(tensor, "a formatted number"), specification
                    )
            if not specification:
                return original(tensor, specification)
            self.assumptions[
                f"a tensor was written as text at {_line(_caller())}; its value is not known in a "
                "simulated run, another stands for it"
            ] = None
            return format(math.nan if tensor.is_floating_point() else 0, specification)

        return written

    def _arriving(self, name: str) -> Callable[[Any], Any]:
        """Replace a function that turns an array into a tensor."""
        what = f"torch.{name} made a tensor of an array; what computed the array is not counted"

        def note(data: Any, caller: FrameType) -> Any:
            if is_computed(data, caller) and not _is_in_torch(caller):
                self._arrived.append((what, self._call(), _line(caller)))
            return data

        return self._noting(note)

    # ------------------------------------------------------------------ notes

    @property
    def _is_on(self) -> bool:
        """Return whether the model's own code is running, not an operator, and not our code."""
        return self._recorder in dispatch_modes()

    def _call(self) -> int:
        return self._recorder.current_call()

    def _value(self, tensor: torch.Tensor, name: str) -> torch.Tensor | None:
        """Return the known values of a tensor without data, which share their memory with it.

        Raises:
            DataDependentError: there are none.
        """
        simulation = self._recorder.simulation
        if simulation is None or not tensor.is_meta or tensor.is_conj() or tensor.requires_grad:
            return None
        with without_modes():  # what is made here is not part of the run
            return simulation.values.decide(tensor, _SHOWN.get(name, name))

    def _note_read(self, tensor: torch.Tensor, call: int) -> None:
        """Note one value that was read with ``.item()``, ``float()``, ``bool()`` and the like."""
        frame = _caller()
        if not _is_in_torch(frame):
            self._count_read(tensor, call, frame)

    def _note_compiled(self, function: Any, frame: FrameType) -> None:
        """Note a compiled function that takes tensors; its operators are seen, its loops are not.

        Raises:
            DataDependentError: in a simulation, where its loops would end the process.
        """
        module = str(function.__module__ or "")
        takes_tensors = "Tensor" in str(function.__doc__)
        if not takes_tensors or module.partition(".")[0] == "torch" or _is_in_torch(frame):
            return
        name = f"{module}.{function.__name__}"
        self._note(f"compiled code was called ({name}); what it computes in loops of its own is "
                   "not counted", frame)  # fmt: skip
        if self._recorder.simulation is not None:
            raise DataDependentError(f"the compiled function {name} needs the memory of tensors")

    def _count_read(
        self, owner: torch.Tensor | torch.UntypedStorage, call: int, frame: FrameType
    ) -> None:
        """Count what is read of a tensor, or a byte of a storage; optimizers read of each."""
        if self._recorder.phase is Phase.OPTIMIZER:
            return
        is_float, count = True, 1
        if isinstance(owner, torch.Tensor):
            is_float = owner.dtype.is_floating_point or owner.dtype.is_complex
            count = owner.numel()
        key = call, is_float
        self._read[key] = self._read.get(key, 0) + count
        if self._read[key] > (FEW_FLOATS if is_float else FEW_INTEGERS):
            self._left.add(call)
            self._add(_READ_IN_LOOP, call, _line(frame))

    def _note(self, what: str, caller: FrameType) -> bool:
        """Note that a tensor left torch; return whether it did: torch's own files may do so."""
        if _is_in_torch(caller):
            return False
        call = self._call()
        self._left.add(call)
        self._add(what, call, _line(caller))
        return True

    def _add(self, what: str, call: int, line: str) -> None:
        recorder = self._recorder
        layer = recorder.calls[call].path if call >= 0 else ""
        key = layer, line, what, recorder.phase
        found = self._places.setdefault(key, _Place(set()))
        if what != _READ_IN_LOOP or call not in found.calls:  # a loop counts once per call
            found.times += 1
        found.calls.add(call)


_READ_IN_LOOP = (
    "many values of tensors were read into Python (item, tolist, float); what is computed with "
    "them there is not counted: neither MACs, memory nor time"
)
_ARRAYS = ("numpy", "__array__", "__dlpack__", "__dlpack_device__")
_ADDRESSES = ((torch.Tensor, "data_ptr"), (torch.Tensor, "storage"),
              (torch.UntypedStorage, "data_ptr"), (torch.UntypedStorage, "tolist"),
              (torch.UntypedStorage, "__iter__"))  # fmt: skip
_READS = ((torch.Tensor, "tolist"),)
_LOOPS = ("apply_", "map_", "map2_")
_OWNERS = {Phase.LOSS: "the loss", Phase.OPTIMIZER: "the optimizer"}
_SHOWN = {"numpy": ".numpy()", "__array__": "np.asarray", "__dlpack__": "DLPack",
          "__dlpack_device__": "DLPack"}  # fmt: skip
_IMPORTS = ((torch, "from_numpy"), (torch, "as_tensor"), (torch, "asarray"), (torch, "tensor"),
            (torch, "frombuffer"))  # fmt: skip


def _replace(
    holder: Any, name: str, make: Callable[[Any], Any], undo: list[Callable[[], None]]
) -> None:
    """Put a replacement of a function in its place, and note how to take it away."""
    inherited = name not in vars(holder)
    original = getattr(holder, name, None)
    if original is None:
        return
    setattr(holder, name, make(original))
    undo.append(
        (lambda: delattr(holder, name)) if inherited else (lambda: setattr(holder, name, original))
    )


def _caller() -> FrameType:
    """Return the innermost frame that is not ours: who called what we put in place."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _is_in_torch(frame: FrameType) -> bool:
    return is_torch(frame.f_code.co_filename)


def _needs_memory(owner: torch.Tensor | torch.UntypedStorage, what: str) -> None:
    """Refuse a tensor without data: what reads at its address would end the process.

    Raises:
        DataDependentError: always for a tensor or a storage on the meta device.
    """
    if owner.device.type == "meta":
        raise DataDependentError(f"{what} needs the memory of a tensor")


def _line(frame: FrameType | None) -> str:
    """Return ``file.py:12``: the line of the model's code from which an array library was called.

    Where the library's own lines are all there is, the innermost of them.
    """
    library = ""
    while frame is not None and not is_session(frame.f_code.co_filename):
        found = place(frame.f_code.co_filename)
        if found:
            line = f"{found}:{frame.f_lineno}"
            if not found.startswith(_ARRAY_LIBRARIES):
                return line
            library = library or line
        frame = frame.f_back
    return library
