"""``torchgauge advise MODEL``: what is wrong, what can be slimmed, and the way to a goal."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from torchgauge.cli import messages, options, output, scenario_options
from torchgauge.cli.model_run import request_from, user_code_prints_to_stderr
from torchgauge.cli.progress import Progress
from torchgauge.errors import CheckFailed, UsageError
from torchgauge.facts.loop.advice import Accuracy, Advice, Fault, Suggestion
from torchgauge.models.sources.python_source import python_spec


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    group = parser.add_argument_group("advice")
    group.add_argument(
        "--goal",
        metavar="GOAL",
        help="what to reach: fit:RTX 3060 12GB, params:-50%%, macs:600M, memory:8GB or "
        "latency:20ms; exit 1 when it is not reached",
    )
    group.add_argument(
        "--allow",
        metavar="accuracy=HOW",
        type=_allowed,
        default=Accuracy.RETRAIN,
        help="how far changes may go: accuracy=none (the same function), accuracy=small, or "
        "accuracy=retrain (default)",
    )
    group.add_argument("--rule", action="append", metavar="NAME", help="only this rule; repeatable")
    group.add_argument("--explain", metavar="RULE", help="say why a rule found nothing")
    group.add_argument(
        "--no-proof", dest="prove", action="store_false", help="run no changed copy for real"
    )
    group.add_argument(
        "--patch",
        metavar="FILE",
        type=Path,
        help="write the path to the goal, or the best change, as a diff of the model's source",
    )
    check = parser.add_argument_group("check on your data")
    check.add_argument(
        "--check",
        metavar="FILE.py:LOADER",
        help="measure each change on these data, before and after: batches of (inputs, targets) "
        "or dicts",
    )
    check.add_argument(
        "--check-metric",
        metavar="FILE.py:METRIC",
        help="a function of outputs and targets that returns a number; by default accuracy, the "
        "mean squared error, or the loss that the model returns",
    )
    check.add_argument(
        "--check-limit",
        metavar="SECONDS",
        type=options.positive_integer,
        default=60,
        help="run no further batch after this time (default 60)",
    )
    output.add_output_options(parser, details=True)


def _allowed(text: str) -> Accuracy:
    name, _, value = text.rpartition("=")
    if name not in ("", "accuracy") or value not in list(Accuracy):
        raise argparse.ArgumentTypeError("write accuracy=none, accuracy=small or accuracy=retrain")
    return Accuracy(value)


def run(arguments: argparse.Namespace) -> int:
    """Print the advice.

    Raises:
        CheckFailed: the goal is not reached.
        TorchGaugeError: whatever is wrong with the request or the model.
    """
    request = request_from(arguments)
    target = output.chosen_output(arguments)
    _check_asked(arguments)
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        from torchgauge.advise.engine import AdviceOptions, advise_model
        from torchgauge.advise.public import completed
        from torchgauge.advise.rules import rule_of
        from torchgauge.models.requests import build_for, with_build

        if arguments.explain is not None:
            arguments.rule = [arguments.explain]
        rules = tuple(arguments.rule) if arguments.rule else None
        for name in rules or ():
            rule_of(name)
        request = replace(request, on_progress=progress.update)
        request = with_build(request, build_for(request))
        advice = advise_model(
            request,
            AdviceOptions(
                goal=arguments.goal, allow=arguments.allow, rules=rules, prove=arguments.prove
            ),
        )
        advice = completed(
            advice,
            request,
            patch=arguments.patch is not None,
            check=arguments.check,
            metric=arguments.check_metric,
            limit_s=arguments.check_limit,
        )
    from torchgauge.render.pages.loop.advice import advice_page

    target.deliver_interactive(advice, lambda: advice_page(advice), advice.to_json)
    if arguments.explain is not None and not arguments.quiet:
        for item in advice.quiet:
            messages.note(f"{item.rule}: {item.why}")
    if arguments.patch is not None:
        _write_patch(advice, arguments.patch, is_quiet=arguments.quiet)
    if arguments.strict:
        output.check_doubts(
            [f"guessed: {text}" for text in advice.guesses]
            + [f"warning: {text}" for text in advice.warnings]
        )
    if advice.reached is False:
        raise CheckFailed(f"{arguments.goal} is not reached", hint="see what it comes to above")
    return 0


def _check_asked(arguments: argparse.Namespace) -> None:
    """Find what is wrong with the data and the file of the patch before anything runs.

    Raises:
        UsageError: a name leads nowhere, or the diff would overwrite code.
        MissingExtraError: libcst is needed and not installed.
    """
    for named in (arguments.check, arguments.check_metric):
        if named is not None:
            python_spec(named)
    if arguments.patch is not None:
        from torchgauge.advise.patch.made import require_libcst

        require_libcst()
        if arguments.patch.suffix == ".py":
            raise UsageError(
                f"{arguments.patch} would be overwritten by the diff", hint="name a file: out.diff"
            )
        output.check_place(arguments.patch)


def _write_patch(advice: Advice, path: Path, *, is_quiet: bool) -> None:
    """Write the patch of the path, of the best suggestion that has one, or of a fault.

    Raises:
        CheckFailed: there is none; the reasons are on the page.
        UsageError: the file cannot be written.
    """
    items: tuple[Suggestion | Fault, ...] = (*advice.suggestions, *advice.faults)
    made = [(item.text, item.patched) for item in items]
    if advice.goal is not None and advice.path_patch is not None:
        made = [(f"the path to {advice.goal.text}", advice.path_patch)]
    found = [(text, patch) for text, patch in made if patch is not None and patch.diff]
    if not found:
        why = next((f": {patch.why_not}" for _, patch in made if patch is not None), "")
        raise CheckFailed(
            f"no patch was written{why}", hint="change the source by hand; the page says why not"
        )
    (text, patch), *others = found
    output.write(path, patch.diff)
    if is_quiet:
        return
    place = path.resolve()
    messages.note(f"{path} holds: {text}; apply it in {patch.folder} with: patch -p1 < {place}")
    if others:
        texts = {text for text, _ in others}
        rules = dict.fromkeys(item.rule for item in items if item.text in texts)
        messages.note(f"patches of other changes: --rule {', --rule '.join(rules)}")
