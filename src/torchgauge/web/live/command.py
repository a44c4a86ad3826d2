"""The command that gives the same answer in a terminal."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

from torchgauge.changes.inputs import sizes_of
from torchgauge.facts.scenario import Checkpointing, Scenario, ZeroGrad
from torchgauge.request import Request

_VALUES = {
    "precision": ("--precision", "as-built"),
    "device": ("--device", "cpu"),
    "optimizer_implementation": ("--optimizer-implementation", None),
    "zero_grad": ("--zero-grad", ZeroGrad.BEFORE_FORWARD),
    "accumulation": ("--accumulation", 1),
    "allocator": ("--allocator", ""),
    "torch_release": ("--torch-release", None),
    "attn_implementation": ("--attn-implementation", None),
    "other_programs_bytes": ("--other-programs", 0),
}
"""Fields of a scenario with a value: the option, and the value that need not be written."""
_FLAGS = {
    "gradient_clipping": "--clip-gradients",
    "ema": "--ema",
    "channels_last": "--channels-last",
    "cudnn_benchmark": "--cudnn-benchmark",
    "first_step": "--first-step",
    "compiled": "--compiled",
    "grad_enabled": "--grad-enabled",
}


def command_of(request: Request, name: str = "summary") -> str:
    """Return the command line that asks the same of ``torchgauge summary``, or of another name."""
    words = ["torchgauge", name, str(request.spec)]
    for name, value in request.settings.items():
        words += ["--set", f"{name}={_literal(value)}"]
    words += _input_words(request)
    words += _scenario_words(request.scenario)
    if not request.real_run:
        words.append("--no-real-run")
    return shlex.join(words)


def _input_words(request: Request) -> Iterator[str]:
    inputs = request.inputs
    is_named = isinstance(inputs.size, dict)
    for name, size in sizes_of(inputs).items():
        text = ",".join(map(str, size))
        yield from ("--input-size", f"{name}={text}" if is_named else text)
    for kind in inputs.dtypes or ():
        yield from ("--dtype", str(kind))
    if inputs.batch_size is not None:
        yield from ("--batch-size", str(inputs.batch_size))
    if inputs.batch_dim is not None:
        yield f"--batch-dim={inputs.batch_dim}"


def _scenario_words(scenario: Scenario) -> Iterator[str]:
    if scenario.is_training:
        yield from ("--mode", scenario.mode.value)
        yield from ("--optimizer", str(scenario.optimizer))
        if scenario.loss != "auto":
            yield from ("--loss", str(scenario.loss))
    for name, (option, usual) in _VALUES.items():
        value = getattr(scenario, name)
        if value != usual:
            yield from (option, str(value))
    for name, value in scenario.optimizer_options:
        yield from ("--optimizer-option", f"{name}={_literal(value)}")
    kind = scenario.checkpointing_kind
    if kind is Checkpointing.NON_REENTRANT:
        yield "--checkpointing"
    elif kind is not None:
        yield from ("--checkpointing-kind", kind.value)
    for place in scenario.checkpointed:
        yield from ("--checkpointed", place)
    if scenario.offload_activations:
        yield "--offload-activations"
    for name, option in _FLAGS.items():
        if getattr(scenario, name):
            yield option


def _literal(value: Any) -> str:
    """Return a value as ``--set`` reads it: plain words need no quotes."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        if value.lower() in ("true", "false", "none", "null"):
            return repr(value)
        try:
            ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return repr(value)
