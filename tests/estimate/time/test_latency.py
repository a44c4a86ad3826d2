"""The predicted time: closed forms of kernels, and what always holds of a step."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.devices import all_devices, find_device
from torchgauge.devices.catalog import built_in
from torchgauge.devices.device import Arithmetic
from torchgauge.devices.evidence import Evidence, Rate, evidence_of
from torchgauge.devices.power import headroom
from torchgauge.devices.tables import COEFFICIENTS, coefficients, rows
from torchgauge.errors import ScenarioError
from torchgauge.estimate.time.gpu import DeviceModel, Kind, predict
from torchgauge.estimate.time.gpu.cost import kernel_time
from torchgauge.estimate.time.gpu.device_model import ERROR_GROUPS
from torchgauge.estimate.time.gpu.fusion import fused
from torchgauge.estimate.time.gpu.rates import arithmetic_of, rates_of
from torchgauge.estimate.time.kernels.operators import kernels_of, packet_of
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import OpRecord, Phase, TensorSpec
from torchgauge.render import get_format
from torchgauge.render.pages.report import report_page

GPU = find_device("RTX 3090")
MODEL = DeviceModel(device=GPU)
BYTES = {"float32": 4, "float16": 2, "int64": 8, "bool": 1}


def spec(*shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(
        shape=shape, dtype=dtype, device="cuda", nbytes=math.prod(shape) * BYTES[dtype]
    )


def op(name: str, args: tuple, outputs: tuple[TensorSpec, ...], **fields) -> OpRecord:
    given = {"index": 0, "kwargs": (), "call": -1, "phase": Phase.FORWARD} | fields
    return OpRecord(name=name, args=args, outputs=outputs, **given)


def seconds(work: Work, model: DeviceModel = MODEL) -> float:
    return float(kernel_time(work.kind, work, model.rates(work), model.coefficients).total)


# --------------------------------------------------------------------------- kernels


def test_a_matrix_product_is_its_shapes() -> None:
    (work,) = kernels_of(
        op("aten.addmm.default", (spec(32), spec(64, 16), spec(16, 32)), (spec(64, 32),))
    )
    assert (work.kind, work.rows, work.columns, work.inner) == (Kind.MATMUL, 64, 32, 16)
    assert work.flops == 2 * 64 * 32 * 16
    assert work.nbytes == 4 * (32 + 64 * 16 + 16 * 32 + 64 * 32)


def test_a_convolution_is_a_product_of_unfolded_images() -> None:
    args = (spec(8, 16, 10, 10), spec(32, 16, 3, 3), None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1)
    (work,) = kernels_of(op("aten.convolution.default", args, (spec(8, 32, 8, 8),)))
    assert (work.rows, work.columns, work.inner) == (8 * 8 * 8, 32, 16 * 9)
    assert work.flops == 2 * (8 * 8 * 8) * 32 * 16 * 9
    assert work.copied_bytes == 2 * 4 * (8 * 16 * 100 + 8 * 32 * 64)


def test_half_precision_pads_channels() -> None:
    half = {"dtype": "float16"}
    args = (spec(8, 3, 10, 10, **half), spec(32, 3, 3, 3, **half), None, (1, 1), (0, 0), (1, 1),
            False, (0, 0), 1)  # fmt: skip
    (work,) = kernels_of(op("aten.convolution.default", args, (spec(8, 32, 8, 8, **half),)))
    assert (work.inner, work.padding) == (3 * 9, 5 * 9)
    assert work.flops == 2 * (8 * 8 * 8) * 32 * 3 * 9


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("is_filter_gradient", [False, True])
@pytest.mark.parametrize(
    ("gpu", "has_tensor_cores"),
    [
        ("P100-PCIe-16GB", False), ("GTX 1080 Ti", False), ("GTX 1660 Ti", False),
        ("V100-SXM2-16GB", True), ("T4", True), ("RTX 3090", True),
    ],
)  # fmt: skip
def test_channels_are_padded_by_tensor_cores_alone(
    gpu: str, has_tensor_cores: bool, is_filter_gradient: bool, dtype: str
) -> None:
    """What has none multiplies the channels that there are, in whatever precision."""
    half = {"dtype": dtype}
    args = (spec(64, 3, 34, 34, **half), spec(64, 3, 3, 3, **half), None, (1, 1), (0, 0), (1, 1),
            False, (0, 0), 1)  # fmt: skip
    (work,) = kernels_of(op("aten.convolution.default", args, (spec(64, 64, 32, 32, **half),)))
    if is_filter_gradient:
        work = replace(work, rows=work.inner, inner=work.rows, is_filter_gradient=True)
    model = DeviceModel(device=find_device(gpu))
    side = "rows" if is_filter_gradient else "inner"
    plain = replace(work, padding=0.0)
    padded = replace(plain, **{side: getattr(work, side) + 5 * 9})
    pads = has_tensor_cores and dtype == "float16"
    assert seconds(work, model) == seconds(padded if pads else plain, model)
    assert (seconds(work, model) > seconds(plain, model)) is pads


def test_the_backward_of_a_convolution_is_a_product_for_each_gradient() -> None:
    x, weight, gradient = spec(8, 16, 10, 10), spec(32, 16, 3, 3), spec(8, 32, 8, 8)
    args = (gradient, x, weight, (32,), (1, 1), (0, 0), (1, 1), False, (0, 0), 1)
    both = kernels_of(
        op("aten.convolution_backward.default", (*args, (True, True, True)), (x, weight, spec(32)))
    )
    forward = 2 * (8 * 8 * 8) * 32 * 16 * 9
    assert [work.kind for work in both] == [Kind.CONVOLUTION, Kind.CONVOLUTION, Kind.REDUCTION]
    assert [work.flops for work in both[:2]] == [forward, forward]
    assert 2 * both[0].rows * both[0].columns * both[0].inner == forward
    alone = kernels_of(
        op("aten.convolution_backward.default", (*args, (False, True, False)), (weight,))
    )
    assert [work.flops for work in alone] == [forward]


def test_a_filter_per_channel_is_depthwise() -> None:
    args = (spec(8, 16, 10, 10), spec(16, 1, 3, 3), None, (1, 1), (1, 1), (1, 1), False, (0, 0), 16)
    (work,) = kernels_of(op("aten.convolution.default", args, (spec(8, 16, 10, 10),)))
    assert work.kind is Kind.DEPTHWISE
    assert work.batch == 16


@pytest.mark.parametrize(
    ("operand", "kind"),
    [(spec(64, 1000), Kind.ELEMENTWISE), (spec(1000), Kind.BROADCAST),
     (spec(64, 1000, dtype="float16"), Kind.BROADCAST)],
)  # fmt: skip
def test_operands_of_several_shapes_or_dtypes_broadcast(operand, kind) -> None:
    (work,) = kernels_of(op("aten.add.Tensor", (spec(64, 1000), operand), (spec(64, 1000),)))
    assert work.kind is kind


def test_views_and_taken_memory_launch_nothing() -> None:
    view = op("aten.view.default", (spec(4),), (spec(2, 2),), is_view=True)
    assert kernels_of(view) == kernels_of(op("aten.empty.memory_format", ((4,),), (spec(4),))) == ()


def test_few_bytes_are_a_launch() -> None:
    (work,) = kernels_of(op("aten.relu.default", (spec(8),), (spec(8),)))
    assert work.kind is Kind.SCALAR
    assert seconds(work) == pytest.approx(MODEL.coefficients["launch.kernel_us"] * 1e-6, rel=0.01)


def test_names_of_operators_are_read() -> None:
    assert packet_of("aten.add_.Tensor") == "add"
    assert packet_of("aten.__and__.Tensor") == "__and__"


# ------------------------------------------------------------------------------ time


def test_a_large_product_takes_its_flops() -> None:
    side = 16_384
    work = Work(kind=Kind.MATMUL, dtype="float16", flops=2.0 * side**3, rows=side, columns=side,
                inner=side, read_bytes=4.0 * side**2, written_bytes=2.0 * side**2)  # fmt: skip
    c = MODEL.coefficients
    rate = MODEL.rates(work).compute * c["matmul.compute"]
    assert rate == pytest.approx(
        71.16e12 * c["RTX 3090.tensor"] * headroom(GPU, Arithmetic.FP16) ** c["power"]
        * c["matmul.compute"]
    )  # fmt: skip
    assert seconds(work) == pytest.approx(work.flops / rate, rel=0.02)


def test_a_large_addition_takes_its_bytes() -> None:
    work = Work(kind=Kind.ELEMENTWISE, read_bytes=2e9, written_bytes=1e9)
    c = MODEL.coefficients
    bandwidth = 936.2e9 * c["RTX 3090.bandwidth"] * c["elementwise.memory"]
    assert seconds(work) == pytest.approx(3e9 / bandwidth, rel=0.01)


def test_a_tile_is_computed_whole() -> None:
    def product(rows: int) -> float:
        return seconds(Work(kind=Kind.MATMUL, rows=rows, columns=4096, inner=4096,
                            flops=2.0 * rows * 4096 * 4096))  # fmt: skip

    assert product(4089) == pytest.approx(product(4096))
    assert product(4097) > product(4096)


def test_the_last_wave_leaves_processors_idle() -> None:
    small = find_device("RTX 3060 12GB")
    many = replace(small, sm_count=10 * (small.sm_count or 1))
    work = Work(kind=Kind.MATMUL, rows=512, columns=512, inner=4096, flops=2.0 * 512**2 * 4096)
    assert seconds(work, DeviceModel(device=many)) > seconds(work, DeviceModel(device=small))


@pytest.mark.parametrize("field", ["bandwidth_bytes_per_second", "fp32_flops_per_second",
                                   "fp16_flops_per_second"])  # fmt: skip
@pytest.mark.parametrize("kind", list(Kind))
def test_no_kernel_is_slower_on_a_better_device(kind: Kind, field: str) -> None:
    watts = replace(GPU, tdp_watts=None)  # else a higher rate means fewer watts per FLOP
    better = replace(watts, **{field: 2 * getattr(watts, field)})
    work = Work(kind=kind, dtype="float16", flops=2e9, elements=1e6, read_bytes=4e6,
                written_bytes=2e6, rows=1000, columns=1000, inner=1000)  # fmt: skip
    assert seconds(work, DeviceModel(device=better)) <= seconds(work, DeviceModel(device=watts))


def test_tf32_is_what_convolutions_take_and_products_only_when_asked() -> None:
    a100 = find_device("A100-SXM-40GB")
    product = Work(kind=Kind.MATMUL)
    convolution = Work(kind=Kind.CONVOLUTION, is_convolution=True)
    assert arithmetic_of(product, a100, tf32_matmul=False) is Arithmetic.FP32
    assert arithmetic_of(product, a100, tf32_matmul=True) is Arithmetic.TF32
    assert arithmetic_of(convolution, a100, tf32_matmul=False) is Arithmetic.TF32
    v100 = find_device("V100-SXM2-32GB")
    assert arithmetic_of(convolution, v100, tf32_matmul=True) is Arithmetic.FP32


@pytest.mark.parametrize(
    ("dtype", "arithmetic"),
    [("float16", "fp16"), ("bfloat16", "bf16"), ("float8_e4m3fn", "fp8"), ("int8", "int8")],
)
def test_each_dtype_has_the_devices_rate(dtype: str, arithmetic: str) -> None:
    h100 = find_device("H100-SXM")
    found = arithmetic_of(Work(kind=Kind.MATMUL, dtype=dtype), h100, tf32_matmul=False)
    assert found == arithmetic
    faster = rates_of(h100, found, coefficients()).compute
    assert faster > rates_of(h100, Arithmetic.FP32, coefficients()).compute


def test_every_cuda_device_with_a_rate_has_a_time() -> None:
    work = Work(kind=Kind.MATMUL, dtype="float16", flops=2e9, read_bytes=4e6, written_bytes=2e6,
                rows=1000, columns=1000, inner=1000)  # fmt: skip
    for device in all_devices():
        model = DeviceModel(device=device)
        if device.compute_capability is not None and model.is_predictable:
            assert 0 < seconds(work, model) < 1, device.name


# ------------------------------------------------------------------------------ steps


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.second(torch.relu(self.first(x)))))
        return self.head(x.mean((2, 3)))


def report(batch: int = 64, **scenario) -> tg.Report:
    given = {"device": "RTX 3090", "precision": "fp16-autocast", "mode": "training"} | scenario
    return tg.analyze(Small(), (batch, 3, 64, 64), scenario=Scenario(**given))


def test_parts_sum_to_the_step() -> None:
    found = report()
    time = found.time
    assert time is not None and time.predicted is not None
    phases = time.forward_ms + time.loss_ms + time.backward_ms + time.optimizer_ms
    assert phases == pytest.approx(time.total_ms)
    assert sum(time.predicted.bound_by.values()) == pytest.approx(1)
    (root,) = found.modules[""].calls
    assert root.time_ms + time.outside_ms == pytest.approx(time.total_ms)
    below = sum(
        found.modules[name].calls[0].time_ms for name in ("first", "second", "norm", "head")
    )
    assert below < root.time_ms
    assert sum(item.time_ms for item in time.ops) <= time.total_ms * (1 + 1e-9)
    assert time.predicted.samples_per_second == pytest.approx(64 / time.total_ms * 1e3)


def test_a_larger_batch_takes_longer_and_never_less_than_launches() -> None:
    times = [report(batch).time.total_ms for batch in (1, 8, 64, 512)]
    assert times == sorted(times)


def test_a_small_step_is_bound_by_launches_whatever_the_gpu() -> None:
    slow, fast = (report(1, device=name).time for name in ("RTX 3060 12GB", "H100-SXM"))
    assert slow.predicted.bound_by["launch"] > 0.8
    assert fast.total_ms == pytest.approx(slow.total_ms, rel=0.1)
    assert slow.predicted.error > report(512, device="RTX 3060 12GB").time.predicted.error


def test_the_error_is_wider_where_nothing_was_measured() -> None:
    """Of one kernel, by the evidence of its rate; float32 convolutions without TF32 most of all."""
    half = Work(kind=Kind.MATMUL, dtype="float16", flops=2e9, rows=1e3, columns=1e3, inner=1e3)
    by_evidence = {
        evidence_of(device, Rate.TENSOR, coefficients()): DeviceModel(device=device).error_of(half)
        for device in built_in()
        if device.has_tensor_cores
    }
    measured, sibling, datasheet = (by_evidence[evidence] for evidence in Evidence)
    assert measured < sibling < datasheet
    plain = report(512, device="V100-PCIe-32GB", precision="fp32").time.predicted.error
    assert plain > 2 * report(512, device="RTX 3090", precision="fp16").time.predicted.error
    c = coefficients()
    for rate in Rate:
        known = [c.get(f"error.{evidence}.{rate}", 0.0) for evidence in Evidence]
        assert known == sorted(known)
    assert all(c[f"error.{group}"] > 0 for group in ERROR_GROUPS)


def test_the_error_is_wider_in_training_and_for_compiled_kernels() -> None:
    c = coefficients()
    plain, training = (report(512, mode=mode).time.predicted for mode in ("inference", "training"))
    assert c["error.training"] > 1
    assert training.error > plain.error
    assert report(512, compiled=True).time.predicted.error > plain.error


def test_a_compiled_step_moves_less_and_launches_less() -> None:
    for batch in (1, 512):
        assert report(batch, compiled=True).time.total_ms < report(batch).time.total_ms


def test_a_chain_reads_and_writes_what_is_outside() -> None:
    class Chain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(torch.relu(x * 2) + 1)

    trace = _trace_of(Chain(), (1024, 1024))
    (issue,) = fused(trace, MODEL.coefficients)
    (work,) = issue.works
    assert work.read_bytes == work.written_bytes == 4 * 1024**2


def _trace_of(model: nn.Module, shape: tuple[int, ...]):
    from torchgauge.analyze import virtual_device_of
    from torchgauge.request import Inputs
    from torchgauge.target import target_of
    from torchgauge.trace.inputs.plan import plan_inputs
    from torchgauge.trace.run.run_plan import RunPlan
    from torchgauge.trace.run.runs import run

    scenario = Scenario(device="RTX 3090")
    plan = plan_inputs(model, Inputs(size=shape))  # fmt: skip
    assert plan is not None
    target = virtual_device_of(target_of(scenario))
    return run(
        RunPlan(model=model, plan=plan, scenario=scenario, model_name="m", target=target)
    ).trace


def test_kernels_run_in_order_and_do_not_overlap() -> None:
    prediction = predict(_trace_of(Small().eval(), (64, 3, 64, 64)), MODEL)
    end = 0.0
    for kernel in prediction.kernels:
        assert kernel.start >= max(end, kernel.issued)
        assert kernel.idle == pytest.approx(kernel.start - end)
        end = kernel.end
    assert prediction.total_seconds >= end


def test_no_large_product_beats_the_roof() -> None:
    """Small operands may come from L2; a large product may not be faster than its datasheet."""
    for kernel in predict(_trace_of(Small().eval(), (512, 3, 64, 64)), MODEL).kernels:
        assert kernel.roof_seconds <= 1.3 * kernel.seconds


def test_attention_without_hoppers_instructions_is_slower_there() -> None:
    h100 = DeviceModel(device=find_device("H100-SXM"))
    work = Work(kind=Kind.ATTENTION, dtype="bfloat16", flops=4.0 * 64 * 4096**2 * 128, rows=4096,
                columns=4096, inner=128, batch=64)  # fmt: skip
    portable = replace(work, is_portable=True)
    assert seconds(portable, h100) > 1.3 * seconds(work, h100)
    assert seconds(portable) == seconds(work)
    causal = seconds(replace(portable, share=0.5), h100)
    assert causal == pytest.approx(seconds(portable, h100) / 2, rel=0.05)


def test_the_cpu_is_not_predicted_and_not_compiled() -> None:
    assert tg.analyze(Small(), (1, 3, 64, 64)).time is None
    with pytest.raises(ScenarioError, match="compiled=True has no meaning on the CPU"):
        tg.analyze(Small(), (1, 3, 64, 64), scenario=Scenario(compiled=True))


def test_a_prediction_is_saved_and_loaded(tmp_path: Path) -> None:
    found = report()
    found.save(tmp_path / "report.json")
    assert tg.load(tmp_path / "report.json").time == found.time


def test_the_text_says_that_it_is_predicted() -> None:
    text = " ".join(get_format("text").render(report_page(report())).split())
    assert "a step ±" in text and "predicted" in text
    assert "samples/s" in text
    assert "bound" in text


# ------------------------------------------------------------------------ coefficients


def test_coefficients_are_plausible() -> None:
    """Efficiencies far beyond what hardware allows would be a fit that explains something else."""
    for row in rows(COEFFICIENTS):
        name, value = row["name"], float(row["value"])
        assert value > 0, name
        assert abs(math.log(value / float(row["expected"]))) < math.log(5), name
        is_efficiency = name.endswith((".memory", ".compute", ".tensor", ".vector", "bandwidth"))
        assert name.startswith("error.") or not is_efficiency or 0.05 < value < 1.3, name


def test_every_kind_has_its_coefficients() -> None:
    work = Work(kind=Kind.MATMUL, dtype="float16", flops=2e9, elements=1e6, read_bytes=4e6,
                written_bytes=2e6, rows=1000, columns=1000, inner=1000)  # fmt: skip
    for kind in Kind:
        assert seconds(replace(work, kind=kind)) > 0


def test_missing_rates_are_no_prediction() -> None:
    assert not DeviceModel(device=replace(GPU, fp32_flops_per_second=None)).is_predictable
