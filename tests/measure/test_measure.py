"""A real step: what it takes, whose time it is, and that nothing is left of it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import median

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import InputError, ModelError, ScenarioError, UsageError
from torchgauge.facts.codec.wire import to_json
from torchgauge.facts.query import own_costs, top_by_time
from torchgauge.facts.report import report_from_json
from torchgauge.measure.memory import resident_bytes
from torchgauge.measure.statistics import enough_for, interval_of, interval_ranks, is_settled
from torchgauge.measure.step import RealStep
from torchgauge.measure.timing import HostClock
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.run.run_plan import RunPlan
from untouched import Moody, fingerprint, same

TRAINING = tg.Scenario(mode="training", optimizer="adamw")
ONCE = {"min_repetitions": 1, "max_seconds": 0.0}
TWICE = {"min_repetitions": 2, "max_seconds": 0.0}


@pytest.fixture(autouse=True)
def few_profiled_steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps under the profiler say what ten do, but how the times of layers compare."""
    if request.node.get_closest_marker("timed") is None:
        monkeypatch.setattr(import_module("torchgauge.measure.measurement"), "_MOST_PROFILED", 2)


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 256, 10),
    )  # fmt: skip


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.lstm = nn.LSTM(16, 32, 2, batch_first=True)
        self.head = nn.Linear(32, 50)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.lstm(self.embedding(ids))[0]))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS = {
    "convolutions": (convnet, (2, 3, 16, 16)),
    "recurrent": (Tokens, (2, 8)),
    "attention": (encoder, (2, 8, 32)),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2)), (4, 16)),
}
SCENARIOS = {
    "inference": tg.Scenario(),
    "training": TRAINING,
    "everything": tg.Scenario(
        mode="training", optimizer="sgd-momentum", checkpointing=True, accumulation=2
    ),
    "bf16": tg.Scenario(mode="training", optimizer="sgd", precision="bf16"),
}


# ---------------------------------------------------------------------------- the figures


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", SCENARIOS)
def test_the_times_of_modules_and_of_operators_sum_to_the_step(name, kind):
    make, size = MODELS[name]
    report = tg.measure(make(), size, scenario=SCENARIOS[kind], **ONCE)
    assert report.execution == "real"
    spent = report.time
    own = sum(cost.time_ms for cost in own_costs(report).values())
    assert own > 0
    assert own + spent.outside_ms == pytest.approx(spent.total_ms, rel=0.02)
    ops = sum(op.time_ms for op in spent.ops)
    assert 0 < ops < spent.total_ms
    assert ops + spent.between_ops_ms == pytest.approx(spent.total_ms, rel=0.02)
    assert all(op.calls >= 1 for op in spent.ops)
    root = report.modules[""].calls
    assert all(call.time_ms >= call.backward_time_ms >= 0 for call in root)
    if report.scenario.is_training:
        assert sum(call.backward_time_ms for call in root) > 0
        assert min(spent.forward_ms, spent.backward_ms, spent.optimizer_ms) > 0
    else:
        assert spent.backward_ms == spent.optimizer_ms == spent.loss_ms == 0


@pytest.mark.timed
def test_a_slow_layer_is_found_and_so_is_its_operator():
    model = nn.Sequential(nn.Linear(4, 1024), nn.Linear(1024, 4096), nn.Linear(4096, 4))
    report = tg.measure(model, (512, 4), scenario=TRAINING, **ONCE)
    assert top_by_time(report, 1)[0][0] == "1"
    slow = report.modules["1"].calls[0]
    assert slow.time_ms > report.modules["0"].calls[0].time_ms
    assert 0 < slow.backward_time_ms < slow.time_ms
    assert {op.name for op in report.time.ops[:4]} >= {"aten.addmm", "aten.mm"}
    assert {op.phase for op in report.time.ops} >= {"forward", "backward", "optimizer"}


def test_what_a_checkpointed_block_computes_again_is_time_of_the_backward():
    report = tg.measure(encoder(), (2, 8, 32), scenario=SCENARIOS["everything"], **ONCE)
    again = [call for call in report.modules["layers.0"].calls if call.recompute]
    assert len(again) == 2
    assert all(call.time_ms == call.backward_time_ms > 0 for call in again)


