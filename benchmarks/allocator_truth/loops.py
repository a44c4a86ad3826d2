"""Programs that a training loop of convolutions is for an allocator, with cuDNN's benchmark on.

The layers are drawn, the step is written down as autograd runs it, and what becomes of it is the
product's own doing: which convolutions empty the cache, and how steps follow. What a plan of cuDNN
takes is two copies of its operands in the backward, whatever the product expects by now: what was
recorded stays comparable.
"""

from __future__ import annotations

import random

from torchgauge.estimate.memory.allocator import EMPTY_CACHE
from torchgauge.estimate.memory.loop import Loop, repeat
from torchgauge.estimate.memory.workspaces import Platform, Workspaces
from torchgauge.estimate.memory.workspaces.cuda.benchmark import cache_clearings
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import (
    Execution,
    OpRecord,
    Phase,
    Role,
    StorageEvent,
    StorageRecord,
    TensorSpec,
    Trace,
)

Step = tuple[str, int, int, int]


class _Writer:
    """A step being written down."""

    def __init__(self) -> None:
        self.ops: list[OpRecord] = []
        self.storages: list[StorageRecord] = []
        self.events: list[StorageEvent] = []

    def storage(self, spec: TensorSpec, role: Role, op: int) -> int:
        index = len(self.storages)
        record = StorageRecord(index=index, nbytes=spec.nbytes, role=role, label="", op=op, call=-1)
        self.storages.append(record)
        self.events.append(StorageEvent(storage=index, is_free=False, op=op))
        return index

    def free(self, storage: int) -> None:
        self.events.append(StorageEvent(storage=storage, is_free=True, op=len(self.ops)))

    def op(
        self, name: str, args: tuple[object, ...], outputs: list[TensorSpec], phase: Phase
    ) -> int:
        index = len(self.ops)
        self.ops.append(
            OpRecord(index=index, name=name, args=args, kwargs=(), outputs=tuple(outputs),
                     call=-1, phase=phase)  # type: ignore[arg-type]
        )  # fmt: skip
        return index


def _images(batch: int, channels: int, side: int) -> TensorSpec:
    shape = (batch, channels, side, side)
    return TensorSpec(
        shape=shape, dtype="float32", device="cuda", nbytes=4 * batch * channels * side * side
    )


def convolutions(seed: int) -> Trace:
    """Return a training step of drawn convolutions, some of them alike, some depthwise."""
    draw = random.Random(seed)
    writer = _Writer()
    images = _images(4 + int(draw.random() * 12), 3, 32 * (2 + int(draw.random() * 4)))
    layers: list[tuple[TensorSpec, TensorSpec, TensorSpec, int, int]] = []
    weights: list[int] = []
    side, channels, batch = images.shape[2], 3, images.shape[0]
    for index in range(6 + int(draw.random() * 8)):
        stride = 2 if side > 8 and draw.random() < 0.3 else 1
        depthwise = index > 0 and draw.random() < 0.2
        wide = (
            channels
            if depthwise or (index and draw.random() < 0.4)
            else 16 << int(draw.random() * 4)
        )
        groups = channels if depthwise else 1
        size = 4 * wide * (channels // groups) * 9
        weight = TensorSpec(
            shape=(wide, channels // groups, 3, 3), dtype="float32", device="cuda", nbytes=size
        )
        source = _images(batch, channels, side)
        side, channels = side // stride, wide
        layers.append((source, weight, _images(batch, channels, side), stride, groups))
        weights.append(writer.storage(weight, Role.PARAMETER, -1))
    kept = [writer.storage(images, Role.INPUT, -1)]
    for source, weight, output, stride, groups in layers:
        settings = ((stride, stride), (1, 1), (1, 1), False, (0, 0), groups)
        op = writer.op(
            "aten.convolution.default", (source, weight, None, *settings), [output], Phase.FORWARD
        )
        kept.append(writer.storage(output, Role.SAVED_ACTIVATION, op))
    ends = [(Phase.FORWARD, len(writer.events)), (Phase.LOSS, len(writer.events))]
    gradient = None
    for index, (source, weight, output, stride, groups) in reversed(list(enumerate(layers))):
        settings = (None, (stride, stride), (1, 1), (1, 1), False, (0, 0), groups)
        op = writer.op(
            "aten.convolution_backward.default",
            (output, source, weight, *settings, (index > 0, True, False)),
            [source, weight] if index else [weight],
            Phase.BACKWARD,
        )
        made = writer.storage(source, Role.TEMPORARY, op) if index else None
        writer.storage(weight, Role.GRADIENT, op)
        if gradient is not None:
            writer.free(gradient)
        if index:
            writer.free(kept[index])
        gradient = made
    ends.append((Phase.BACKWARD, len(writer.events)))
    return Trace(
        torch_version="2.13", execution=Execution.SIMULATED, model_name="convolutions",
        scenario=Scenario(mode="training", cudnn_benchmark=True, device="A100 SXM4 40GB"),
        modules=(), ops=tuple(writer.ops), storages=tuple(writer.storages),
        events=tuple(writer.events), phase_ends=tuple(ends),
    )  # fmt: skip


def loop(seed: int, *, benchmark: bool = True) -> Loop:
    """Return three steps of the drawn convolutions on a GPU with tensor cores."""
    platform = Platform(type="cuda", compute_capability=(8, 0), cudnn_benchmark=benchmark)
    plans = Workspaces(rules={"aten.convolution_backward.default": _two_copies}, platform=platform)
    trace = convolutions(seed)
    return repeat(trace, 3, plans, clearing=cache_clearings(trace, platform))


def _two_copies(op: OpRecord, _: Platform) -> tuple[int, ...]:
    grad, source = op.args[:2]
    assert isinstance(grad, TensorSpec) and isinstance(source, TensorSpec)
    is_depthwise = op.args[9] == source.shape[1]
    return () if is_depthwise else (2 * (source.nbytes + grad.nbytes),)


def program(seed: int) -> list[Step]:
    """Return the steps of :func:`loop` as ``programs.py`` writes them."""
    return program_of(loop(seed))


def program_of(made: Loop) -> list[Step]:
    """Return the steps of a loop as ``programs.py`` writes them."""
    names: dict[int, int] = {}
    steps: list[Step] = []
    for is_free, key, nbytes in made.events:
        if key == EMPTY_CACHE:
            steps.append(("e", 0, 0, 0))
        elif is_free:
            steps.append(("f", names[key], 0, 0))
        else:
            names[key] = len(names)
            steps.append(("a", names[key], nbytes, 0))
    return steps
