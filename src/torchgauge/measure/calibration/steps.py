"""Whole steps, timed: what they take besides their operators, and how far predictions are off."""

from __future__ import annotations

import mmap
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Final

import torch
from torch import nn

from torchgauge.analyze import run_model
from torchgauge.estimate.time.cpu.calibration import Calibration, Overheads
from torchgauge.estimate.time.cpu.page_faults import PAGE
from torchgauge.estimate.time.cpu.predict import op_seconds, predict_on_cpu
from torchgauge.estimate.time.cpu.work import work_of
from torchgauge.estimate.time.prediction import Prediction
from torchgauge.facts.scenario import Mode, Scenario
from torchgauge.facts.trace import Phase
from torchgauge.measure.calibration.case import Case, Fresh, Memory
from torchgauge.measure.calibration.networks import Network, Views, modules, small
from torchgauge.measure.calibration.timing import recorded, runs
from torchgauge.measure.profile import ignore
from torchgauge.measure.step import RealStep
from torchgauge.request import Inputs, Request

_SIZE: Final = (2, 8, 4, 4)
_SMALL: Final = tuple(
    getattr(torch.ops.aten, name).default for name in ("relu", "gelu", "sigmoid", "silu", "tanh")
)
"""Operators of the small network, to see how fast the machine is by now."""
_SECONDS: Final = 0.4
_FEWEST: Final = 7
_MICROSECONDS: Final = 1e6
NOTHING: Final = Overheads(**dict.fromkeys((item.name for item in fields(Overheads)), 0.0))
_PRIVATE: Final[dict[str, int]] = (
    {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
)
"""Memory as the C library maps it, not shared."""
_MAPPED_BYTES: Final = 48 * 2**20
"""More than the C library takes from its heap."""


def overheads(calibration: Calibration) -> Overheads:
    """Return what small steps take beyond the operators' own time, per operator and module."""
    x = torch.randn(_SIZE)
    with torch.no_grad():
        empty = modules()
        module_us = _median(lambda: empty(x)) * _MICROSECONDS / len(list(empty.modules()))
        views = Views()
        view_us = _median(lambda: views(x)) * _MICROSECONDS / Views.COUNT
    known = replace(calibration.overheads, module_us=module_us, view_us=view_us, page_us=_page_us())
    bare = replace(calibration, overheads=known)
    model = small().eval()
    with torch.no_grad():
        forward = _median(lambda: model(x))
    predicted = predicted_step(model, _SIZE, bare, Mode.INFERENCE)
    ops = _count(predicted, Phase.FORWARD)
    drift = _drift(calibration)
    op_us = (forward - _now(predicted, drift)) * _MICROSECONDS / ops
    model.train()
    noted = _median(lambda: model(x))
    with torch.no_grad():
        plain = _median(lambda: model(x))
    gradient_us = (noted - plain) * _MICROSECONDS / ops
    both = _median(lambda: model(x).sum().backward())
    training = predicted_step(model, _SIZE, bare, Mode.TRAINING)
    backward = _now(training, drift, Phase.BACKWARD)
    backward_us = (both - noted - backward) * _MICROSECONDS / _count(training, Phase.BACKWARD)
    return replace(
        known,
        op_us=max(0.0, op_us),
        gradient_us=max(0.0, gradient_us),
        backward_us=max(0.0, backward_us),
    )


def _now(prediction: Prediction, drift: float, phase: Phase = Phase.FORWARD) -> float:
    """Return what a phase takes while operators, and they alone, take so many times as long."""
    running = sum(kernel.seconds for kernel in prediction.kernels if kernel.phase is phase)
    return prediction.phase_seconds()[phase] + (drift - 1.0) * running


def _drift(calibration: Calibration) -> float:
    """Return how many times as long small operators take now as when they were timed.

    What is left of a step beyond its operators is little; a machine that became faster in between
    would leave nothing.
    """
    memory = Memory()
    ratios = []
    for op in _SMALL:
        case = Case(op=op, given=(Fresh(_SIZE),))
        work = work_of(recorded(case, memory), torch.get_num_threads())
        assert work is not None
        ratios += [seconds / op_seconds(work, calibration) for seconds in runs(case, memory)]
    return median(ratios)


def _median(step: Callable[[], object]) -> float:
    """Return the median seconds of a step."""
    step()
    seconds: list[float] = []
    while len(seconds) < _FEWEST or sum(seconds) < _SECONDS:
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def _page_us() -> float:
    """Return what the first touch of a page costs, beyond that of a page in use.

    The memory comes from the system: the C library would give out what it has.
    """
    used = torch.zeros(_MAPPED_BYTES, dtype=torch.uint8)

    def first_touch() -> None:
        torch.frombuffer(mmap.mmap(-1, _MAPPED_BYTES, **_PRIVATE), dtype=torch.uint8).zero_()

    again = _median(lambda: used.zero_())
    return max(0.0, _median(first_touch) - again) * _MICROSECONDS / (_MAPPED_BYTES / PAGE)


def _count(prediction: Prediction, phase: Phase) -> int:
    return sum(kernel.phase is phase for kernel in prediction.kernels)


def predicted_step(
    model: nn.Module, size: tuple[int, ...], calibration: Calibration, mode: Mode
) -> Prediction:
    """Return the prediction for a model's step."""
    scenario = Scenario(mode=mode)
    trace = run_model(_request(model, size, scenario)).outcome.trace
    return predict_on_cpu(trace, calibration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A network's step, predicted and measured, in seconds."""

    name: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Return the relative error."""
        return abs(self.predicted / self.measured - 1.0)


def checked(networks: Sequence[Network], calibration: Calibration) -> list[Checked]:
    """Predict and time the inference and the training step of each network."""
    found = []
    for network in networks:
        for mode in (Mode.INFERENCE, Mode.TRAINING):
            scenario = Scenario(mode=mode)
            made = run_model(_request(network.make(), network.size, scenario))
            assert made.run_plan is not None
            step = RealStep(made.run_plan)
            measured = _median(lambda step=step: step.run(ignore))  # type: ignore[misc]
            predicted = predict_on_cpu(made.outcome.trace, calibration).total_seconds
            name = f"{network.name}, {mode}"
            found.append(Checked(name=name, predicted=predicted, measured=measured))
    return found


def _request(model: nn.Module, size: tuple[int, ...], scenario: Scenario) -> Request:
    return Request(model=model, inputs=Inputs(size=size, as_given=True), scenario=scenario)
