"""Reports made by hand for the tests of renderers and files; no model runs and no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from torchgauge.facts.memory import MemoryEstimate, PhaseMemory, TimelinePoint
from torchgauge.facts.report import CallCost, ModuleReport, ModuleTable, Report, Totals
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.time import Interval, Measurement, OpTime, StepTime, TimePrediction
from torchgauge.facts.trace import (
    Execution,
    Failure,
    NamedValue,
    NotCounted,
    ParameterInfo,
    Phase,
    Role,
    TensorSpec,
)

SIZES = {"float32": 4, "int64": 8, "bfloat16": 2}


def value(
    name: str,
    shape: Sequence[int],
    dtype: str = "float32",
    batch: Sequence[tuple[int, int]] = ((0, 1),),
) -> NamedValue:
    nbytes = prod(shape) * SIZES[dtype]
    spec = TensorSpec(shape=tuple(shape), dtype=dtype, device="cpu", nbytes=nbytes)
    return NamedValue(name=name, tensor=spec, batch_dims=tuple(batch))


def parameter(name: str, *shape: int, **changes: object) -> ParameterInfo:
    made = ParameterInfo(
        name=name,
        shape=shape,
        dtype="float32",
        numel=prod(shape),
        stored_bytes=4 * prod(shape),
        trainable=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def call(
    inputs: Sequence[NamedValue],
    outputs: Sequence[NamedValue],
    *,
    parent: str | None = "",
    macs: int = 0,
    **changes: object,
) -> CallCost:
    made = CallCost(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        forward_macs=macs,
        backward_flops=0,
        elementwise_flops=0,
        output_bytes=sum(v.tensor.nbytes for v in outputs if v.tensor),
        saved_activation_bytes=0,
        peak_allocated_bytes=0,
        parent=parent,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass
class Builder:
    """Collects modules and sums them up, as the estimators do."""

    name: str
    modules: list[ModuleReport] = field(default_factory=list)

    def module(
        self,
        path: str,
        type_name: str,
        *,
        parameters: Sequence[ParameterInfo] = (),
        calls: Sequence[CallCost] = (),
        shared_with: str | None = None,
        has_forward: bool = True,
    ) -> Builder:
        self.modules.append(
            ModuleReport(
                path=path,
                type=type_name,
                depth=path.count(".") + 1 if path else 0,
                params=0,
                trainable_params=0,
                param_bytes=0,
                own_params=sum(
                    p.numel for p in parameters if not p.shared_with and not p.is_buffer
                ),
                own_parameters=tuple(parameters),
                shared_with=shared_with,
                has_forward=has_forward,
                calls=tuple(calls),
            )
        )
        return self

    def report(
        self,
        inputs: Sequence[NamedValue] = (),
        outputs: Sequence[NamedValue] = (),
        *,
        memory: Callable[[Totals], MemoryEstimate] | None = None,
        **changes: object,
    ) -> Report:
        modules = tuple(self._with_sums(module) for module in self.modules)
        totals = self._totals(modules)
        made = Report(
            tool_version="0.1.0",
            torch_version="2.13.0",
            execution=Execution.SIMULATED,
            model_name=self.name,
            model_spec=None,
            scenario=Scenario(),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            totals=totals,
            memory=memory(totals) if memory else None,
            modules=ModuleTable(modules),
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def _with_sums(self, module: ModuleReport) -> ModuleReport:
        home = module.shared_with if module.shared_with is not None else module.path
        below = [
            item
            for other in self.modules
            if not home or other.path == home or other.path.startswith(f"{home}.")
            for item in other.own_parameters
        ]
        tree = list({item.shared_with or item.name: item for item in below}.values())
        params = [item for item in tree if not item.is_buffer]
        buffers = [item for item in tree if item.is_buffer]
        return replace(
            module,
            params=sum(item.numel for item in params),
            trainable_params=sum(item.numel for item in params if item.trainable),
            param_bytes=sum(item.stored_bytes for item in params),
            buffers=sum(item.numel for item in buffers),
            buffer_bytes=sum(item.stored_bytes for item in buffers),
        )

    def _totals(self, modules: Sequence[ModuleReport]) -> Totals:
        root = modules[0]
        calls = [c for c in root.calls if not c.recompute]
        macs = sum(c.forward_macs for c in calls)
        return Totals(
            params=root.params,
            trainable_params=root.trainable_params,
            non_trainable_params=root.params - root.trainable_params,
            param_bytes=root.param_bytes,
            buffers=root.buffers,
            buffer_bytes=root.buffer_bytes,
            forward_macs=macs,
            forward_flops=2 * macs,
            backward_flops=sum(c.backward_flops for c in root.calls),
            optimizer_flops=0,
            elementwise_flops=sum(c.elementwise_flops for c in calls),
        )


def estimate(
    input_bytes: int, peak: int, *, module: str, phase: Phase = Phase.FORWARD, **changes: object
) -> Callable[[Totals], MemoryEstimate]:
    """Return what makes the memory of a model from its totals."""

    def make(totals: Totals) -> MemoryEstimate:
        rest = peak - totals.param_bytes - input_bytes
        made = MemoryEstimate(
            input_bytes=input_bytes,
            parameter_bytes=totals.param_bytes,
            buffer_bytes=totals.buffer_bytes,
            gradient_bytes=0,
            optimizer_bytes=0,
            saved_activation_bytes=0,
            output_bytes=0,
            peak_allocated_bytes=peak,
            peak_phase=phase,
            peak_module=module,
            peak_op="aten.relu.default",
            at_peak={
                Role.PARAMETER: totals.param_bytes,
                Role.INPUT: input_bytes,
                Role.TEMPORARY: rest,
            },
            timeline=(
                TimelinePoint(op=-1, phase=Phase.FORWARD, live_bytes=peak - rest),
                TimelinePoint(op=1, phase=phase, live_bytes=peak),
            ),
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    return make


# ---------------------------------------------------------------------------- models


_CNN = (
    ("features.0", "Conv2d", (3, 224, 224), (64, 224, 224), 86_704_128),
    ("features.1", "ReLU", (64, 224, 224), (64, 224, 224), 0),
    ("features.2", "MaxPool2d", (64, 224, 224), (64, 112, 112), 0),
    ("features.3", "Conv2d", (64, 112, 112), (128, 112, 112), 924_844_032),
    ("features.4", "ReLU", (128, 112, 112), (128, 112, 112), 0),
    ("features.5", "MaxPool2d", (128, 112, 112), (128, 56, 56), 0),
)


def simple_cnn(batch: int = 1) -> Report:
    """The model of the design's illustration, with its figures."""
    x, features = value("x", (batch, 3, 224, 224)), value("0", (batch, 128, 56, 56))
    logits = value("0", (batch, 1000))
    conv, linear = 1_011_548_160 * batch, 401_408_000 * batch
    built = Builder("SimpleCNN")
    built.module("", "SimpleCNN", calls=[call([x], [logits], parent=None, macs=conv + linear)])
    built.module("features", "Sequential", calls=[call([x], [features], macs=conv)])
    for path, kind, before, after, macs in _CNN:
        weights = (
            [
                parameter(f"{path}.weight", after[0], before[0], 3, 3),
                parameter(f"{path}.bias", after[0]),
            ]
            if kind == "Conv2d"
            else []
        )
        done = call(
            [value("input", (batch, *before))],
            [value("0", (batch, *after))],
            parent="features",
            macs=macs * batch,
        )
        built.module(path, kind, parameters=weights, calls=[done])
    built.module(
        "classifier",
        "Linear",
        parameters=[
            parameter("classifier.weight", 1000, 401_408),
            parameter("classifier.bias", 1000),
        ],
        calls=[call([value("input", (batch, 401_408))], [logits], macs=linear)],
    )
    nbytes = 602_112 * batch
    peak = 1_605_938_592 + nbytes + 2 * 12_845_056 * batch
    return built.report(
        [x],
        [logits],
        batch_size=batch,
        memory=estimate(nbytes, peak, module="features.1"),
        assumptions=("the size (3, 224, 224) was read without a batch dimension: Conv2d takes 4",),
    )


