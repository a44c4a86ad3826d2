"""A step's time on a GPU, from its trace: per kernel, per call, per phase.

Assumes: the step is one of many, data is on the device, nothing else runs there; Python and
dispatch take what they take on a desktop processor of about 2022.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from torchgauge.devices.device import Arithmetic
from torchgauge.estimate.time.gpu.device_model import DeviceModel, of_compiled
from torchgauge.estimate.time.gpu.fusion import fused
from torchgauge.estimate.time.gpu.timeline import Issue, dispatch_seconds, kernels_on_gpu, run
from torchgauge.estimate.time.prediction import Prediction
from torchgauge.estimate.time.steady import is_first_step_only, is_on_host
from torchgauge.facts.precision import arithmetic_of, dtypes_of
from torchgauge.facts.scenario import Mode
from torchgauge.facts.trace import Trace


def predict(trace: Trace, model: DeviceModel, *, compiled: bool = False) -> Prediction:
    """Return the timeline of a trace's step on a device.

    Args:
        trace: recorded on that device's virtual kernels, or on ones like them.
        model: the device and its coefficients.
        compiled: as ``torch.compile`` runs it: element-wise chains fused, few launches.
    """
    c = model.coefficients
    factor = c["error.training"] if trace.scenario.mode is Mode.TRAINING else 1.0
    if compiled:
        factor *= c["error.compiled"]
        model = replace(model, coefficients=of_compiled(c))
    model = replace(model, error_factor=factor)
    issues = list(fused(trace, model.coefficients) if compiled else _eager(trace, model))
    found = Prediction(
        name=model.device.name,
        gpu=model.device,
        kernels=tuple(run(issues, model)),
        cpu_seconds=sum(issue.dispatch_seconds for issue in issues),
        peak_flops_per_second=model.device.peak_rate(_arithmetic(trace)),
    )
    return replace(found, error=_error(found, model))


def _arithmetic(trace: Trace) -> Arithmetic:
    return Arithmetic(arithmetic_of(trace.scenario.precision, dtypes_of(trace)))


def _error(prediction: Prediction, model: DeviceModel) -> float:
    """Return the relative error that four of five published measurements stay within.

    The mean over the step, by time, of its kernels' and of waiting for the CPU.
    """
    c, total = model.coefficients, prediction.total_seconds
    if not total:
        return c["error.launch"]
    running = sum(kernel.seconds for kernel in prediction.kernels)
    found = sum(kernel.error * kernel.seconds for kernel in prediction.kernels)
    return (found + c["error.launch"] * (total - running)) / total


def _eager(trace: Trace, model: DeviceModel) -> Iterator[Issue]:
    entered = Counter(call.first_op for call in trace.calls)
    for op in trace.ops:
        if is_first_step_only(trace, op):
            continue
        works = () if is_on_host(trace, op) else kernels_on_gpu(op)
        seconds = dispatch_seconds(op, works, entered[op.index], model.coefficients)
        yield Issue(op=op, works=works, dispatch_seconds=seconds)
