"""``torchgauge watch MODEL``: analyse again after each save, and say what changed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.messages import say
from torchgauge.cli.model_run import record, request_from
from torchgauge.compare.reports import compare_reports
from torchgauge.errors import UsageError
from torchgauge.facts.loop.comparison import Comparison
from torchgauge.language import translated
from torchgauge.loop.watching import Version, named, versions
from torchgauge.render.page import Block, Facts, Page, Problem, fact
from torchgauge.render.pages.loop.comparison import comparison_page
from torchgauge.render.pages.report import report_page
from torchgauge.request import Request

if TYPE_CHECKING:
    from torchgauge.web.watch.start import WatchPage

_TOP = 5
"""Rows of layers that carry a change."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    parser.add_argument(
        "--times",
        type=options.positive_integer,
        metavar="N",
        help="end after N analyses; by default Ctrl-C ends it",
    )
    group = parser.add_argument_group("page")
    group.add_argument(
        "--ui",
        action="store_true",
        help="also show each version on the live page, which updates after each save",
    )
    options.add_page_options(group)
    output.add_layout_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Watch until Ctrl-C, or for as many analyses as were asked for.

    Raises:
        UsageError: the model is not named by a spec whose code can be read again, or its page
            cannot be served.
    """
    request = request_from(arguments)
    format = output.layout_format(arguments)
    with _page(arguments, request) as page:
        for version in _versions(request, page):
            since = changes_of(version)
            if page is not None:
                page.show(version, since)
            print(format.render(page_of(version, since)), flush=True)
            if version.report is not None:
                record(version.report)
            if version.number == 1 and not version.watched:
                raise UsageError(
                    f"nothing to watch: {arguments.model} reads no file of yours",
                    hint="name a model in a file: torchgauge watch model.py:Net",
                )
            if version.number == arguments.times:
                return 0
            if sys.stdout.isatty() and version.number == 1:
                print(translated(_watching(version)), flush=True)
    return 0


def _page(
    arguments: argparse.Namespace, request: Request
) -> AbstractContextManager[WatchPage | None]:
    """Return the page that was asked for.

    Raises:
        UsageError: options of a page that was not asked for.
    """
    if not arguments.ui:
        given = {"--port": arguments.port != 0, "--open": arguments.open is not None}
        for option, is_given in given.items():
            if is_given:
                raise UsageError(
                    f"{option} is an option of the live page",
                    hint=f"add --ui, or leave {option} out",
                )
        return nullcontext()
    from torchgauge.web.live.start import can_open_browser
    from torchgauge.web.watch.start import WatchPage

    opens = can_open_browser() if arguments.open is None else arguments.open
    return WatchPage(request, port=arguments.port, opens=opens, on_message=say)


def _versions(request: Request, page: WatchPage | None) -> Iterator[Version]:
    from torchgauge.loop.fresh import Fresh

    if page is None:
        return versions(request)
    from torchgauge.web.watch.messages import drawn

    return versions(request, fresh=Fresh(drawn), on_saved=page.saved)


def _watching(version: Version) -> str:
    count = version.watched
    return f"watching {count} file{'' if count == 1 else 's'}; Ctrl-C ends it"


def changes_of(version: Version) -> dict[int, Comparison]:
    """Return what changed, by the number of the version that it is compared with."""
    if version.report is None:
        return {}
    earlier = {one.number: one.report for one in (version.first, version.last) if one is not None}
    return {number: compare_reports(one, version.report) for number, one in earlier.items()}


def page_of(version: Version, since: Mapping[int, Comparison]) -> Page:
    """Return what is shown of a version: the change against the last and the first one."""
    answered, heading = version.analysed.answered, tuple(_heading(version))
    report = version.report
    if report is None:
        entries = (("try", answered.hint),) if answered.hint else ()
        text = answered.error
        problem = Problem(kind="error", heading="not analysed", text=text, entries=entries)
        return Page(title=("error", *heading), is_about_a_model=False, blocks=(problem,))
    if version.last is None:
        page = report_page(report)
        answers = next(block for block in page.blocks if isinstance(block, Facts))
        return Page(title=(report.model_name, *heading), blocks=(answers,))
    page = comparison_page(since[version.last.number], top=_TOP)
    blocks: list[Block] = list(page.blocks)
    if version.first is not None and version.first is not version.last:
        blocks.append(_since_first(since[version.first.number]))
    return replace(page, title=(report.model_name, *heading), blocks=tuple(blocks))


def _heading(version: Version) -> Iterator[str]:
    yield time.strftime("%H:%M:%S")
    if version.changed:
        yield f"{', '.join(named(version.changed))} saved"
    yield f"{version.seconds:.1f} s"


def _since_first(change: Comparison) -> Facts:
    answers = next(block for block in comparison_page(change).blocks if isinstance(block, Facts))
    facts = answers.facts or (fact("Equal", "no difference"),)
    return Facts(facts=facts, heading="Since the first version")