def transformer(
    blocks: int = 12, *, width: int = 64, training: bool = False, embedding: str = "tokens"
) -> Report:
    """Equal blocks in a ``ModuleList``, functional attention, a bare parameter."""
    batch, length = 2, 16
    ids, hidden = value("input_ids", (batch, length), "int64"), value("0", (batch, length, width))
    logits = value("logits", (batch, length, 100))
    one, attention = 4 * batch * length * width * width, 2 * batch * length * length * width
    head = batch * length * width * 100
    back = 4 if training else 0
    saved = 8192 if training else 0

    def cost(macs: int, parent: str | None, count: int = 1) -> dict[str, object]:
        return {
            "macs": macs,
            "parent": parent,
            "backward_flops": back * macs,
            "saved_activation_bytes": saved * count,
        }

    built = Builder("TinyTransformer")
    whole = blocks * (3 * one // 2 + attention) + head
    built.module(
        "",
        "TinyTransformer",
        parameters=[parameter("positions", length, width)],
        calls=[call([ids], [logits], **cost(whole, None, 4 * blocks + 2))],
    )
    built.module(
        embedding,
        "Embedding",
        parameters=[parameter(f"{embedding}.weight", 100, width)],
        calls=[call([ids], [hidden], **cost(0, ""))],
    )
    built.module("layers", "ModuleList", has_forward=False)
    for index in range(blocks):
        path = f"layers.{index}"
        block = 3 * one // 2 + attention
        built.module(path, "Block", calls=[call([hidden], [hidden], **cost(block, "", 4))])
        built.module(
            f"{path}.norm",
            "LayerNorm",
            parameters=[
                parameter(f"{path}.norm.weight", width),
                parameter(f"{path}.norm.bias", width),
            ],
            calls=[call([hidden], [hidden], **cost(0, path))],
        )
        built.module(
            f"{path}.qkv",
            "Linear",
            parameters=[parameter(f"{path}.qkv.weight", 4 * width, width)],
            calls=[call([hidden], [value("0", (batch, length, 4 * width))], **cost(one, path))],
        )
        built.module(
            f"{path}.out",
            "Linear",
            parameters=[parameter(f"{path}.out.weight", 2 * width, width)],
            calls=[call([hidden], [hidden], **cost(one // 2, path))],
        )
    tied = parameter("head.weight", 100, width, shared_with=f"{embedding}.weight")
    built.module(
        "head",
        "Linear",
        parameters=[tied],
        calls=[call([hidden], [value("0", (batch, length, 100))], **cost(head, ""))],
    )
    changes: dict[str, object] = {}
    if training:
        changes = {
            "gradient_bytes": 1_000_000,
            "optimizer_bytes": 2_000_000,
            "saved_activation_bytes": saved * (4 * blocks + 2),
        }
    memory = estimate(
        256,
        6_000_000,
        module="layers.3.qkv",
        phase=Phase.BACKWARD if training else Phase.FORWARD,
        **changes,
    )
    scenario = Scenario(mode="training", optimizer="adamw") if training else Scenario()
    return built.report([ids], [logits], batch_size=batch, memory=memory, scenario=scenario)


def shared_weights() -> Report:
    """A module registered twice, frozen and lazy ones, one never called, one called ten times."""
    x, y = value("x", (4, 8)), value("0", (4, 8))
    built = Builder("Shared")
    uses = [call([x], [y], parent="encoder", macs=256), call([x], [y], parent="decoder", macs=256)]
    built.module(
        "", "Shared", calls=[call([x], [y], parent=None, macs=256 * 13, elementwise_flops=64)]
    )
    built.module("encoder", "Encoder", calls=[call([x], [y], macs=256)])
    built.module(
        "encoder.embed", "Linear", parameters=[parameter("encoder.embed.weight", 8, 8)], calls=uses
    )
    built.module("decoder", "Decoder", calls=[call([x], [y], macs=512)])
    built.module("decoder.embed", "Linear", shared_with="encoder.embed")
    built.module(
        "decoder.proj",
        "Linear",
        parameters=[
            parameter("decoder.proj.weight", 8, 8, shared_with="encoder.embed.weight"),
            parameter("decoder.proj.bias", 8, trainable=False),
        ],
        calls=[call([x], [y], parent="decoder", macs=256)],
    )
    built.module(
        "cell",
        "GRUCell",
        parameters=[parameter("cell.weight", 8, 8, trainable=False)],
        calls=[call([x], [y, value("1", (4, 8))], macs=256)] * 10,
    )
    built.module(
        "unused",
        "Linear",
        parameters=[parameter("unused.weight", 8, 8), parameter("unused.bias", 8)],
    )
    built.module(
        "lazy",
        "LazyLinear",
        parameters=[parameter("lazy.weight", is_lazy=True, numel=0, stored_bytes=0)],
    )
    built.module(
        "norm",
        "BatchNorm1d",
        parameters=[
            parameter("norm.weight", 8),
            parameter("norm.mean", 8, is_buffer=True, trainable=False),
        ],
        calls=[call([x], [y], elementwise_flops=64)],
    )
    unused = NotCounted(
        op="unused", calls=0, why="Linear was never called; its 72 parameters are counted"
    )
    missing = NotCounted(
        op="mylib.scan.default", calls=3, why="no FLOP formula is known for this operator"
    )
    return built.report(
        [x],
        [y],
        batch_size=4,
        memory=estimate(128, 4096, module=""),
        not_counted=(missing, unused),
        warnings=("the model printed to stdout",),
    )


def failed() -> Report:
    """A CNN whose second convolution gets the wrong number of channels."""
    built = simple_cnn()
    modules = []
    for path, module in built.modules.items():
        if path == "features.3":
            broken = replace(
                module.calls[0], outputs=(), forward_macs=0, output_bytes=0, completed=False
            )
            module = replace(module, calls=(broken,))
        elif path in ("", "features"):
            stopped = replace(module.calls[0], outputs=(), forward_macs=86_704_128, completed=False)
            module = replace(module, calls=(stopped,))
        elif path in ("features.4", "features.5", "classifier"):
            module = replace(module, calls=())
        modules.append(module)
    failure = Failure(
        path="features.3",
        module_type="Conv2d",
        inputs=(value("input", (1, 64, 112, 112)),),
        error_type="RuntimeError",
        phase=Phase.FORWARD,
        error="Given groups=1, weight of size [128, 32, 3, 3], expected input[1, 64, 112, 112] "
        "to have 32\nchannels, but got 64 channels instead",
        hint="make in_channels of features.3 equal to the 64 channels that features.2 returns",
    )
    totals = replace(built.totals, forward_macs=86_704_128, forward_flops=173_408_256)
    return replace(
        built, modules=ModuleTable(tuple(modules)), failure=failure, totals=totals, outputs=()
    )


def structure_only() -> Report:
    """A model of which only the parameters are known."""
    cnn = simple_cnn()
    modules = tuple(replace(module, calls=()) for module in cnn.modules.values())
    totals = replace(cnn.totals, forward_macs=0, forward_flops=0)
    return replace(
        cnn,
        inputs=(),
        outputs=(),
        memory=None,
        batch_size=None,
        assumptions=(),
        totals=totals,
        modules=ModuleTable(modules),
    )


def chinese() -> Report:
    """Module names in Chinese, which take two columns per character."""
    return transformer(3, embedding="词嵌入层")


def single_layer() -> Report:
    """A model that is one layer."""
    x, y = value("input", (1, 8)), value("0", (1, 4))
    built = Builder("Linear")
    built.module(
        "",
        "Linear",
        parameters=[parameter("weight", 4, 8), parameter("bias", 4)],
        calls=[call([x], [y], parent=None, macs=32)],
    )
    return built.report([x], [y], batch_size=1, memory=estimate(32, 192, module=""))


def detector() -> Report:
    """Dictionary outputs, a value that is no tensor, and calls that differ."""
    x = value("images", (2, 3, 32, 32))
    flag = NamedValue(name="training", text="None")
    boxes, scores = (
        value("boxes", (98, 4), batch=((0, 49),)),
        value("scores", (98,), batch=((0, 49),)),
    )
    hidden = [value("hidden", (2, length, 8)) for length in (1, 2, 3)]
    built = Builder("Detector")
    built.module("", "Detector", calls=[call([x, flag], [boxes, scores], parent=None, macs=600)])
    built.module(
        "step",
        "RNN",
        parameters=[parameter("step.weight", 8, 8)],
        calls=[
            call([h], [h, value("state", (2, 8))], macs=100 * i) for i, h in enumerate(hidden, 1)
        ],
    )
    built.module("head", "Head", calls=[call([x], [boxes, scores])])
    return built.report(
        [x, flag], [boxes, scores], batch_size=2, memory=estimate(24_576, 40_000, module="head")
    )


def measured() -> Report:
    """A training step of the transformer with times: 10 ms of which the modules take 8."""
    report = transformer(3, training=True)
    whole = sum(call.forward_macs for call in report.modules[""].calls)

    def timed(module: ModuleReport) -> ModuleReport:
        calls = tuple(
            replace(
                item,
                time_ms=8.0 * item.forward_macs / whole,
                backward_time_ms=5.0 * item.forward_macs / whole,
            )
            for item in module.calls
        )
        return replace(module, calls=calls)

    def spread(median: float) -> Interval:
        return Interval(
            low_ms=0.9 * median, high_ms=1.1 * median, fastest_ms=0.5 * median,
            slowest_ms=2.0 * median,
        )  # fmt: skip

    def op(name: str, kernel: str, phase: Phase, calls: int, time_ms: float) -> OpTime:
        return OpTime(name=name, kernel=kernel, phase=phase, calls=calls, time_ms=time_ms)

    time = StepTime(
        forward_ms=3.0,
        loss_ms=0.02,
        backward_ms=5.0,
        optimizer_ms=2.0,
        total_ms=10.0,
        outside_ms=2.0,
        between_ops_ms=1.0,
        ops=(
            op("aten.mm", "aten.mm", Phase.BACKWARD, 20, 4.0),
            op("aten.convolution", "aten.mkldnn_convolution", Phase.FORWARD, 1, 3.0),
            op("aten.add_", "aten.add_", Phase.OPTIMIZER, 1000, 2.0),
        ),
        measured=Measurement(
            device="cpu, 8 threads",
            repetitions=1234,
            warm_up=3,
            confidence=0.95,
            intervals={
                "total": spread(10.0), "forward": spread(3.0), "loss": spread(0.02),
                "backward": spread(5.0), "optimizer": spread(2.0),
            },
        ),
    )  # fmt: skip
    return replace(
        report,
        execution=Execution.REAL,
        time=time,
        phase_memory=tuple(
            PhaseMemory(
                phase=phase,
                allocated_bytes=number * 2**20,
                reserved_bytes=number * 2**21,
                device_bytes=number * 2**22,
                resident_bytes=None,
            )
            for number, phase in enumerate(Phase, start=1)
        ),
        modules=ModuleTable(tuple(timed(module) for module in report.modules.values())),
    )


def predicted() -> Report:
    """The training step of ``measured``, as it would be predicted for a GPU."""
    report = measured()
    assert report.time is not None
    time = replace(
        report.time,
        between_ops_ms=0.0,
        measured=None,
        predicted=TimePrediction(
            device="RTX 3090",
            error=0.1875,
            bound_by={"compute": 0.25, "memory": 0.625, "launch": 0.125},
            samples_per_second=1234.5,
            flops_share=0.3125,
            most_joules=3.5,
        ),
    )
    return replace(report, execution=Execution.SIMULATED, time=time, phase_memory=())


def out_of_memory() -> Report:
    """The failed model, which failed because there was too little memory."""
    report = failed()
    assert report.failure is not None
    failure = replace(
        report.failure,
        error_type="OutOfMemoryError",
        error="CUDA out of memory",
        requested_bytes=3 * 2**30,
        free_bytes=2**20,
    )
    return replace(report, execution=Execution.REAL, failure=failure)


ALL = {
    "simple_cnn": simple_cnn,
    "transformer": transformer,
    "training": lambda: transformer(training=True),
    "shared": shared_weights,
    "failed": failed,
    "structure": structure_only,
    "chinese": chinese,
    "single": single_layer,
    "detector": detector,
    "measured": measured,
    "predicted": predicted,
    "out_of_memory": out_of_memory,
}
"""Every report by the name of its golden files."""
