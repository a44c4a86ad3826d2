"""Every GPU of the catalogue with twelve networks: what must hold whatever was fitted on what."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from statistics import median

import pytest

import torchgauge as tg
from small_models import trace
from torchgauge.devices import Arithmetic, Device, Kind, all_devices, find_device
from torchgauge.devices.evidence import Evidence, Rate, evidence_of, factor_of
from torchgauge.devices.power import family_of, headroom, share_of_full_rate
from torchgauge.devices.tables import coefficients
from torchgauge.estimate.time.gpu import DeviceModel, predict
from torchgauge.estimate.time.gpu.cost import kernel_time
from torchgauge.estimate.time.gpu.rates import rates_of
from torchgauge.estimate.time.kernels.operators import kernels_of
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.trace import Trace
from workloads import TOKENS, WORKLOADS

GPUS = [device for device in all_devices() if device.compute_capability is not None]
MODES, PRECISIONS = ("inference", "training"), ("fp32", "fp16")
FORMATS = [Arithmetic.FP32, Arithmetic.TF32, Arithmetic.FP16]
NAMES = sorted(WORKLOADS)


@cache
def traced(name: str, mode: str, precision: str) -> Trace:
    """Return a network's step with the kernels of an A100, whose kinds all GPUs have."""
    build, size = WORKLOADS[name]
    optimizer = {"optimizer": "sgd"} if mode == "training" else {}
    scenario = tg.Scenario(mode=mode, device="A100-SXM-40GB", precision=precision, **optimizer)
    return trace(build(), size, scenario, dtypes=["int64"] if name in TOKENS else None)


@cache
def works(name: str, mode: str, precision: str) -> Counter[Work]:
    return Counter(work for op in traced(name, mode, precision).ops for work in kernels_of(op))


