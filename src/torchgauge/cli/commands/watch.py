"""``torchgauge watch MODEL``: analyse again after each save, and say what changed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import record, request_from
from torchgauge.compare.reports import compare_reports
from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.language import translated
from torchgauge.loop.watching import Version, named, versions
from torchgauge.render.page import Block, Facts, Page, Problem, fact
from torchgauge.render.pages.loop.comparison import comparison_page
from torchgauge.render.pages.report import report_page

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
    output.add_layout_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Watch until Ctrl-C, or for as many analyses as were asked for.

    Raises:
        UsageError: the model is not named by a spec whose code can be read again.
    """
    request = request_from(arguments)
    format = output.layout_format(arguments)
    for version in versions(request):
        print(format.render(page_of(named(version))), flush=True)
        answered = version.analysed.answered
        if answered.report is not None and not answered.error:
            record(answered.report)
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


def _watching(version: Version) -> str:
    count = version.watched
    return f"watching {count} file{'' if count == 1 else 's'}; Ctrl-C ends it"


def page_of(version: Version) -> Page:
    """Return what is shown of a version: the change against the last and the first one."""
    answered, heading = version.analysed.answered, tuple(_heading(version))
    report = answered.report
    if answered.error or report is None:
        entries = (("try", answered.hint),) if answered.hint else ()
        text = answered.error
        problem = Problem(kind="error", heading="not analysed", text=text, entries=entries)
        return Page(title=("error", *heading), is_about_a_model=False, blocks=(problem,))
    if version.last is None:
        page = report_page(report)
        answers = next(block for block in page.blocks if isinstance(block, Facts))
        return Page(title=(report.model_name, *heading), blocks=(answers,))
    page = comparison_page(compare_reports(version.last, report), top=_TOP)
    blocks: list[Block] = list(page.blocks)
    if version.first is not None and version.first is not version.last:
        blocks.append(_since_first(version.first, report))
    return replace(page, title=(report.model_name, *heading), blocks=tuple(blocks))


def _heading(version: Version) -> Iterator[str]:
    yield time.strftime("%H:%M:%S")
    if version.changed:
        yield f"{', '.join(map(str, version.changed))} saved"
    yield f"{version.seconds:.1f} s"


def _since_first(first: Report, report: Report) -> Facts:
    page = comparison_page(compare_reports(first, report))
    answers = next(block for block in page.blocks if isinstance(block, Facts))
    facts = answers.facts or (fact("Equal", "no difference"),)
    return Facts(facts=facts, heading="Since the first version")
