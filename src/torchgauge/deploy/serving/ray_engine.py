"""Replicas of a package on Ray Serve, behind the same application as the one in this process.

The application, its limits and its end stay in this process; Ray Serve places the replicas on the
machines of a cluster, replaces those that die and changes their number. Each replica has a queue
and batches of its own. A prediction has no side effects, so one whose replica died is sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.deploy.extras import require
from torchgauge.deploy.serving import failures
from torchgauge.deploy.serving.batching import BatchRun
from torchgauge.deploy.serving.failures import Busy, Expired, RequestFailure, Stopping
from torchgauge.deploy.serving.settings import Settings
from torchgauge.errors import UsageError

if TYPE_CHECKING:
    import torch

    Tensors = tuple[torch.Tensor, ...]

EXTRA = "ray"
_NAME = "torchgauge"
_PAUSE_SECONDS = 0.05
"""Before a request is sent again: Ray needs a moment to see that a replica is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayRequest:
    """How many replicas, and where."""

    replicas: int = 2
    max_replicas: int | None = None
    """More than ``replicas`` when there is more to do; ``None`` keeps their number."""
    address: str | None = None
    """Of a cluster that runs; ``None`` starts one on this machine."""


class Replica:
    """One copy of the model, in a process of its own."""

    def __init__(self, folder: str, device: str, settings: Settings, budget_bytes: int) -> None:
        from torchgauge.deploy.serving.budget import BatchLimit
        from torchgauge.deploy.serving.engine import LocalEngine
        from torchgauge.deploy.serving.model import open_package, warm_up

        model = open_package(Path(folder), device)
        warm_up(model)
        limit = BatchLimit(model.memory, model.signature, budget_bytes, settings.max_batch)
        self._engine = LocalEngine(model, settings, limit)

    async def predict(self, tensors: Tensors, sizes: Mapping[str, int]) -> tuple[str, Any]:
        """Return ``"answer"`` and the outputs, or a failure's name and message."""
        try:
            return "answer", tuple(await self._engine.predict(tensors, sizes))
        except RequestFailure as failure:
            return type(failure).__name__, failure.message

    def check_health(self) -> None:
        """Tell Ray Serve that the replica has to be replaced, by raising.

        Raises:
            RuntimeError: the model's thread is gone.
        """
        if not self._engine.is_ready:
            raise RuntimeError("the model's thread has ended")


class RayEngine:
    """Sends requests to the replicas, and again when one dies."""

    def __init__(self, handle: Any, settings: Settings, request: RayRequest) -> None:
        self._handle = handle
        self._settings = settings
        most = request.max_replicas or request.replicas
        self._most = settings.max_queue + most * settings.max_batch
        self._in_flight = 0
        self._stopping = False

    @property
    def is_ready(self) -> bool:
        """Return whether requests are taken."""
        return not self._stopping

    @property
    def waiting(self) -> int:
        """Return how many requests are with the replicas."""
        return self._in_flight

    def watch(self, on_batch: Callable[[BatchRun], None]) -> None:
        """Do nothing: batches run in the replicas, whose metrics are Ray's."""

    async def predict(self, tensors: Tensors, sizes: Mapping[str, int]) -> Sequence[torch.Tensor]:
        """Send the request to a replica, and to another one when that dies.

        Raises:
            RequestFailure: too many under way, no answer in time, or what a replica says.
        """
        if self._in_flight >= self._most:
            raise Busy(f"the queue is full ({self._in_flight} under way); try again later")
        self._in_flight += 1
        seconds = self._settings.request_seconds
        try:
            async with asyncio.timeout(seconds):
                kind, value = await self._answer(tensors, sizes)
        except TimeoutError:
            raise Expired(f"no answer within {seconds:g} s") from None
        finally:
            self._in_flight -= 1
        if kind == "answer":
            outputs: Sequence[torch.Tensor] = value
            return outputs
        raise getattr(failures, kind)(value)

    async def _answer(self, tensors: Tensors, sizes: Mapping[str, int]) -> tuple[str, Any]:
        from ray.exceptions import RayActorError

        end = time.monotonic() + self._settings.request_seconds
        while True:
            try:
                answer: tuple[str, Any] = await self._handle.predict.remote(tensors, dict(sizes))
                return answer
            except RayActorError:  # it died, or its machine cannot be reached
                if time.monotonic() > end:
                    raise Stopping("no replica answers") from None
                await asyncio.sleep(_PAUSE_SECONDS)

    async def stop(self) -> None:
        """End the replicas; Ray itself goes too where it was started here."""
        self._stopping = True
        await asyncio.to_thread(_end)


def start_replicas(
    folder: Path, device: str, settings: Settings, budget_bytes: int, request: RayRequest
) -> RayEngine:
    """Start Ray Serve with the replicas, and wait until they answer.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: there is no cluster at the address, or the replicas do not start.
    """
    ray = require("ray", EXTRA, "serve with replicas")
    serve = require("ray.serve", EXTRA, "serve with replicas")
    try:
        ray.init(
            address=request.address,
            namespace=_NAME,
            include_dashboard=False if request.address is None else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"there is no Ray at {request.address or 'this machine'}: {error}",
            hint="start one with `ray start --head`, or leave --ray-address out",
        ) from error
    per_replica = replace(settings, max_queue=settings.max_queue + settings.max_batch)
    deployment = serve.deployment(name="model")(Replica).options(
        **_scale(request),
        max_ongoing_requests=per_replica.max_queue,
        health_check_period_s=2,
        graceful_shutdown_timeout_s=settings.grace_seconds,
        ray_actor_options={"num_cpus": 1, "num_gpus": 0 if device == "cpu" else 1},
    )
    try:
        serve.start(proxy_location="Disabled")
        handle = serve.run(
            deployment.bind(str(folder.resolve()), device, per_replica, budget_bytes),
            name=_NAME,
            route_prefix=None,
        )
    except KeyboardInterrupt:
        _end()
        raise
    except Exception as error:
        _end()
        raise UsageError(
            f"the replicas do not start: {(str(error).strip().splitlines() or [''])[0]}",
            hint="the package must be at the same path on every machine of the cluster; "
            "`ray status` shows whether there are CPUs and GPUs left",
        ) from error
    return RayEngine(handle, settings, request)


def _scale(request: RayRequest) -> dict[str, Any]:
    if request.max_replicas is None or request.max_replicas <= request.replicas:
        return {"num_replicas": request.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": request.replicas,
            "max_replicas": request.max_replicas,
            "initial_replicas": request.replicas,
        }
    }


def _end() -> None:
    import ray
    from ray import serve

    serve.delete(_NAME)
    ray.shutdown()
