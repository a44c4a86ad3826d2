"""The options that say what is run, and the scenario that they make. No torch in here."""

from __future__ import annotations

import argparse
from typing import Any

from torchgauge.cli.options import OneOf, memory_size, one_of, positive_integer, setting
from torchgauge.errors import UsageError
from torchgauge.facts.choices.optimizers import as_class
from torchgauge.facts.choices.precision_names import precision_hint
from torchgauge.facts.scenario import (
    LOSSES,
    OPTIMIZERS,
    Checkpointing,
    Mode,
    OptimizerImplementation,
    Precision,
    Scenario,
    ZeroGrad,
)

_GPU_HELP = "cpu (default), a GPU that torchgauge devices lists, or cuda for the one here"
_REAL_HELP = "cpu (default), or cuda for the GPU here"
_PREDICTED_ONLY = ("compiled", "allocator", "torch_release", "first_step", "other_programs")
"""Options that a real run refuses."""


def add_scenario_options(
    parser: argparse.ArgumentParser, *, device: bool = True, is_real: bool = False
) -> None:
    """Declare what is run; without ``device`` a command declares ``--device`` itself.

    ``is_real`` says that the command runs the step on this machine. Its help leaves out the options
    that it refuses.
    """
    group = parser.add_argument_group("scenario")
    group.add_argument(
        "--mode",
        type=one_of(Mode),
        default=Mode.INFERENCE.value,
        metavar="MODE",
        help="inference (default) or training: forward, loss, backward and optimizer step",
    )
    if device:
        group.add_argument(
            "--device",
            default="cpu",
            metavar="NAME",
            help=_REAL_HELP if is_real else _GPU_HELP,
        )
    group.add_argument(
        "--precision",
        type=OneOf(Precision, hint=precision_hint),
        default=Precision.AS_BUILT.value,
        metavar="NAME",
        help="as-built (default: nothing is cast), or one that the model is cast to: "
        + ", ".join(name for name in Precision if name is not Precision.AS_BUILT),
    )
    _add_kernel_options(group)
    _add_gpu_options(group)
    _add_training_options(parser.add_argument_group("training"))
    if is_real:
        _leave_out_of_help(parser)


def _leave_out_of_help(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if action.dest in _PREDICTED_ONLY:
            action.help = argparse.SUPPRESS


def _add_kernel_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--channels-last", action="store_true", help="images in channels-last memory format"
    )
    group.add_argument(
        "--attn-implementation",
        metavar="NAME",
        help="attention of a transformers model: eager, sdpa or another that it has "
        "(default: as it is built)",
    )
    group.add_argument(
        "--grad-enabled",
        action="store_true",
        help="inference without torch.no_grad(): the output keeps its graph until the next one",
    )


def _add_gpu_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--cudnn-benchmark",
        action="store_true",
        help="torch.backends.cudnn.benchmark: convolutions run the plan that was fastest",
    )
    group.add_argument(
        "--compiled",
        action="store_true",
        help="torch.compile: the predicted time is that of fused kernels (GPUs)",
    )
    group.add_argument(
        "--other-programs",
        type=memory_size,
        default=0,
        metavar="SIZE",
        help="GPU memory that a desktop and other processes use, such as 1.2GiB (default: none)",
    )
    group.add_argument(
        "--allocator",
        default="",
        metavar="CONF",
        help="PYTORCH_CUDA_ALLOC_CONF, such as expandable_segments:True",
    )
    group.add_argument(
        "--torch-release",
        metavar="X.Y",
        help="PyTorch release whose kernels and allocator are predicted "
        "(default: the installed one)",
    )


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--optimizer",
        type=_optimizer,
        metavar="NAME",
        help=", ".join(OPTIMIZERS) + ", or package.module:Class",
    )
    group.add_argument(
        "--optimizer-option",
        action="append",
        default=[],
        type=setting,
        metavar="KEY=VALUE",
        help="an argument of the optimizer, such as weight_decay=0.01; repeatable",
    )
    group.add_argument(
        "--optimizer-implementation",
        type=one_of(OptimizerImplementation),
        metavar="NAME",
        help=", ".join(OptimizerImplementation) + " (default: what PyTorch takes on the device)",
    )
    group.add_argument("--loss", type=one_of(LOSSES), metavar="NAME", help=", ".join(LOSSES))
    group.add_argument(
        "--zero-grad",
        type=one_of(ZeroGrad),
        metavar="WHEN",
        help="when old gradients are freed: " + ", ".join(ZeroGrad),
    )
    _add_memory_options(group)
    group.add_argument(
        "--accumulation",
        type=positive_integer,
        metavar="N",
        help="micro-batches per optimizer step",
    )
    group.add_argument(
        "--clip-gradients", action="store_true", help="clip the norm of all gradients"
    )
    group.add_argument("--ema", action="store_true", help="keep a moving average of the parameters")
    group.add_argument(
        "--first-step",
        action="store_true",
        help="peak of the first step, not of a later one",
    )


