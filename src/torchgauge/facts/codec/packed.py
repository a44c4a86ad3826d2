"""Facts in a compact file: a header, then msgpack under zstd."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec

from torchgauge.errors import ReportFormatError
from torchgauge.facts.codec.damage import Damage
from torchgauge.facts.codec.wire import to_fact, wire_type

T = TypeVar("T")

_COMPLEX = 1
"""The type of extension that holds a complex number."""
_LEVEL = 9
"""Of zstd: a trace of some MiB packs in tens of milliseconds."""


def pack(fact: Any, header: bytes) -> bytes:
    """Return the bytes of a file."""
    import zstandard

    data = msgspec.msgpack.encode(fact, enc_hook=_extended)
    return header + zstandard.ZstdCompressor(level=_LEVEL).compress(data)


def unpack(kind: type[T], data: bytes, header: bytes) -> T:
    """Return the fact of a file.

    Raises:
        ReportFormatError: the file is damaged, or of another version.
    """
    import zstandard

    if not data.startswith(header):
        found = data.partition(b"\n")[0].decode("ascii", "replace")
        raise ReportFormatError(
            f"the file is a {found!r}; this torchgauge reads {header.decode().strip()!r}",
            hint="use the torchgauge that wrote it, or save it again",
        )
    try:
        packed = zstandard.ZstdDecompressor().decompress(data[len(header) :])
        wire = wire_type(cast("Any", kind), is_declared=True)
        read = msgspec.msgpack.decode(packed, type=wire, ext_hook=_extension)
        return cast("T", to_fact(read))
    except (zstandard.ZstdError, msgspec.DecodeError, Damage, TypeError, KeyError) as error:
        raise ReportFormatError(
            f"the trace is damaged: {error}", hint="save it again with report.trace.save(…)"
        ) from error


def _extended(value: Any) -> Any:
    if isinstance(value, complex):
        return msgspec.msgpack.Ext(_COMPLEX, msgspec.msgpack.encode((value.real, value.imag)))
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be saved")


def _extension(code: int, data: memoryview) -> Any:
    if code != _COMPLEX:
        raise msgspec.DecodeError(f"an extension of the unknown type {code}")
    return complex(*msgspec.msgpack.decode(data))
