"""Whether an error means that a tensor on the meta device has no data, and nothing else.

Only then is a run, or a construction, worth repeating with real tensors: any other error would
come again, after minutes and gigabytes. Ordinary errors contain the same words (``KeyError:
'meta'``, "the metadata is missing", a ``raise`` about the meta tensors of a meta-learner), so
three things count: the exception's type, who raised it, and the whole phrase that torch writes.
"""

from __future__ import annotations

import dis
import re
from collections.abc import Iterator
from types import TracebackType

from torchgauge.trace.data_dependent import DataDependentError

_KINDS = (RuntimeError, TypeError, ValueError, BufferError)
"""What torch raises for want of data; ``NotImplementedError`` is a ``RuntimeError``."""

_SCALARS = "Bool|Byte|Char|Short|Int|Long|Half|BFloat16|Float|Double"
_ABOUT_DEVICE = (
    r"""\bdevice(?: type)?\s*[:=]?\s*['"]?meta\b(?!-)""",  # on device meta, 'meta' device type
    r"""\bmeta['"]? device\b""",
    r"\bdevices, (?:\w+(?::\d)? and meta|meta and )",  # found at least two devices, cpu and meta
    r"\b(?:is|it's|are) on meta\b(?! \w)",
    r"\btensors? on meta\b(?! \w)",
    r"\bto be on cpu, but it's on meta\b",
    r"\bfrom the '\w*Meta\w*' backend\b",
    rf"\bMeta(?:{_SCALARS})Type\b",
)
"""Phrases that name the device: telling, whoever raised the error."""
_ABOUT_DATA = (
    rf"\b[Mm]eta (?:(?:{_SCALARS}|device type) )?tensors?\b",
    r"\bcannot access data pointer of\b",
    r"\bdata is not allocated\b",  # c10/core/TensorImpl.h
    r"\bunallocated storage\b",  # an invalid python storage: c10/core/StorageImpl.cpp
    r"\bno fake impl(?:ementation)?\b",  # torch/_library: custom operators without a fake
)
"""Phrases of torch that others might write about something else."""
_STAND_INS = ("torch._", "torch.nested", "torchgauge.")
"""Where Python stands for kernels; ``torch`` itself holds ``torch._check``."""
_SHOWN_TENSOR = r"\(\.\.\., device='meta'"
"""How a tensor without data prints: part of a text, not what it is about."""
_ORDINARY = (
    r"""required "forward" function|" not implemented for '|supported for now|Input Error: """
)
"""What torch raises as ``NotImplementedError`` for real tensors as well."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its cause or context, the cause of that, and so on; each one once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def needs_values(error: BaseException) -> bool:
    """Return whether the error, or one that led to it, comes of tensors without data.

    Source of the phrases: what torch 2.6 to 2.13 says when each way to read a tensor meets the
    meta device, listed in ``tests/trace/failures/test_missing_data.py``.
    """
    return any(_is_about_data(link) for link in causes(error))


def is_raised_by_user(error: BaseException) -> bool:
    """Return whether a ``raise`` outside of torch made an error."""
    return not f"{_module_of_raise(error.__traceback__)}.".startswith(
        ("torch.", "torchgauge.", ".")
    )


def _is_about_data(error: BaseException) -> bool:
    if isinstance(error, DataDependentError):
        return True
    if not isinstance(error, _KINDS):
        return False
    text = re.sub(_SHOWN_TENSOR, "", str(error))
    if any(re.search(phrase, text) for phrase in _ABOUT_DEVICE):
        return True
    raised_in = _module_of_raise(error.__traceback__)
    if not f"{raised_in}.".startswith(("torch.", "torchgauge.", ".")):
        return False
    if any(re.search(phrase, text, re.IGNORECASE) for phrase in _ABOUT_DATA):
        return True
    # An operator that has no kernel for shapes alone: C++, or the Python that stands for one.
    return (
        isinstance(error, NotImplementedError)
        and (raised_in in ("", "torch") or raised_in.startswith(_STAND_INS))
        and re.search(_ORDINARY, text) is None
    )


def _module_of_raise(traceback: TracebackType | None) -> str:
    """Return the module whose ``raise`` made the error, ``""`` where C++ did: it has no frame."""
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    opcode = frame.f_code.co_code[traceback.tb_lasti]
    if dis.opname[opcode] not in ("RAISE_VARARGS", "RERAISE"):
        return ""
    return str(frame.f_globals.get("__name__", "?"))