def _add_memory_options(group: argparse._ArgumentGroup) -> None:
    """Declare what becomes of the activations."""
    group.add_argument(
        "--checkpointing", action="store_true", help="recompute activations in the backward"
    )
    group.add_argument(
        "--checkpointing-kind",
        type=one_of(Checkpointing),
        metavar="KIND",
        help="checkpointing of this kind: " + ", ".join(Checkpointing),
    )
    group.add_argument(
        "--checkpointed",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module to checkpoint instead of the repeated blocks, or children of an "
        "nn.Sequential: features[0:5]; +addmm behind it keeps an operator's outputs; repeatable",
    )
    group.add_argument(
        "--offload-activations",
        action="store_true",
        help="keep saved activations in host memory (save_on_cpu)",
    )


def _optimizer(text: str) -> str:
    if ":" in text:
        return text
    if text not in OPTIMIZERS and (hint := as_class(text)):
        raise argparse.ArgumentTypeError(f"unknown name {text!r}; {hint}")
    return one_of(OPTIMIZERS)(text)


def scenario_from(arguments: argparse.Namespace) -> Scenario:
    """Build the scenario; a command without ``--device`` of its own gets that of the CPU.

    Raises:
        ScenarioError: for a training option in inference.
        UsageError: likewise, for those that ``Scenario`` itself lets pass.
    """
    if arguments.mode != Mode.TRAINING:
        for option, given in (
            ("--checkpointing", arguments.checkpointing),
            ("--checkpointed", bool(arguments.checkpointed)),
            ("--accumulation", arguments.accumulation is not None),
            ("--zero-grad", arguments.zero_grad is not None),
            ("--checkpointing-kind", arguments.checkpointing_kind is not None),
        ):
            if given:
                raise UsageError(
                    f"{option} has no meaning in inference", hint="add --mode training"
                )
    device = getattr(arguments, "device", None)
    return Scenario(
        mode=arguments.mode,
        device=device if isinstance(device, str) else "cpu",
        precision=arguments.precision,
        optimizer=arguments.optimizer,
        loss=arguments.loss,
        checkpointing=arguments.checkpointing_kind or arguments.checkpointing,
        checkpointed=arguments.checkpointed,
        accumulation=arguments.accumulation or 1,
        optimizer_options=_options_from(arguments),
        optimizer_implementation=arguments.optimizer_implementation,
        zero_grad=arguments.zero_grad or ZeroGrad.BEFORE_FORWARD,
        gradient_clipping=arguments.clip_gradients,
        offload_activations=arguments.offload_activations,
        ema=arguments.ema,
        channels_last=arguments.channels_last,
        cudnn_benchmark=arguments.cudnn_benchmark,
        first_step=arguments.first_step,
        compiled=arguments.compiled,
        grad_enabled=arguments.grad_enabled,
        other_programs_bytes=arguments.other_programs,
        allocator=arguments.allocator,
        torch_release=arguments.torch_release,
        attn_implementation=arguments.attn_implementation,
    )


def _options_from(arguments: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, value in arguments.optimizer_option:
        if key in options:
            raise UsageError(f"--optimizer-option {key}=… was given twice", hint="keep one of them")
        options[key] = value
    return options