def test_the_report_counts_what_analyze_counts():
    model = convnet()
    real = tg.measure(model, (2, 3, 16, 16), scenario=TRAINING, **ONCE)
    simulated = tg.analyze(model, (2, 3, 16, 16), scenario=TRAINING)
    assert real.totals == simulated.totals
    assert list(real.modules) == list(simulated.modules)
    assert real.inputs[0].batch_dims == ((0, 1),)
    assert real.memory.peak_allocated_bytes == simulated.memory.peak_allocated_bytes


def test_memory_is_told_phase_by_phase():
    report = tg.measure(convnet(), (2, 3, 16, 16), scenario=TRAINING, **ONCE)
    phases = {item.phase: item for item in report.phase_memory}
    assert list(phases) == ["forward", "loss", "backward", "optimizer"]
    peak = max(item.allocated_bytes for item in phases.values())
    assert peak == report.memory.peak_allocated_bytes
    assert all(item.reserved_bytes is None for item in phases.values())  # no cache on the CPU
    if sys.platform == "linux":
        assert all(item.resident_bytes > peak for item in phases.values())


def test_the_repetitions_and_their_spread_are_told():
    report = tg.measure(nn.Linear(8, 8), (4, 8), max_seconds=0.2)
    measured = report.time.measured
    assert measured.repetitions >= 6
    assert measured.confidence == 0.95
    assert measured.device.startswith("cpu, ")
    assert list(measured.intervals) == ["total", "forward"]
    spread = measured.intervals["total"]
    assert spread.fastest_ms <= spread.low_ms <= report.time.total_ms
    assert report.time.total_ms <= spread.high_ms <= spread.slowest_ms


def test_too_few_repetitions_are_not_called_sure():
    report = tg.measure(nn.Linear(8, 8), (4, 8), **ONCE)
    assert report.time.measured.repetitions == 1
    assert report.time.measured.confidence == 0.0


def test_a_wrapped_model_is_measured_as_it_was_written():
    model = nn.DataParallel(nn.Linear(4, 4))
    report = tg.measure(model, (2, 4), **ONCE)
    assert report.modules[""].type == "Linear"
    assert "measured as written: neither compiled nor wrapped" in report.assumptions


def test_a_model_without_weights_gets_a_constant_and_says_so():
    with tg.meta_construction():
        model = nn.Linear(4, 4)
    report = tg.measure(model, (2, 4), **ONCE)
    assert any("the real run used 0.01" in text for text in report.assumptions)
    assert model.weight.is_meta


def test_a_module_with_two_names_and_two_calls_keeps_its_time_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.second = nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    report = tg.measure(Tied(), (64, 64), scenario=TRAINING, **ONCE)
    own = sum(cost.time_ms for cost in own_costs(report).values())
    assert len(report.modules["first"].calls) == 2
    assert own + report.time.outside_ms == pytest.approx(report.time.total_ms, rel=0.02)


# ---------------------------------------------------------------------------- statistics


def test_ranks_are_those_of_the_published_tables():
    # Conover, Practical Nonparametric Statistics, table A3 (p = 0.5), two-sided 95 %.
    assert [interval_ranks(count, 0.95)[:2] for count in (6, 10, 20, 30)] == [
        (0, 5), (1, 8), (5, 14), (9, 20),
    ]  # fmt: skip
    assert enough_for(0.95) == 6
    assert enough_for(0.99) == 8


def test_an_interval_holds_the_median_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(1000):
        samples = torch.empty(25).exponential_(generator=generator).tolist()
        spread = interval_of(samples, 0.95)
        held += spread.low_ms <= 0.6931 <= spread.high_ms
    assert held >= 930


def test_repeating_ends_when_the_interval_is_narrow():
    assert not is_settled([1.0] * 5, 0.95, 0.01)
    assert is_settled([1.0] * 6, 0.95, 0.01)
    assert not is_settled([1.0, 1.1] * 10, 0.95, 0.01)


# ---------------------------------------------------------------------------- nothing is left


@pytest.mark.parametrize("kind", SCENARIOS)
def test_the_model_and_the_random_state_are_as_they_were(kind):
    model = Moody()
    before = fingerprint(model)
    tg.measure(model, (2, 3, 8, 8), scenario=SCENARIOS[kind], **ONCE)
    assert same(before, fingerprint(model))


@pytest.mark.parametrize("raises", [ValueError, KeyboardInterrupt])
def test_also_when_it_raises(raises):
    model = Moody(raises=raises)
    before = fingerprint(model)
    with pytest.raises(ModelError if raises is ValueError else KeyboardInterrupt):
        tg.measure(model, (2, 3, 8, 8), scenario=TRAINING)
    assert same(before, fingerprint(model))


