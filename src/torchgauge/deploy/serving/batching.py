"""Requests that wait for the model, put together into batches, run in one thread.

Requests go together when all their sizes other than the batch are equal; nothing is padded. A
batch starts when it is full, or when its first request has waited as long as it may.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torchgauge.deploy.export.signature import BATCH, Signature
from torchgauge.deploy.serving.failures import (
    Busy,
    Expired,
    OutOfMemory,
    RejectedByModel,
    RequestFailure,
    Stopping,
)

if TYPE_CHECKING:
    import torch

    Tensors = tuple[torch.Tensor, ...]

Sizes = tuple[tuple[str, int], ...]
"""The dynamic dimensions of a request other than the batch."""


@dataclass(slots=True)
class Job:
    """One request on its way through the queue."""

    tensors: Tensors
    samples: int
    sizes: Sizes
    deadline: float
    arrived: float = field(default_factory=time.monotonic)
    future: Future[Tensors] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """What is told of a batch when it is done."""

    requests: int
    samples: int
    seconds: float
    waited_seconds: float
    """Of its oldest request."""


class Batcher:
    """The queue and the thread that runs the model.

    Args:
        run: the program: tensors in, tensors out.
        signature: says where the batch dimensions stand.
        limit: the largest number of samples for these sizes.
        max_wait_seconds: how long a request may wait for others.
        max_queue: how many requests may wait.
        batching: ``False`` runs every request alone.
        on_batch: told of every batch that ran.
    """

    def __init__(
        self,
        run: Callable[[Tensors], Sequence[torch.Tensor]],
        signature: Signature,
        *,
        limit: Callable[[Mapping[str, int]], int],
        max_wait_seconds: float,
        max_queue: int,
        batching: bool = True,
        on_batch: Callable[[BatchRun], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._signature = signature
        self._limit = limit
        self._max_wait = max_wait_seconds
        self._max_queue = max_queue
        self._batching = batching and signature.can_batch
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._groups: dict[Sizes, deque[Job]] = {}
        self._waiting = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="torchgauge-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Return how many requests wait for the model."""
        return self._waiting

    @property
    def is_alive(self) -> bool:
        """Return whether the thread of the model runs and takes requests."""
        return self._thread.is_alive() and not self._stopping

    def submit(
        self, tensors: Tensors, sizes: Mapping[str, int], deadline: float
    ) -> Future[Tensors]:
        """Queue a request; ``deadline`` is on the monotonic clock.

        Raises:
            Busy: the queue is full.
            Stopping: nothing is taken any more.
        """
        key = tuple(sorted((name, size) for name, size in sizes.items() if name != BATCH))
        job = Job(tensors=tensors, samples=sizes.get(BATCH, 1), sizes=key, deadline=deadline)
        with self._changed:
            if self._stopping or not self._thread.is_alive():
                raise Stopping("the server is going down")
            if self._waiting >= self._max_queue:
                raise Busy(f"the queue is full ({self._waiting} waiting); try again later")
            self._groups.setdefault(key, deque()).append(job)
            self._waiting += 1
            self._changed.notify()
        return job.future

    def stop(self) -> None:
        """Take nothing more, run what is queued, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    # ------------------------------------------------------------------ the model's thread

    def _work(self) -> None:
        while jobs := self._next_batch():
            self._answer(jobs)

    def _next_batch(self) -> list[Job]:
        """Wait for a batch and take it from the queue; empty when there will be none any more."""
        with self._changed:
            while True:
                if not self._groups:
                    if self._stopping:
                        return []
                    self._changed.wait()
                    continue
                key = min(self._groups, key=lambda sizes: self._groups[sizes][0].arrived)
                group = self._groups[key]
                limit = self._limit(dict(key)) if self._batching else 1
                left = group[0].arrived + self._max_wait - time.monotonic()
                samples = sum(job.samples for job in group)
                if not self._batching or samples >= limit or left <= 0 or self._stopping:
                    return self._take(key, limit)
                self._changed.wait(left)

    def _take(self, key: Sizes, limit: int) -> list[Job]:
        group = self._groups[key]
        jobs = [group.popleft()]
        samples = jobs[0].samples
        while self._batching and group and samples + group[0].samples <= limit:
            samples += group[0].samples
            jobs.append(group.popleft())
        if not group:
            del self._groups[key]
        self._waiting -= len(jobs)
        return jobs

    def _answer(self, jobs: list[Job]) -> None:
        now = time.monotonic()
        taken = []
        for job in jobs:
            if not job.future.set_running_or_notify_cancel():
                continue  # the client went away
            if now > job.deadline:
                job.future.set_exception(Expired("the model did not reach the request in time"))
            else:
                taken.append(job)
        if not taken:
            return
        failure: BaseException | None = None
        results: list[Tensors] = []
        try:
            results = self._together(taken)
        except BaseException as error:
            failure = error
        self._on_batch(
            BatchRun(
                requests=len(taken),
                samples=sum(job.samples for job in taken),
                seconds=time.monotonic() - now,
                waited_seconds=now - taken[0].arrived,
            )
        )
        if failure is not None:
            self._answer_apart(taken, failure)
            return
        for job, result in zip(taken, results, strict=True):
            job.future.set_result(result)

    def _answer_apart(self, jobs: list[Job], error: BaseException) -> None:
        """After a failure: each request alone, so that only the one at fault is refused."""
        if len(jobs) == 1:
            jobs[0].future.set_exception(_failure(error, self._shapes(jobs[0])))
            return
        for job in jobs:
            try:
                job.future.set_result(self._together([job])[0])
            except BaseException as alone:
                job.future.set_exception(_failure(alone, self._shapes(job)))

    def _shapes(self, job: Job) -> str:
        return ", ".join(
            f"{tensor.name} {list(value.shape)}"
            for tensor, value in zip(self._signature.inputs, job.tensors, strict=False)
        )

    def _together(self, jobs: Sequence[Job]) -> list[Tensors]:
        import torch

        if len(jobs) == 1:
            return [tuple(self._run(jobs[0].tensors))]
        joined = tuple(
            torch.cat([job.tensors[index] for job in jobs], dim=tensor.batch_dim or 0)
            for index, tensor in enumerate(self._signature.inputs)
        )
        outputs = self._run(joined)
        sizes = [job.samples for job in jobs]
        parts = [
            # A view would keep the whole batch alive for as long as one answer is being written.
            [part.clone() for part in output.split(sizes, dim=tensor.batch_dim or 0)]
            for tensor, output in zip(self._signature.outputs, outputs, strict=True)
        ]
        return [tuple(part[index] for part in parts) for index in range(len(jobs))]


def _failure(error: BaseException, given: str) -> RequestFailure:
    """Return what a client is told; ``given`` are the names and shapes of its inputs."""
    if isinstance(error, RequestFailure):
        return error
    text = (str(error).strip().splitlines() or [""])[0]
    is_memory = isinstance(error, MemoryError) or "out of memory" in text.lower()
    if is_memory or "can't allocate memory" in text:
        return OutOfMemory("memory ran out; send fewer samples, or try again")
    return RejectedByModel(f"the model refused {given}: {type(error).__name__}: {text}")
