"""What runs the model for the application: in this process, or in replicas elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from torchgauge.deploy.serving.batching import Batcher, BatchRun
from torchgauge.deploy.serving.failures import BadInput, Expired

if TYPE_CHECKING:
    import torch

    from torchgauge.deploy.serving.budget import BatchLimit
    from torchgauge.deploy.serving.model import ServedModel
    from torchgauge.deploy.serving.settings import Settings

    Tensors = tuple[torch.Tensor, ...]


class Engine(Protocol):
    """Answers predictions; the application knows nothing else of it."""

    @property
    def is_ready(self) -> bool:
        """Return whether requests can be answered now."""

    @property
    def waiting(self) -> int:
        """Return how many requests wait."""

    async def predict(self, tensors: Tensors, sizes: Mapping[str, int]) -> Sequence[torch.Tensor]:
        """Return the outputs for inputs that fit the signature.

        Raises:
            RequestFailure: they cannot be answered.
        """

    def watch(self, on_batch: Callable[[BatchRun], None]) -> None:
        """Tell of every batch, as far as it runs in this process."""

    async def stop(self) -> None:
        """Answer what was accepted, and end."""


class LocalEngine:
    """The model in a thread of this process."""

    def __init__(self, model: ServedModel, settings: Settings, limit: BatchLimit) -> None:
        self._settings = settings
        self._limit = limit
        self._on_batch: Callable[[BatchRun], None] = lambda _: None
        self._batcher = Batcher(
            model.run,
            model.signature,
            limit=limit,
            max_wait_seconds=settings.max_wait_seconds,
            max_queue=settings.max_queue,
            batching=settings.batching,
            on_batch=lambda run: self._on_batch(run),
        )

    @property
    def is_ready(self) -> bool:
        """Return whether the model's thread takes requests."""
        return self._batcher.is_alive

    @property
    def waiting(self) -> int:
        """Return how many requests wait for the model."""
        return self._batcher.waiting

    def watch(self, on_batch: Callable[[BatchRun], None]) -> None:
        """Tell of every batch."""
        self._on_batch = on_batch

    async def predict(self, tensors: Tensors, sizes: Mapping[str, int]) -> Sequence[torch.Tensor]:
        """Queue the request and wait for its outputs.

        Raises:
            RequestFailure: too many samples, a full queue, no answer in time, or the model's.
        """
        check_samples(self._limit, sizes)
        seconds = self._settings.request_seconds
        future = asyncio.wrap_future(
            self._batcher.submit(tensors, sizes, time.monotonic() + seconds)
        )
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise Expired(f"no answer within {seconds:g} s") from None

    async def stop(self) -> None:
        """Answer what is queued and end the thread."""
        await asyncio.to_thread(self._batcher.stop)


def check_samples(limit: Callable[[Mapping[str, int]], int], sizes: Mapping[str, int]) -> None:
    """Refuse a request that the memory is not enough for.

    Raises:
        BadInput: it has more samples than fit.
    """
    others = {name: size for name, size in sizes.items() if name != "batch"}
    most = limit(others)
    samples = sizes.get("batch", 1)
    if samples <= most:
        return
    text = ", ".join(f"{name} = {size}" for name, size in others.items())
    if most < 1:
        raise BadInput(f"{text or 'one sample'} is more than this server has memory for")
    raise BadInput(
        f"{samples} samples are more than one request may have here"
        f"{f' with {text}' if text else ''}: {most}"
    )
