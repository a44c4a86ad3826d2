"""Time code and data that have left the caches, by the bytes that were moved since their last use.

What is timed is called at once after layers that move that many bytes.
"""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import inspect
import logging
import shlex
import statistics
import string
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import PurePosixPath
from statistics import fmean, median
from types import FrameType
from typing import Any, Final
from urllib.parse import urlsplit

import torch
from torch import nn

from torchgauge.estimate.time.cpu.caches import MODULE, PYTHON, VIEW, Caches
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.facts.scenario import Scenario

_MIB: Final = 2**20
DISTANCES: Final = tuple(mib * _MIB for mib in (0.25, 1, 2, 4, 8, 16, 32, 64, 128, 256))
"""Bytes that are moved in between."""
_POOL: Final = 256 * _MIB
_CHANNELS: Final = 16
_PASSES: Final = 6
"""Times the bytes of an image that a convolution moves: it reads one and writes one, and both are
written and read once more as blocks of channels."""
_LARGEST: Final = 8 * _MIB
"""In one pass."""
_BLOCK: Final = _MIB
"""Of data: what a server's core holds in its second-level cache."""
_RUNS: Final = 12
_MICROSECONDS: Final = 1e6
_SIZE: Final = (2, 8, 4, 4)
_MODULES: Final[Mapping[str, tuple[Callable[[], nn.Module], ...]]] = {
    MODULE: (nn.Identity,),
    VIEW: (nn.Flatten,),
    Kind.ELEMENTWISE: (nn.ReLU, nn.GELU, nn.Sigmoid, nn.SiLU),
    Kind.NORM: (lambda: nn.LayerNorm(4),),
    Kind.BATCH_NORM: (lambda: nn.BatchNorm2d(8),),
    Kind.MATMUL: (lambda: nn.Linear(4, 4),),
    Kind.POOLING: (lambda: nn.MaxPool2d(2),),
}
"""What runs an operator of each kind."""
_CONVOLUTION: Final = (lambda: nn.Conv2d(8, 8, 3),)


