"""From a folder and settings to a running server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torchgauge.deploy.extras import require
from torchgauge.deploy.serving.settings import Settings, default_body_bytes

EXTRA = "serve"


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
    access_log: bool = False


def serve_package(request: ServeRequest, on_message: Callable[[str], None]) -> None:
    """Serve a package until a signal says to stop.

    Raises:
        PackageError: the package is damaged, unknown or not safe; nothing of it was loaded.
        UsageError: the port is taken, the device is not there, the memory is not enough.
        MissingExtraError: what serves is not installed.
    """
    for module in ("fastapi", "uvicorn", "prometheus_client", "safetensors"):
        require(module, EXTRA, "serve a package")
    from torchgauge.deploy.serving.application import Service, create_application
    from torchgauge.deploy.serving.budget import batch_limit
    from torchgauge.deploy.serving.engine import LocalEngine
    from torchgauge.deploy.serving.model import describe, open_package, warm_up
    from torchgauge.deploy.serving.server import bind, serve

    listener = bind(request.host, request.port)
    try:
        model = open_package(request.folder, request.device)
        warm_up(model)
        settings = request.settings
        body = request.body_limit or default_body_bytes(model.signature, settings.max_batch)
        settings = replace(
            settings,
            max_body_bytes=body,
            max_pending_bytes=max(settings.max_pending_bytes, body),
        )
        limit = batch_limit(model.memory, settings, request.device, request.memory_limit)
        engine = LocalEngine(model, settings, limit)
        service = Service(model.signature, engine, settings, limit)
        application = create_application(model.name, service)
        host, port = listener.getsockname()[:2]
        on_message(describe(model))
        on_message(f"listening on http://{host}:{port} (POST /v1/predict, GET /docs)")
        serve(application, listener, settings, access_log=request.access_log)
        on_message(f"stopped: {service.taken} requests taken, {service.answered} answered")
    finally:
        listener.close()
