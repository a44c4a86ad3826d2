"""From a folder and settings to a running server."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torchgauge.deploy.extras import require
from torchgauge.deploy.serving.settings import MIB, Settings, default_body_bytes
from torchgauge.errors import UsageError
from torchgauge.units import format_bytes, format_number_of

if TYPE_CHECKING:
    from torchgauge.deploy.serving.budget import BatchLimit
    from torchgauge.deploy.serving.engine import Engine
    from torchgauge.deploy.serving.model import PackageFacts
    from torchgauge.deploy.serving.ray_engine import RayRequest

EXTRA = "serve"
_MODULES = ("fastapi", "uvicorn", "prometheus_client", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRequest:
    """What to serve, where."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "cpu"
    memory_limit: int | None = None
    """Bytes for the whole process on the CPU, for the model on a GPU; what is free by default."""
    settings: Settings
    body_limit: int | None = None
    """Bytes; a full batch by default."""
    pending_limit: int | None = None
    """Bytes of all bodies and answers in memory."""
    ray: RayRequest | None = None
    """Replicas on Ray Serve; ``None`` runs the model in this process."""
    access_log: bool = False


def serve_package(request: ServeRequest, on_message: Callable[[str], None]) -> None:
    """Serve a package until a signal says to stop; also while it is still starting.

    Raises:
        PackageError: the package is damaged, unknown or not safe; nothing of it was loaded.
        UsageError: the port is taken, the device is not there, the memory is not enough.
        MissingExtraError: what serves is not installed.
    """
    for module in _MODULES:
        require(module, EXTRA, "serve a package")
    try:
        with _sigterm_interrupts():
            _serve(request, on_message)
    except KeyboardInterrupt:
        on_message("stopped before it was ready")


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, until the server has handlers of its own.

    The first process of a container has no default action for it: without a handler ``docker stop``
    waits for its time-out and kills.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(request: ServeRequest, on_message: Callable[[str], None]) -> None:
    from torchgauge.deploy.serving.http.application import Service, create_application
    from torchgauge.deploy.serving.http.server import bind, serve
    from torchgauge.deploy.serving.model import describe, read_package

    listener = bind(request.host, request.port)
    try:
        facts = read_package(request.folder, request.device)
        request = replace(request, settings=_settings(request, facts))
        settings = request.settings
        engine, limit = _engine(request, facts)
        service = Service(facts.signature, engine, settings, limit)
        application = create_application(facts.name, service)
        host, port = listener.getsockname()[:2]
        on_message(describe(facts))
        host = f"[{host}]" if ":" in host else host
        on_message(f"listening on http://{host}:{port} (POST /v1/predict, GET /docs)")
        serve(application, listener, settings, access_log=request.access_log)
        taken = format_number_of(service.taken, "request")
        on_message(f"stopped: {taken} taken, {service.answered} answered")
    finally:
        listener.close()


def _settings(request: ServeRequest, facts: PackageFacts) -> Settings:
    """Return the settings with the limits that were not given; a small memory makes them small.

    Raises:
        UsageError: the limits that were given contradict each other.
    """
    from torchgauge.deploy.serving.budget import available_bytes

    settings = request.settings
    memory = available_bytes() if request.memory_limit is None else request.memory_limit
    body = default_body_bytes(facts.signature, settings.max_batch)
    pending = settings.max_pending_bytes
    if request.device == "cpu":
        body = max(min(body, memory // 128), MIB)
        pending = min(pending, memory // 8)
    if request.pending_limit is None:
        body = body if request.body_limit is None else request.body_limit
        pending = max(pending, body)
    else:
        pending = request.pending_limit
        body = min(body, pending) if request.body_limit is None else request.body_limit
    if body > pending:
        raise UsageError(
            f"--max-pending {format_bytes(pending)} has no room for one body of --max-body "
            f"{format_bytes(body)}",
            hint="use a larger --max-pending, or a smaller --max-body",
        )
    return replace(settings, max_body_bytes=body, max_pending_bytes=pending)


def _engine(request: ServeRequest, facts: PackageFacts) -> tuple[Engine, BatchLimit]:
    from torchgauge.deploy.serving.budget import batch_limit, replica_limit
    from torchgauge.deploy.serving.engine import LocalEngine
    from torchgauge.deploy.serving.model import open_package, warm_up

    settings = request.settings
    if request.ray is None:
        model = open_package(request.folder, request.device)
        warm_up(model)
        limit = batch_limit(model, settings, request.memory_limit)
        return LocalEngine(model, settings, limit), limit
    from torchgauge.deploy.serving.ray_engine import start_replicas

    count = max(request.ray.replicas, request.ray.max_replicas or 0)
    limit = replica_limit(facts, settings, request.memory_limit, count)
    engine = start_replicas(
        request.folder, request.device, settings, limit.budget_bytes, request.ray
    )
    return engine, limit
