"""``torchgauge serve DIR``: answer HTTP requests with a packaged model."""

from __future__ import annotations

import argparse
from pathlib import Path

from torchgauge.cli.messages import say
from torchgauge.cli.options import memory_size, number_of, one_of, port, positive_integer
from torchgauge.deploy.serving.ray_engine import RayRequest
from torchgauge.deploy.serving.settings import Settings
from torchgauge.deploy.serving.start import ServeRequest, serve_package
from torchgauge.errors import UsageError

_DEFAULTS = Settings()
_seconds, _milliseconds = number_of("seconds"), number_of("milliseconds")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="what torchgauge package wrote")
    group = parser.add_argument_group("address")
    group.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1; 0.0.0.0 for all")
    group.add_argument("--port", type=port, default=8000, metavar="N", help="default 8000")
    group.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:1")
    group = parser.add_argument_group("replicas")
    group.add_argument(
        "--engine", type=one_of(("local", "ray")), default="local", metavar="NAME",
        help="local (default): the model in this process; ray: replicas on Ray Serve",
    )  # fmt: skip
    group.add_argument(
        "--replicas", type=positive_integer, metavar="N", help="with ray: how many (default 2)"
    )
    group.add_argument(
        "--max-replicas", type=positive_integer, metavar="N",
        help="with ray: the most replicas under load",
    )  # fmt: skip
    group.add_argument(
        "--ray-address", metavar="ADDRESS", help="with ray: a cluster that runs, such as auto"
    )
    group = parser.add_argument_group("batching and memory")
    group.add_argument(
        "--max-latency-ms", type=lambda text: _milliseconds(text) / 1000,
        default=_DEFAULTS.max_wait_seconds, metavar="MS",
        help="how long a request may wait for others to join it (default 5)",
    )  # fmt: skip
    group.add_argument(
        "--max-batch", type=positive_integer, default=_DEFAULTS.max_batch, metavar="N",
        help="samples in one batch, if the memory allows (default 64)",
    )  # fmt: skip
    group.add_argument("--no-batching", action="store_true", help="run every request alone")
    group.add_argument(
        "--memory-limit", type=_size, metavar="SIZE",
        help="such as 4GiB: of the whole process on the CPU, of the model on a GPU "
        "(default: most of what is free)",
    )  # fmt: skip
    _add_limits(parser.add_argument_group("limits"))
    group = parser.add_argument_group("output")
    group.add_argument("--access-log", action="store_true", help="one line per request on stderr")
    group.add_argument("--quiet", action="store_true", help="print errors only")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-queue", type=positive_integer, default=_DEFAULTS.max_queue, metavar="N",
        help="requests that may wait for the model; more get 429 (default 128)",
    )  # fmt: skip
    group.add_argument(
        "--max-body", type=_size, metavar="SIZE",
        help="largest body of one request (default: a full batch as JSON, at most 32 MiB)",
    )  # fmt: skip
    group.add_argument(
        "--max-pending", type=_size, metavar="SIZE",
        help="memory for all bodies and answers together (default 256MiB, less with little memory)",
    )  # fmt: skip
    group.add_argument(
        "--body-timeout", type=_time_out, default=_DEFAULTS.body_seconds, metavar="S",
        help="for a client to send its body or to take the answer (default 20)",
    )  # fmt: skip
    group.add_argument(
        "--request-timeout", type=_time_out, default=_DEFAULTS.request_seconds, metavar="S",
        help="for the model to answer (default 30)",
    )  # fmt: skip
    group.add_argument(
        "--grace", type=_seconds, default=_DEFAULTS.grace_seconds, metavar="S",
        help="after SIGTERM, for what was accepted (default 30; at least 1)",
    )  # fmt: skip
    group.add_argument("--allow-nan", action="store_true", help="take NaN and infinity as inputs")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        TorchGaugeError: whatever is wrong with the package, the port, the device or the memory.
    """
    serve_package(request_from(arguments), (lambda _: None) if arguments.quiet else say)
    return 0


def _ray_request(arguments: argparse.Namespace) -> RayRequest | None:
    given = {
        "replicas": arguments.replicas,
        "max_replicas": arguments.max_replicas,
        "address": arguments.ray_address,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.engine == "ray":
        return RayRequest(**given)
    if given:
        raise UsageError(
            "--replicas, --max-replicas and --ray-address are for Ray Serve",
            hint="add --engine ray",
        )
    return None


def request_from(arguments: argparse.Namespace) -> ServeRequest:
    """Return what was asked for."""
    return ServeRequest(
        folder=arguments.folder,
        host=arguments.host,
        port=arguments.port,
        device=arguments.device,
        memory_limit=arguments.memory_limit,
        body_limit=arguments.max_body,
        pending_limit=arguments.max_pending,
        ray=_ray_request(arguments),
        access_log=arguments.access_log,
        settings=Settings(
            max_wait_seconds=arguments.max_latency_ms,
            max_batch=arguments.max_batch,
            batching=not arguments.no_batching,
            max_queue=arguments.max_queue,
            body_seconds=arguments.body_timeout,
            request_seconds=arguments.request_timeout,
            grace_seconds=arguments.grace,
            allow_nan=arguments.allow_nan,
        ),
    )


def _time_out(text: str) -> float:
    if not (value := _seconds(text)):
        raise argparse.ArgumentTypeError("use more than 0 seconds")
    return value


def _size(text: str) -> int:
    if not (value := memory_size(text)):
        raise argparse.ArgumentTypeError("use more than 0 bytes")
    return value
