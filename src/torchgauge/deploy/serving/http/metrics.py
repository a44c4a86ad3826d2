"""What ``/metrics`` says, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from torchgauge.deploy.serving.batching import BatchRun

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"
"""The label of all paths that do not exist: one, whatever strangers ask for."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "torchgauge_requests", "Answered requests", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "torchgauge_request_seconds", "From the first byte of a request to its answer",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._model_seconds = Histogram(
            "torchgauge_model_seconds", "Time that the model takes for a batch",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._waited = Histogram(
            "torchgauge_queue_seconds", "Time that the oldest request of a batch waited",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._samples = Histogram(
            "torchgauge_batch_samples", "Samples in a batch", buckets=_BATCHES, registry=registry
        )
        self.pending_bytes = Gauge(
            "torchgauge_pending_bytes", "Bodies and answers held in memory", registry=registry
        )
        self._waiting = Gauge(
            "torchgauge_queue_length", "Requests that wait for the model", registry=registry
        )
        self._resident = Gauge(
            "torchgauge_resident_memory_bytes", "Memory of this process", registry=registry
        )

    def watch(self, waiting: Callable[[], int], resident: Callable[[], int]) -> None:
        """Read these when they are asked for."""
        self._waiting.set_function(waiting)
        self._resident.set_function(resident)

    def batch_done(self, run: BatchRun) -> None:
        """Count a batch."""
        self._model_seconds.observe(run.seconds)
        self._waited.observe(run.waited_seconds)
        self._samples.observe(run.samples)

    def text(self) -> bytes:
        """Return everything as text."""
        return generate_latest(self._registry)


class CountRequests:
    """Middleware that counts every answer by path and status.

    Args:
        application: what answers.
        metrics: where it is counted.
        paths: those that exist.
    """

    def __init__(self, application: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self._application = application
        self._requests = metrics.requests
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count when its answer begins."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else UNMATCHED

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            await self._application(scope, receive, counted)
        except Exception:
            self._requests.labels(path, "500").inc()  # answered further out
            raise
