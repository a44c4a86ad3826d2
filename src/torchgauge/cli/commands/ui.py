"""``torchgauge ui MODEL …``: the report in the browser, with answers to "what if"."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torchgauge.cli import options, scenario_options
from torchgauge.cli.messages import say
from torchgauge.cli.model_run import request_from
from torchgauge.cli.progress import Progress
from torchgauge.web.live.start import UiRequest, can_open_browser, serve_page

_seconds = options.number_of("seconds", may_be_zero=False)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser, are_several=True)
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    group = parser.add_argument_group("page")
    options.add_page_options(group)
    group.add_argument(
        "--time-limit", type=_seconds, default=300.0, metavar="S",
        help="end an analysis that takes longer (default 300 seconds)",
    )  # fmt: skip
    group = parser.add_argument_group("output")
    group.add_argument("--quiet", action="store_true", help="print the URL and errors only")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Raises:
        TorchGaugeError: whatever is wrong with the options, a model or the port.
    """
    specs = arguments.model
    requests = []
    for spec in specs:
        arguments.model = spec
        requests.append(request_from(arguments))
    wanted = UiRequest(
        models=requests,
        port=arguments.port,
        opens=can_open_browser() if arguments.open is None else arguments.open,
        analysis_seconds=arguments.time_limit,
    )
    serve_page(wanted, say, _progress(enabled=not arguments.quiet))
    return 0


@contextmanager
def _progress(*, enabled: bool) -> Iterator[Callable[[str], None]]:
    with Progress(enabled=enabled) as progress:
        yield progress.update