@pytest.mark.parametrize("moment", ["recording", "warming up", "repetition 2", "profiling"])
def test_ctrl_c_at_any_moment_leaves_everything_as_it_was(moment):
    def interrupt(text: str) -> None:
        if text.startswith(moment):
            raise KeyboardInterrupt

    model = Moody()
    before = fingerprint(model)
    with pytest.raises(KeyboardInterrupt):
        tg.measure(model, (2, 3, 8, 8), scenario=TRAINING, on_progress=interrupt, **TWICE)
    assert same(before, fingerprint(model))
    assert tg.measure(model, (2, 3, 8, 8), **ONCE).time is not None


def test_no_tensor_stays_alive():
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())

    model = convnet()
    tg.measure(model, (2, 3, 16, 16), scenario=TRAINING, **ONCE)
    before = tensors()
    tg.measure(model, (2, 3, 16, 16), scenario=TRAINING, **ONCE)
    assert tensors() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_measurements_do_not_grow_the_process():
    """After 10 calls everything is loaded and the allocator has its arenas.

    A copy of this model with gradients and states is 16 MiB, so one that stayed per call would be
    320 MiB; 16 MiB over 20 calls is what malloc's fragmentation may take.
    """
    model = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU())
    sizes = []
    for number in range(30):
        tg.measure(model, (8, 1024), scenario=TRAINING, **ONCE)
        if number in (9, 29):
            gc.collect()
            sizes.append(resident_bytes())
    assert sizes[1] - sizes[0] < 16 * 2**20


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_the_step_takes_what_a_bare_loop_takes(training):
    """Both are timed by turns on the same machine at the same moment, until they agree."""

    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(256, 256), nn.ReLU())]
    model = nn.Sequential(*layers).train(training)
    x = torch.rand(64, 256)
    plan = plan_inputs(model, Inputs(data=x))
    scenario = tg.Scenario(mode="training", optimizer="sgd") if training else tg.Scenario()
    step = RealStep(RunPlan(model=model, plan=plan, scenario=scenario, model_name="m"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    clock = HostClock()

    def bare() -> float:
        begin = time.perf_counter()
        if training:
            model(x).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        else:
            with torch.no_grad():
                model(x)
        return 1000 * (time.perf_counter() - begin)

    def measured() -> float:
        clock.start()
        step.run(clock.note)
        return clock.stop()[0]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(5):
            pairs = [(bare(), measured()) for _ in range(400)][20:]
            ratio = median(second for _, second in pairs) / median(first for first, _ in pairs)
            if abs(ratio - 1) < 0.03:
                return
    finally:
        torch.set_num_threads(threads)
    pytest.fail(f"the measured step takes {ratio:.3f} of the bare loop's time")


@pytest.mark.slow
@pytest.mark.timed
def test_a_report_says_what_a_bare_loop_takes():
    """The whole of ``measure``, by turns with a bare loop, until they agree."""
    model = nn.Sequential(*[nn.Linear(256, 256) for _ in range(8)])
    x = torch.rand(64, 256)
    optimizer = torch.optim.AdamW(model.parameters())

    def bare() -> float:
        begin = time.perf_counter()
        model(x).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return 1000 * (time.perf_counter() - begin)

    def measured() -> float:
        report = tg.measure(
            model, input_data=x, scenario=TRAINING, min_repetitions=60, max_seconds=0.0
        )
        return report.time.total_ms

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios = []
        for _ in range(40):
            # The machine's other work comes and goes: each call is compared with its neighbours.
            before = median(bare() for _ in range(60))
            real = measured()
            after = median(bare() for _ in range(60))
            ratios.append(2 * real / (before + after))
            if len(ratios) >= 7 and abs(median(ratios) - 1) < 0.03:
                return
    finally:
        torch.set_num_threads(threads)
    pytest.fail(f"measure says {median(ratios):.3f} of the bare loop's time")


# ---------------------------------------------------------------------------- out of memory


HUNGRY = """
import torch
from torch import nn


class Hungry(nn.Module):
    def __init__(self):
        super().__init__()
        self.small = nn.Linear(1000, 1000)
        self.large = nn.Linear(1000, 2_000_000, bias=False)

    def forward(self, x):
        return self.large(self.small(x))


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.small = nn.Linear(8, 8)
        self.grow = Grow()

    def forward(self, x):
        return self.grow(self.small(x))


class Grow(nn.Module):
    def forward(self, x):
        return x.repeat(1, 50_000_000)
"""

LIMITED = """
import io, resource, sys
import torch
import torchgauge as tg
from hungry import Wide
from torchgauge.errors import ModelError

model = Wide()
tg.measure(model.small, (2, 8), max_seconds=0)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 600 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    tg.measure(model, (2, 8))
except ModelError as error:
    failure = error.report.failure
    print(failure.path, failure.requested_bytes, failure.free_bytes < 700 * 2**20)
    print(error.report.execution, error.report.time, len(error.report.modules["small"].calls))
    print(error.exit_status, str(error).splitlines()[-1])
    shown = io.StringIO()
    tg.show(error.report, file=shown)
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    print(next(line for line in lines if line.startswith("memory:")))
print(tg.measure(model.small, (2, 8), max_seconds=0).time.total_ms > 0)
print(model.small(torch.rand(1, 8)).shape)
"""


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "hungry.py").write_text(HUNGRY, encoding="utf-8")
    (folder / "limited.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "limited.py"], cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_too_little_memory_is_a_result_and_the_process_lives_on(tmp_path):
    done = run_python(LIMITED, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "grow 3200000000 True"
    assert lines[1] == "real None 1"
    assert lines[2].startswith("3   try: the device is out of memory; use a smaller")
    assert lines[3].startswith("memory: 2.98 GiB asked for, ")
    assert lines[3].endswith(" free")
    assert lines[4:] == ["True", "torch.Size([1, 8])"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_the_command_line_exits_with_3_and_shows_how_far_it_came(tmp_path):
    code = """
        import resource, sys
        import torch
        from torchgauge.cli.main import main
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + 1500 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.exit(main(["measure", "hungry.py:Wide", "--input-size", "2,8"]))
    """
    done = run_python(code, tmp_path)
    assert done.returncode == 3, done.stderr
    assert "Failed at grow (Grow), in forward" in done.stdout
    assert "memory: 2.98 GiB asked for" in done.stdout
    assert "small" in done.stdout
    assert "grow (Grow) failed in forward: RuntimeError" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_copy_that_does_not_fit_is_a_result_too(tmp_path):
    code = """
        import resource
        import torch
        from torch import nn
        import torchgauge as tg
        from torchgauge.errors import ModelError
        model = nn.Linear(10_000, 10_000)
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + 250 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            tg.measure(model, (1, 10_000))
        except ModelError as error:
            print(str(error).splitlines()[0])
            print(error.report.totals.params, error.report.failure.requested_bytes)
    """
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("out of memory while copying the model: 381.47 MiB asked for, ")
    assert second == "100010000 400000000"


BACKWARD = """
import resource
import torch
from torch import nn
import torchgauge as tg
from torchgauge.errors import ModelError


class Growing(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 1

    @staticmethod
    def backward(context, gradient):
        return gradient.repeat(1, 50_000_000)[:, :8]


class Layer(nn.Module):
    def forward(self, x):
        return Growing.apply(x)


model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), Layer(), nn.Linear(8, 8))
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 900 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    tg.measure(model, (2, 8), scenario=tg.Scenario(mode="training"))
except ModelError as error:
    failure = error.report.failure
    print(failure.path, failure.module_type, failure.phase, failure.requested_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_the_layer_is_named_in_the_backward_too(tmp_path):
    done = run_python(BACKWARD, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 Layer backward 3200000000\n"


# ---------------------------------------------------------------------------- reports


def shown_as(name, report, columns=None, **options):
    from torchgauge.render import get_format
    from torchgauge.render.pages.report import report_page

    return get_format(name, **options).render(report_page(report, columns=columns))


def test_a_measured_report_is_saved_and_loaded(tmp_path):
    report = tg.measure(Tokens(), (2, 8), scenario=TRAINING, **ONCE)
    text = to_json(report)
    assert report_from_json(text) == report
    again = report_from_json(text.replace('"kernel"', '"unknown": 1, "kernel"'))
    assert again.time.ops == report.time.ops


@pytest.mark.parametrize("name", ["text", "markdown", "csv", "latex", "html"])
def test_every_format_shows_the_times(name):
    report = tg.measure(convnet(), (2, 3, 16, 16), scenario=TRAINING, **ONCE)
    shown = shown_as(name, report)
    assert "a step, measured on cpu" in " ".join(shown.split())
    assert "median of 1" in shown
    assert "time_ms" in shown if name == "csv" else "Time" in shown
    assert "Slowest operators" in shown
    assert max(map(len, shown_as("text", report, width=80).splitlines())) <= 80


def test_a_report_without_times_has_no_line_about_them():
    shown = shown_as("text", tg.analyze(nn.Linear(8, 2), (4, 8)))
    assert "a step" not in shown
    assert "Slowest" not in shown


def test_time_columns_of_a_report_without_times_are_empty():
    report = tg.analyze(nn.Sequential(nn.Linear(8, 2)), (4, 8))
    shown = shown_as("text", report, columns=("time", "backward_time", "time_percent"))
    row = next(line for line in shown.splitlines() if line.startswith(" 0 "))
    assert row.split() == ["0", "–", "–", "–"]
    measured = tg.measure(nn.Sequential(nn.Linear(8, 2)), (4, 8), scenario=TRAINING, **ONCE)
    unmeasured = replace(measured, time=None)
    assert "a step" not in shown_as("text", unmeasured)


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_repetitions": 0}, "min_repetitions=0 measures nothing"),
        ({"max_seconds": -1.0}, "max_seconds=-1.0 is not a length of time"),
        ({"max_seconds": float("nan")}, "max_seconds=nan is not a length of time"),
        ({"confidence": 1.0}, "confidence=1.0 is not a probability"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        tg.measure(nn.Linear(2, 2), (1, 2), **options)
    assert caught.value.hint


def test_without_an_input_there_is_nothing_to_measure():
    with pytest.raises(InputError, match="nothing can be measured without an input") as caught:
        tg.measure(nn.Linear(2, 2))
    assert caught.value.hint.startswith("add a size: input_size=(3, 224, 224)")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said():
    with pytest.raises(ScenarioError, match="there is no CUDA device here to measure on") as caught:
        tg.measure(nn.Linear(2, 2), (1, 2), scenario=tg.Scenario(device="cuda"))
    assert caught.value.hint == "leave the device out to measure on the CPU"


def test_the_gpu_at_hand_cannot_be_simulated_where_there_is_none(monkeypatch):
    monkeypatch.setattr("torchgauge.target.local_gpus", lambda: ())
    with pytest.raises(ScenarioError, match="there is no GPU here") as caught:
        tg.analyze(nn.Linear(2, 2), (1, 2), scenario=tg.Scenario(device="cuda"))
    assert "RTX 3060 12GB" in caught.value.hint


def test_a_failing_layer_is_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 2))
    with pytest.raises(ModelError, match=r"1 \(Linear\) failed in forward") as caught:
        tg.measure(model, (2, 4))
    assert caught.value.report.modules["0"].calls


# ---------------------------------------------------------------------------- command line


NET = "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Linear(8, 4), nn.ReLU())\n"


def measure(*arguments: str) -> int:
    return main(["measure", *arguments, "--repetitions", "2", "--max-seconds", "0"])


def test_the_command_prints_times(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny_step.py").write_text(NET, encoding="utf-8")
    assert measure("tiny_step.py:net", "--input-size", "8", "--mode", "training") == 0
    shown = capsys.readouterr()
    assert "a step, measured on cpu" in shown.out and "median of 2 ·" in shown.out
    assert "· training · sgd ·" in shown.out
    assert "meta device" not in shown.out  # the model was built with its own weights
    assert "USDT" not in shown.err


def test_its_json_is_a_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny_step.py").write_text(NET, encoding="utf-8")
    assert measure("tiny_step.py:net", "--input-size", "3,8", "--format", "json") == 0
    report = report_from_json(capsys.readouterr().out)
    assert report.time.measured.repetitions == 2
    assert report.modules["0"].calls[0].time_ms > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("tiny_step.py:net",),
            "nothing can be measured without an input\n  try: add a size",
        ),
        (("tiny_step.py:net", "--repetitions", "0"), "'0' is not a whole number of 1 or more"),
        (("tiny_step.py:net", "--max-seconds", "soon"), "'soon' is not a number of seconds"),
        (
            ("tiny_step.py:net", "--input-size", "3,4", "--device", "tpu"),
            "a real run uses this machine, not tpu",
        ),
        (
            ("tiny_step.py:net", "--mode", "training", "--accumulation", "0"),
            "'0' is not a whole number",
        ),
    ],
)
def test_bad_usage_is_said(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny_step.py").write_text(NET, encoding="utf-8")
    assert main(["measure", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_ends_the_command(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HostClock, "note", interrupted)
    Path("tiny_step.py").write_text(NET, encoding="utf-8")
    assert measure("tiny_step.py:net", "--input-size", "8") == 130
    assert capsys.readouterr().err.endswith("torchgauge: interrupted\n")


def test_weights_alone_cannot_be_measured(tmp_path, capsys):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    assert main(["measure", str(tmp_path / "weights.pt"), "--input-size", "2"]) == 2
    assert "holds weights and no forward, so there is nothing to run" in capsys.readouterr().err


# ---------------------------------------------------------------------------- the whole scenario


def small_convolution():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("allocator", "expandable_segments:True", "PYTORCH_CUDA_ALLOC_CONF"),
        ("torch_release", "2.6", "install that release"),
        ("first_step", True, "analyze"),
    ],
)
def test_what_a_real_run_cannot_follow_is_refused(field, value, hint):
    scenario = tg.Scenario(mode="training", **{field: value})
    with pytest.raises(ScenarioError, match=f"{field} has no meaning in a real run") as caught:
        tg.measure(nn.Linear(4, 2), (3, 4), scenario=scenario)
    assert hint in caught.value.hint


def test_a_setting_of_cudnn_is_refused_on_the_cpu():
    with pytest.raises(ScenarioError, match="cudnn_benchmark=True has no meaning on the CPU"):
        tg.measure(nn.Linear(4, 2), (3, 4), scenario=tg.Scenario(cudnn_benchmark=True))


def test_a_gpu_that_is_elsewhere_is_not_measured():
    with pytest.raises(ScenarioError, match="a real run uses this machine, not T4"):
        tg.measure(nn.Linear(4, 2), (3, 4), scenario=tg.Scenario(device="T4"))


@pytest.mark.parametrize(
    ("options", "operator", "calls"),
    [
        ({"gradient_clipping": True}, "aten.linalg_vector_norm", 5),  # one a tensor, one of all
        ({"ema": True}, "aten.lerp_", 4),
        ({"optimizer_implementation": "foreach"}, "aten._foreach_add_", 1),
        ({"optimizer_options": {"weight_decay": 0.1}}, "aten.add", 4),
        ({"zero_grad": "set-to-zero"}, "aten.zero_", 4),
        ({"precision": "bf16-autocast"}, "aten._to_copy", 5),
    ],
)
def test_an_option_changes_what_is_run(options, operator, calls):
    def count(scenario):
        report = tg.measure(small_convolution(), (2, 3, 8, 8), scenario=scenario, max_seconds=0)
        return sum(op.calls for op in report.time.ops if op.name == operator)

    plain = count(tg.Scenario(mode="training"))
    assert count(tg.Scenario(mode="training", **options)) >= plain + calls


def test_channels_last_reaches_weights_and_inputs():
    scenario = tg.Scenario(channels_last=True)
    size = (2, 3, 8, 8)
    plan = plan_inputs(small_convolution(), Inputs(size=size))  # fmt: skip
    model = small_convolution()
    step = RealStep(RunPlan(model=model, plan=plan, scenario=scenario, model_name="m"))
    seen = []
    step._root[0].register_forward_pre_hook(lambda module, args: seen.append((module, args[0])))
    step.run(lambda phase: None)
    module, images = seen[0]
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert model[0].weight.is_contiguous()


@pytest.mark.parametrize("when", ["before-forward", "before-backward", "set-to-zero"])
def test_gradients_do_not_add_up_over_the_steps(when):
    scenario = tg.Scenario(mode="training", zero_grad=when, optimizer_options={"lr": 0.0})
    plan = plan_inputs(nn.Linear(4, 2), Inputs(size=(3, 4)))  # fmt: skip
    request = RunPlan(model=nn.Linear(4, 2), plan=plan, scenario=scenario, model_name="m")
    step = RealStep(request)
    gradients = []
    step._root.weight.register_post_accumulate_grad_hook(
        lambda parameter: gradients.append(parameter.grad.clone())
    )
    for _ in range(3):
        step.run(lambda phase: None)
    assert torch.equal(gradients[0], gradients[2])
    assert (step._root.weight.grad is None) == (when == "before-forward")