@cache
def seconds(gpu: str, name: str, mode: str, precision: str) -> float:
    """Return how long the kernels of a step run, launches by the CPU left aside."""
    model = DeviceModel(device=find_device(gpu))
    return sum(
        float(kernel_time(work.kind, work, model.rates(work), model.coefficients).total) * count
        for work, count in works(name, mode, precision).items()
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_time_is_one(name: str) -> None:
    """Neither nothing nor absurd: an hour, or beyond the datasheet by more than boards boost."""
    for mode in MODES:
        for precision in PRECISIONS:
            for device in GPUS:
                model = DeviceModel(device=device)
                step = works(name, mode, precision)
                roof = sum(model.roof_seconds(work) * count for work, count in step.items())
                found = seconds(device.name, name, mode, precision)
                assert math.isfinite(found), device.name
                assert 0.7 * roof < found < 3600, (device.name, mode, precision)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_half_precision_is_not_slower(name: str, mode: str) -> None:
    """Where the datasheet states no lower rate; on all GPUs at hand it states none.

    Convolutions in half precision are counted with padded channels, as tensor cores take them;
    GPUs without tensor cores are left out of those.
    """
    is_padded = any(work.is_convolution for work in works(name, mode, "fp16"))
    for device in GPUS:
        fp32, fp16 = device.fp32_flops_per_second, device.fp16_flops_per_second
        assert fp32 is not None
        assert fp16 is None or fp16 >= fp32, device.name
        if is_padded and not device.has_tensor_cores:
            continue
        half, single = (
            seconds(device.name, name, mode, precision) for precision in ("fp16", "fp32")
        )
        assert half <= 1.0001 * single, device.name


def _better() -> Iterator[tuple[str, str]]:
    """Yield pairs of which the first has as much or more of everything."""
    had = {device.name: _everything(device) for device in GPUS}
    for better in GPUS:
        for other in GPUS:
            more = zip(had[better.name], had[other.name], strict=True)
            if better is not other and all(a >= 0.9999 * b for a, b in more):
                yield better.name, other.name


def _everything(device: Device) -> tuple[float, ...]:
    """Return rates, also per multiprocessor, memory, and the power for the rates.

    A product of few tiles runs on few multiprocessors: it is faster where each of them is. Of two
    families, one may have been measured to sustain less of its datasheet: what is sustained counts
    too.
    """
    rates = [device.peak_rate(arithmetic) or 0.0 for arithmetic in FORMATS]
    sustained = [rates_of(device, arithmetic, coefficients()) for arithmetic in FORMATS]
    processors = device.sm_count or 1
    return (
        *rates, *(rate.compute for rate in sustained), sustained[0].bandwidth,
        *(rate / processors for rate in rates), float(processors),
        device.bandwidth_bytes_per_second, float(device.memory_bytes), float(device.l2_bytes or 0),
        *(headroom(device, arithmetic) for arithmetic in FORMATS),
    )  # fmt: skip


PAIRS = list(_better())


def test_many_pairs_of_gpus_compare() -> None:
    assert len(PAIRS) > 2000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_with_more_of_everything_is_not_slower(name: str, mode: str) -> None:
    """But for what measurements say: one of two A100s may reach more of its datasheet."""
    for better, other in PAIRS:
        reached = max(1.0, *(a / b for a, b in zip(factors(other), factors(better), strict=True)))
        for precision in PRECISIONS:
            quick, slow = (seconds(gpu, name, mode, precision) for gpu in (better, other))
            assert quick <= 1.0001 * slow * reached, (better, other, precision)


@cache
def factors(gpu: str) -> tuple[float, ...]:
    return tuple(factor_of(find_device(gpu), rate, coefficients()) for rate in Rate)


def test_no_measured_gpu_is_far_from_its_siblings() -> None:
    """Nor from what is published of them: the farthest is a GH200 in Lambda's training, which has
    two thirds of the share of its bandwidth that copies reach on an H100."""
    c = coefficients()
    for device in GPUS:
        for rate in Rate:
            if evidence_of(device, rate, c) is not Evidence.MEASURED:
                continue
            others = {key: value for key, value in c.items() if key != f"{device.name}.{rate}"}
            assert 0.6 < factor_of(device, rate, c) / factor_of(device, rate, others) < 1.6


@pytest.mark.parametrize("arithmetic", [Arithmetic.FP32, Arithmetic.FP16])
def test_rates_per_watt_are_those_of_the_family(arithmetic: Arithmetic) -> None:
    """Boards of one chip family differ by their clocks: not by more than a factor.

    The range of measured ones lies inside; one die's FLOPs with two dies' watts, or half-precision
    rates that no product reaches, lie outside.
    """
    c = coefficients()
    found: defaultdict[tuple[object, ...], dict[str, float]] = defaultdict(dict)
    for device in all_devices():
        if device.tdp_watts is None or device.kind is Kind.EDGE:
            continue
        if device.peak_rate(arithmetic) is not None:
            half = share_of_full_rate(device, arithmetic) < 0.75
            group = family_of(device), half, device.has_tensor_cores
            found[group][device.name] = rates_of(device, arithmetic, c).compute / device.tdp_watts
    assert len(found) > 10
    for group, rates in found.items():
        middle = median(rates.values())
        for name, rate in rates.items():
            assert 0.45 < rate / middle < 2.2, (group, name)


def test_every_rate_says_how_it_is_known() -> None:
    c = coefficients()
    seen = {evidence_of(device, rate, c) for device in GPUS for rate in Rate}
    assert seen == set(Evidence)


@pytest.mark.parametrize("name", ["perceptron", "Llama"])
def test_the_timeline_agrees(name: str) -> None:
    for gpu in ("K80", "T4", "H100-SXM"):
        device = find_device(gpu)
        step = traced(name, "training", "fp16")
        found = predict(step, DeviceModel(device=device))
        kernels = sum(kernel.seconds for kernel in found.kernels)
        assert kernels <= found.total_seconds
        assert kernels == pytest.approx(seconds(device.name, name, "training", "fp16"), rel=1e-6)
        assert 0 < found.error < 1
