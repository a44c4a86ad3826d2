"""``torchgauge advise MODEL``: what is wrong, what can be slimmed, and the way to a goal."""

from __future__ import annotations

import argparse
from dataclasses import replace

from torchgauge.cli import messages, options, output, scenario_options
from torchgauge.cli.model_run import request_from, user_code_prints_to_stderr
from torchgauge.cli.progress import Progress
from torchgauge.errors import CheckFailed
from torchgauge.facts.loop.advice import Accuracy


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
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        from torchgauge.advise.engine import AdviceOptions, advise_model
        from torchgauge.advise.rules import rule_of
        from torchgauge.models.requests import build_for, with_build

        if arguments.explain is not None:
            arguments.rule = [arguments.explain]
        rules = tuple(arguments.rule) if arguments.rule else None
        for name in rules or ():
            rule_of(name)
        request = replace(request, on_progress=progress.update)
        advice = advise_model(
            with_build(request, build_for(request)),
            AdviceOptions(
                goal=arguments.goal, allow=arguments.allow, rules=rules, prove=arguments.prove
            ),
        )
    from torchgauge.render.pages.loop.advice import advice_page

    target.deliver_interactive(advice, lambda: advice_page(advice), advice.to_json)
    if arguments.explain is not None and not arguments.quiet:
        for item in advice.quiet:
            messages.note(f"{item.rule}: {item.why}")
    if arguments.strict:
        output.check_doubts(
            [f"guessed: {text}" for text in advice.guesses]
            + [f"warning: {text}" for text in advice.warnings]
        )
    if advice.reached is False:
        raise CheckFailed(f"{arguments.goal} is not reached", hint="see what it comes to above")
    return 0
