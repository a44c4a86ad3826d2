"""``torchgauge plan-checkpoints MODEL``: what to recompute so that a training step fits."""

from __future__ import annotations

import argparse
from dataclasses import replace

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import print_notes, request_from, user_code_prints_to_stderr
from torchgauge.cli.progress import Progress
from torchgauge.errors import CheckFailed, UsageError
from torchgauge.facts.loop.checkpoints import Least


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    scenario_options.add_scenario_options(parser)
    parser.set_defaults(mode="training")
    options.add_real_run_option(parser)
    group = parser.add_argument_group("plan")
    goal = group.add_mutually_exclusive_group()
    goal.add_argument(
        "--memory",
        type=options.memory_size,
        metavar="SIZE",
        help="memory limit of the step, such as 8GB; by default the step must fit the --device",
    )
    goal.add_argument(
        "--keep",
        type=_share,
        metavar="SHARE",
        help="share of the saved activations to keep, such as 50%%: the peak falls by the rest",
    )
    group.add_argument(
        "--least",
        type=options.one_of(Least),
        metavar="WHAT",
        help="minimize the extra flops or the extra time (default: time where it can be predicted, "
        "else flops)",
    )
    output.add_output_options(parser, details=True)


def _share(text: str) -> float:
    """Read ``50%`` or ``0.5``.

    >>> _share("50%"), _share("0.5")
    (0.5, 0.5)
    """
    try:
        value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share, such as 50% or 0.5")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; the exit status is 1 where no plan meets the goal.

    Raises:
        CheckFailed: no plan meets the goal.
        TorchGaugeError: whatever is wrong with the request or the model.
    """
    if arguments.mode != "training":
        raise UsageError(
            "checkpoints are for training: an inference saves nothing",
            hint="leave --mode out",
        )
    request = request_from(arguments)
    target = output.chosen_output(arguments)
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        from torchgauge.checkpoints.engine import plan_model
        from torchgauge.checkpoints.goal import PlanOptions
        from torchgauge.models.requests import build_for, check_runs, with_build

        request = replace(request, on_progress=progress.update)
        made = build_for(request)
        check_runs(made)
        asked = PlanOptions(
            memory_bytes=arguments.memory,
            keep=arguments.keep,
            least=None if arguments.least is None else Least(arguments.least),
        )
        plan = plan_model(with_build(request, made), asked)
    if not arguments.quiet:
        print_notes(made)
    from torchgauge.render.pages.loop.checkpoints import checkpoints_page

    target.deliver(lambda: checkpoints_page(plan), plan.to_json)
    if arguments.strict:
        output.check_doubts(
            [f"guessed: {text}" for text in plan.guesses]
            + [f"warning: {text}" for text in plan.warnings]
        )
    if not plan.fits:
        raise CheckFailed(
            f"no plan meets the goal: {plan.goal.text}",
            hint="a smaller batch, or another change that torchgauge fit lists",
        )
    return 0
