"""Facts in a compact file: a header, then msgpack under zstd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import msgspec

from torchgauge.errors import ReportFormatError
from torchgauge.facts.codec.damage import Damage
from torchgauge.facts.codec.wire import to_fact, wire_type
from torchgauge.facts.guess import Guess

T = TypeVar("T")

_COMPLEX: Final = 1
"""The type of extension that holds a complex number."""
_GUESS: Final = 2
"""That of an assumption that is a guess."""
_HALF: Final = 3
"""That of text with half a surrogate pair, which is not UTF-8."""
_LEVEL: Final = 9
"""Of zstd: a trace of some MiB packs in tens of milliseconds."""
_MOST_BYTES: Final = 1 << 31
"""No file holds more than this once it is unpacked."""
_FREE_BYTES: Final = 1 << 26
"""What a file may hold however small it is."""
_MOST_RATIO: Final = 2000
"""How many times its size a file may hold beyond that; traces hold less than 200 times."""
_PIECE: Final = 1 << 10
"""Bytes that are decompressed at once: a KiB never holds more than 32 MiB."""


def pack(fact: T, header: bytes, check: Callable[[T], None]) -> bytes:
    """Return the bytes of a file, which ``unpack`` reads.

    Raises:
        ReportFormatError: something in the fact is of a type that cannot be read again.
    """
    import zstandard

    try:
        try:
            data = msgspec.msgpack.encode(fact, enc_hook=_extended)
        except UnicodeEncodeError:
            kept = (complex, msgspec.msgpack.Ext)
            plain = msgspec.to_builtins(fact, enc_hook=_extended, builtin_types=kept)
            data = msgspec.msgpack.encode(_extended_text(plain), enc_hook=_extended)
        check(_decoded(type(fact), data))
    except (msgspec.MsgspecError, Damage, TypeError, ValueError, RecursionError) as error:
        raise ReportFormatError(
            f"the trace cannot be saved: {error}", hint="give each field a value of its type"
        ) from error
    return header + zstandard.ZstdCompressor(level=_LEVEL).compress(data)


def unpack(kind: type[T], data: bytes, header: bytes, check: Callable[[T], None]) -> T:
    """Return the fact of a file; ``check`` raises ``Damage`` where it makes no sense.

    Raises:
        ReportFormatError: the file is damaged, or of another version.
    """
    if not data.startswith(header):
        raise ReportFormatError(
            f"the file is {_said_header(data, header)}; this torchgauge reads "
            f"{header.decode().strip()!r}",
            hint="use the torchgauge that wrote it, or save it again",
        )
    try:
        fact = _decoded(kind, _decompressed(memoryview(data)[len(header) :]))
        check(fact)
        return fact
    except Damage as damage:
        raise damaged(str(damage)) from damage
    except (msgspec.MsgspecError, TypeError, ValueError, KeyError) as error:
        raise damaged(str(error)) from error
    except RecursionError as error:
        raise damaged("values lie too deep in one another") from error
    except MemoryError as error:
        raise damaged("it holds more than this machine's memory") from error


def damaged(what: str) -> ReportFormatError:
    """Return the error that says what is wrong with a file."""
    return ReportFormatError(
        f"the trace is damaged: {what}", hint="save it again with report.trace.save(…)"
    )


def _said_header(data: bytes, header: bytes) -> str:
    """Return what a file with another header is called, never what else it holds."""
    start, end, _ = data.partition(b"\n")
    name, _, version = start.rpartition(b" ")
    if end and name == header.rpartition(b" ")[0] and version.isdigit() and len(version) < 9:
        return f"a {start.decode('ascii')!r}"
    return "cut short in its first line, or damaged there"


def _decompressed(frame: memoryview) -> bytes:
    """Return what one zstd frame holds, and no more than it may.

    Raises:
        Damage: it is damaged, followed by something, or holds too much.
    """
    import zstandard

    limit = min(_MOST_BYTES, max(_FREE_BYTES, _MOST_RATIO * len(frame)))
    parts = []
    size = 0
    try:
        if zstandard.frame_content_size(frame) > limit:
            raise Damage("", f"says that it holds more than {limit:,} bytes")
        stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        for start in range(0, len(frame), _PIECE):
            piece = frame[start : start + _PIECE]
            parts.append(stream.decompress(piece))
            size += len(parts[-1])
            if size > limit:
                raise Damage("", f"holds more than {limit:,} bytes")
            if stream.eof:
                left = len(frame) - start - len(piece) + len(stream.unused_data)
                if left:
                    raise Damage("", f"goes on for {left:,} bytes after its end")
                return b"".join(parts)
    except zstandard.ZstdError as error:
        raise Damage("", f"cannot be decompressed ({error})") from error
    raise Damage("", "is cut short")


def _decoded(kind: type[T], data: bytes) -> T:
    """Return the fact that msgpack holds."""
    wire = wire_type(cast("Any", kind), is_declared=True)
    try:
        read = msgspec.msgpack.decode(data, type=wire, ext_hook=_extension)
    except msgspec.ValidationError:  # damage, or text that is not UTF-8
        plain = msgspec.msgpack.decode(data, ext_hook=_extension)
        read = msgspec.convert(plain, wire)
    return cast("T", to_fact(read))


def _extended(value: Any) -> Any:
    if isinstance(value, complex):
        return msgspec.msgpack.Ext(_COMPLEX, msgspec.msgpack.encode((value.real, value.imag)))
    if isinstance(value, Guess):
        return msgspec.msgpack.Ext(_GUESS, value.encode("utf-8", "surrogatepass"))
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be saved")


def _extended_text(value: Any) -> Any:
    """Return plain data in which text that is not UTF-8 is an extension."""
    if isinstance(value, dict):
        return {_extended_text(name): _extended_text(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_extended_text(item) for item in value]
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return msgspec.msgpack.Ext(_HALF, value.encode("utf-8", "surrogatepass"))
    return value


def _extension(code: int, data: memoryview) -> Any:
    if code == _COMPLEX:
        return complex(*msgspec.msgpack.decode(data, type=tuple[float, float]))
    if code in (_GUESS, _HALF):
        text = bytes(data).decode("utf-8", "surrogatepass")
        return Guess(text) if code == _GUESS else text
    raise msgspec.DecodeError(f"an extension of the unknown type {code}")
