"""``torchgauge check [NAME …]``: models against the budgets of a project, all side by side."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from torchgauge.cli import options, output
from torchgauge.cli.budget_options import budgets_from, name_here, request_from_table
from torchgauge.cli.progress import Progress
from torchgauge.errors import UsageError
from torchgauge.facts.loop.check import CheckReport
from torchgauge.loop.revisions import Checkout
from torchgauge.render.ci import CI_FORMATS
from torchgauge.request import Request

_SUFFIXES = {".xml": "junit", ".sarif": "sarif"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="a model of the file: [tool.torchgauge.models.NAME]; all of them by default",
    )
    group = parser.add_argument_group("budgets")
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the file of the budgets (default: the nearest pyproject.toml, here or above)",
    )
    group.add_argument(
        "--update-baseline",
        action="store_true",
        help="save the reports that later figures are held against; commit these files",
    )
    group.add_argument(
        "--base",
        metavar="REV",
        help="also compare with the models at this git revision, such as origin/main",
    )
    group.add_argument(
        "--comment",
        action="store_true",
        help="post the result to the pull request of a GitHub Actions run, or update it there",
    )
    group.add_argument(
        "--jobs",
        type=options.positive_integer,
        metavar="N",
        help="how many models are analysed at a time (default: one per CPU)",
    )
    group.add_argument(
        "--save",
        action="append",
        default=[],
        type=_saved,
        metavar="FORMAT=FILE",
        help="write the result to FILE as well, such as junit=budgets.xml; repeatable",
    )
    output.add_output_options(
        parser,
        strict="exit 4 when anything was not counted, guessed or warned about",
        more_formats=CI_FORMATS,
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what came of each limit; the exit status is the highest of any model.

    Raises:
        UsageError: the file, a name, a limit or the base makes no sense.
    """
    from torchgauge.budget.check import CheckOptions, check_budgets
    from torchgauge.budget.config import find_config, read_config

    target = _target(arguments)
    config = read_config(arguments.config or find_config(Path.cwd()))
    budgets = budgets_from(config, arguments.names)
    place = config.path.resolve()

    def at_base(there: Checkout) -> dict[str, Request]:
        path = there.top / place.relative_to(there.source)
        return _requests_at(path, [budget.name for budget in budgets])

    comment = None
    if arguments.comment:
        from torchgauge.budget.comment import PullRequest

        comment = PullRequest.from_environment()
    with Progress(enabled=not arguments.quiet) as progress:
        report = check_budgets(
            budgets,
            CheckOptions(
                folder=place.parent,
                config=name_here(place, os.environ),
                jobs=arguments.jobs,
                update_baseline=arguments.update_baseline,
                base=arguments.base,
                base_requests=at_base,
                on_progress=progress.update,
            ),
        )
    _deliver(report, target, arguments)
    if comment is not None:
        comment.post(report)
    if arguments.strict and report.exit_status == 0:
        output.check_doubts(
            f"{model.name}: {doubt}" for model in report.models for doubt in model.doubts
        )
    return report.exit_status


def _requests_at(path: Path, names: list[str]) -> dict[str, Request]:
    """Return the models that the base's own file of budgets has; one that is not right has none."""
    from torchgauge.budget.config import read_config

    found = {}
    try:
        config = read_config(path)
    except UsageError:  # no budgets there yet: the models are asked as they are now
        return {}
    for name in names:
        if name in config.tables:
            try:
                found[name] = request_from_table(config, config.tables[name])
            except UsageError:  # of another version of torchgauge
                continue
    return found


def _target(arguments: argparse.Namespace) -> output.Output | None:
    """Return where the result goes; ``None`` for the formats of CI services.

    Raises:
        UsageError: an option without meaning in the format, or no such folder.
    """
    path: Path | None = arguments.output
    if arguments.format is None and path is not None and path.suffix.lower() in _SUFFIXES:
        arguments.format = _SUFFIXES[path.suffix.lower()]
    for _, saved in arguments.save:
        output.check_place(saved)
    if arguments.format not in CI_FORMATS:
        return output.chosen_output(arguments)
    if path is not None:
        output.check_place(path)
    output.refuse_layout(arguments, arguments.format)
    return None


def _saved(text: str) -> tuple[str, Path]:
    """Read ``junit=budgets.xml``.

    >>> _saved("junit=budgets.xml")[0]
    'junit'
    """
    name, separator, path = text.partition("=")
    if not separator or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not FORMAT=FILE; write junit=budgets.xml")
    return options.one_of((*output.FORMATS, *CI_FORMATS))(name), Path(path)


def _deliver(
    report: CheckReport, target: output.Output | None, arguments: argparse.Namespace
) -> None:
    from torchgauge.render.pages.loop.check import check_page

    for name, path in arguments.save:
        output.deliver(_text(name, report), path)
    if target is None:
        output.deliver(_text(arguments.format, report), arguments.output)
    else:
        target.deliver(lambda: check_page(report), report.to_json)


def _text(name: str, report: CheckReport) -> str:
    from torchgauge.render import get_format
    from torchgauge.render.ci import ci_text
    from torchgauge.render.pages.loop.check import check_page

    if name in CI_FORMATS:
        return ci_text(name, report)
    if name == "json":
        return report.to_json()
    text: str = get_format(name).render(check_page(report))
    return text
