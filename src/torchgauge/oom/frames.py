"""What a traceback says of the place: the phase of the step, the function, the lines of code."""

from __future__ import annotations

import re
from typing import Final

from torchgauge.facts.trace import Phase

_FRAME: Final = re.compile(
    r'^\s*File "([^"\n]+)", line (\d+), in (\S+)[^\n]*\n(?:\s*([^\n]*))?', re.MULTILINE
)
_CALL: Final = re.compile(r"(?:\bF|\btorch(?:\.\w+)*|\bself|\b\w+)\.(\w+)\s*\(")
_BACKWARD: Final = ("torch/autograd/", "torch/_tensor.py")
_HEAD: Final = "Traceback (most recent call last)"
_OPTIMIZER: Final = "torch/optim/"


def frames_of(text: str) -> tuple[Phase | None, str, tuple[str, ...]]:
    r"""Return the phase, the function that the innermost line calls, and ``path/file.py:12``s.

    All are empty where the text holds no traceback.

    >>> frames_of('  File "net.py", line 7, in forward\n    return F.relu(x)\n')
    (<Phase.FORWARD: 'forward'>, 'relu', ('net.py:7',))
    """
    # A log may hold older ones; an error that was raised while handling it comes after.
    frames = _FRAME.findall(text[text.rfind(_HEAD) :] if _HEAD in text else text)
    if not frames:
        return None, "", ()
    paths = [path.replace("\\", "/") for path, *_ in frames]
    lines = tuple(f"{path}:{frame[1]}" for path, frame in zip(paths, frames, strict=True))
    call = _CALL.search(frames[-1][3])
    return _phase(paths, [frame[2] for frame in frames]), call[1] if call else "", lines


def _phase(paths: list[str], functions: list[str]) -> Phase | None:
    if any(_OPTIMIZER in path for path in paths):
        return Phase.OPTIMIZER
    if any(mark in path for path in paths for mark in _BACKWARD):
        return Phase.BACKWARD
    # A loss or a loader may have failed as well: without a forward nothing is said.
    return Phase.FORWARD if "forward" in functions or "_call_impl" in functions else None