class _Stream:
    """Moves bytes that nothing else uses, as layers do.

    By convolutions, for code: they write and read what they make several times, and all of that
    counts as moved. Numbers that pass by once leave more code where it was, and tell of half of
    what a step does to it; they have to do where the code of convolutions is what is timed. For
    data they are what counts: what is moved again and again pushes no other data out.
    """

    def __init__(self, *, by_convolutions: bool = True) -> None:
        self._pool = torch.ones(_POOL // 4)
        self._at = 0
        self._weight = torch.zeros(_CHANNELS, _CHANNELS, 3, 3) if by_convolutions else None

    def move(self, nbytes: float) -> None:
        """Move as many bytes in all; what passes by once is changed in place, and counts once."""
        left = nbytes
        while left > 0.0:
            part = min(left, _LARGEST)
            self._pass(part)
            left -= part

    def _pass(self, nbytes: float) -> None:
        if self._weight is None:
            self._next(int(nbytes / 4)).mul_(1.0)
            return
        side = max(1, round((nbytes / _PASSES / 4 / _CHANNELS) ** 0.5))
        image = self._next(_CHANNELS * side * side).view(1, _CHANNELS, side, side)
        torch.conv2d(image, self._weight, padding=1)

    def _next(self, size: int) -> torch.Tensor:
        if self._at + size > self._pool.numel():
            self._at = 0
        self._at += size
        return self._pool[self._at - size : self._at]


def caches() -> tuple[Caches, float]:
    """Return what code and data take longer, by the bytes moved since they were last used.

    Beside it the microseconds that a call of a Python function takes in the caches.
    """
    stream = _Stream()
    with torch.no_grad():
        code = {kind: _code_times(makers, stream) for kind, makers in _MODULES.items()}
        for kind, times in code.items():
            if kind != MODULE:  # a module around an operator
                code[kind] = _less(times, code[MODULE])
        code[PYTHON] = _python_times(stream)
        python_us = code[PYTHON][0] * _MICROSECONDS
        plain = _Stream(by_convolutions=False)
        read, written = _data_times(plain)
        around = _code_times(_MODULES[MODULE], plain)
        convolution = _rising(_less(_code_times(_CONVOLUTION, plain), around))
    curves = {kind: _rising(times) for kind, times in code.items()}
    together = [sum(times) for times in zip(*curves.values(), strict=True)]
    curves[Kind.CONVOLUTION] = convolution
    whole = together[-1] - together[0]
    found = Caches(
        distances=DISTANCES,
        code=tuple((seconds - together[0]) / whole if whole else 0.0 for seconds in together),
        read=tuple(_rising(read)),
        written=tuple(_rising(written)),
        code_us={
            str(kind): (times[-1] - times[0]) * _MICROSECONDS for kind, times in curves.items()
        },
    )
    return found, python_us


def _less(times: Sequence[float], others: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(times, others, strict=True)]


def _rising(times: Sequence[float]) -> list[float]:
    """Return the times with those that chance made shorter than at a shorter distance raised."""
    return list(accumulate(times, max))


def _after(stream: _Stream, prepare: Callable[[], Any], run: Callable[[], Any]) -> list[float]:
    """Return the median seconds of a run at each distance from its last."""
    clock = time.perf_counter
    found = []
    for distance in DISTANCES:
        seconds = []
        for _ in range(_RUNS):
            stream.move(distance)
            prepare()
            start = clock()
            run()
            seconds.append(clock() - start)
        found.append(median(seconds[1:]))
    return found


def _nothing() -> None:
    pass


def _code_times(makers: Sequence[Callable[[], nn.Module]], stream: _Stream) -> list[float]:
    """Return the mean over some modules, on tensors so small that only code counts."""
    x = torch.randn(_SIZE)
    modules = [make().eval() for make in makers]
    times = [_after(stream, _nothing, lambda module=module: module(x)) for module in modules]  # type: ignore[misc]
    return [fmean(column) for column in zip(*times, strict=True)]


def _data_times(stream: _Stream) -> tuple[list[float], list[float]]:
    """Return the seconds of reading and of writing a byte; the code is in the caches."""
    block, small = torch.ones(_BLOCK // 4), torch.ones(64)
    read = _after(stream, small.sum, block.sum)
    written = _after(stream, small.zero_, block.zero_)
    return [s / _BLOCK for s in read], [s / _BLOCK for s in written]


# ---------------------------------------------------------------------------- Python


@dataclasses.dataclass
class _Output:
    """What a function might return."""

    name: str = ""
    values: list[int] = dataclasses.field(default_factory=list)


_PYTHON: Final[tuple[Callable[[], object], ...]] = (
    lambda: copy.copy(_Output()),
    lambda: dataclasses.asdict(dataclasses.replace(_Output(), name="x")),
    lambda: fnmatch.fnmatch("layers.0", "layers.*"),
    lambda: inspect.signature(_Stream.move),
    lambda: logging.getLogger(__name__).isEnabledFor(logging.DEBUG),
    lambda: PurePosixPath("folder/file.txt").with_suffix(".json"),
    lambda: shlex.split("one 'two three'"),
    lambda: statistics.mean([1.0, 2.0]),
    lambda: string.Template("$name").substitute(name="x"),
    lambda: textwrap.dedent(" one"),
    lambda: urlsplit("scheme://host/path"),
    lambda: Scenario(mode="training").is_training,
)
"""Of Python's own library for the most part: different code, each run once, as around a model's
layers."""


def _functions() -> None:
    for function in _PYTHON:
        function()


def _python_times(stream: _Stream) -> list[float]:
    """Return the mean seconds of a call of a Python function."""
    calls = _calls(_functions)
    return [seconds / calls for seconds in _after(stream, _nothing, _functions)]


def _calls(function: Callable[[], None]) -> int:
    """Return how many Python functions a function calls, itself included."""
    found = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal found
        found += event == "call"

    function()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found
