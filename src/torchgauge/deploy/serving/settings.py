"""What a server is told, and what follows from the package and the machine. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torchgauge.deploy.export.signature import Signature

MIB = 2**20
_LARGEST_DEFAULT_BODY_BYTES = 32 * MIB
_JSON_BYTES_PER_NUMBER = 24
"""``-1.1920928955078125e-07, ``: the longest way in which Python writes a float32 as a double."""
_UNKNOWN_SIZE = 512
"""For a dynamic dimension, when a default is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The limits of a server; times in seconds, sizes in bytes."""

    max_wait_seconds: float = 0.005
    """How long a request may wait for others to join its batch."""
    max_batch: int = 64
    """Samples in one batch, if the memory allows."""
    batching: bool = True
    max_queue: int = 128
    """Requests that wait for the model; one more is answered 429."""
    max_body_bytes: int = 4 * MIB
    max_pending_bytes: int = 256 * MIB
    """Of the bodies of all requests at once."""
    body_seconds: float = 20.0
    """For a client to send its whole body, and for it to take the whole answer."""
    header_seconds: float = 10.0
    request_seconds: float = 30.0
    """From the last byte of the body to the answer."""
    grace_seconds: float = 30.0
    """For the requests that were accepted, after the signal to stop."""
    allow_nan: bool = False


def default_body_bytes(signature: Signature, max_batch: int) -> int:
    """Return a body limit that lets a full batch through as JSON numbers, within reason.

    >>> from torchgauge.deploy.export.signature import TensorSignature
    >>> x = TensorSignature(name="x", shape=("batch", 10), dtype="float32")
    >>> default_body_bytes(Signature(inputs=(x,), outputs=()), 8) // MIB
    1
    """
    numbers = 0
    for tensor in signature.inputs:
        sizes = [
            size if isinstance(size, int) else (max_batch if size == "batch" else _UNKNOWN_SIZE)
            for size in tensor.shape
        ]
        numbers += math.prod(sizes)
    wanted = MIB + numbers * _JSON_BYTES_PER_NUMBER
    return min(wanted // MIB * MIB, _LARGEST_DEFAULT_BODY_BYTES)
