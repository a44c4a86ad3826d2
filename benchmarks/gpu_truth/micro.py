"""One kernel family over a grid of shapes: forward, and backward where there is one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.gpu_truth.cases import DRY_MICRO, MICRO, Case
from benchmarks.gpu_truth.gauge import Gauge
from benchmarks.gpu_truth.schema import MicroPoint, Status
from benchmarks.gpu_truth.step import DTYPES, flags
from benchmarks.gpu_truth.watch import Watcher, measures_of, memory_events, timed_ops
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Execution, Phase, Role, Trace

Run = Callable[[], torch.Tensor]
LIMIT_BYTES = 8 * 2**30
"""Points whose largest tensor would be larger are left out."""
REPEATS = 3


def record_points(
    case: Case,
    gauge: Gauge,
    status_of: Callable[[BaseException], Status],
    text_of: Callable[[BaseException], str],
) -> tuple[MicroPoint, ...]:
    """Record every point of the case's grid; one that fails does not stop the others."""
    axes = DRY_MICRO[case.model] if case.id.startswith("dry-") else MICRO[case.model]
    if case.sdpa is not None:
        axes = {**axes, "backend": (case.sdpa,)}
    points = []
    for values in itertools.product(*axes.values()):
        shape = dict(zip(axes, values, strict=True))
        try:
            points.append(_point(case, gauge, shape))
        except Exception as error:
            points.append(
                MicroPoint(shape=shape, status=status_of(error), message=text_of(error)[:200])
            )
        gauge.clean()
    return tuple(points)


def _point(case: Case, gauge: Gauge, shape: dict[str, Any]) -> MicroPoint:
    dtype = DTYPES.get(case.precision, torch.float32)
    made = _Made(gauge.name, dtype)
    with flags(case.precision, shape.get("backend")):
        run = globals()[f"_{case.model}"](made, **shape)
        _step(run, made, lambda _: None)  # warm: libraries choose and load their kernels
        gauge.clean()
        watcher = Watcher(gauge)
        for index, tensor in enumerate(made.tensors):
            watcher.storages.register(tensor, Role.INPUT, str(index))
        ends: list[tuple[Phase, int]] = []

        def start(phase: Phase) -> None:
            ends.append((watcher.phase, len(watcher.storages.events)))
            watcher.phase = phase

        memory: dict[int, tuple[int | None, int | None]] = {}
        with memory_events(gauge, memory), watcher:
            _step(run, made, start)
        ends.append((watcher.phase, len(watcher.storages.events)))
        watcher.storages.stop()
        ops = watcher.op_records()
        times, _ = timed_ops(gauge, lambda: _step(run, made, lambda _: None), ops, REPEATS)
    trace = Trace(
        torch_version=torch.__version__, execution=Execution.REAL, model_name=case.model,
        scenario=Scenario(mode="training", optimizer="none"), modules=(), ops=ops,
        storages=watcher.storages.records(watcher.op_name),
        events=watcher.storages.event_records(), phase_ends=tuple(ends),
    )  # fmt: skip
    measures = measures_of(memory or watcher.memory, times, len(ops))
    return MicroPoint(shape=shape, status=Status.OK, trace=trace, measures=measures)


class _Made:
    """Tensors of a point, so that they can be registered and their gradients dropped."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.tensors: list[torch.Tensor] = []

    def floats(self, *size: int, grad: bool = True) -> torch.Tensor:
        """Return random numbers that want a gradient."""
        if torch.Size(size).numel() * self.dtype.itemsize > LIMIT_BYTES:
            raise MemoryError(f"{list(size)} is over the limit for a point")
        tensor = torch.rand(size, device=self.device, dtype=self.dtype).requires_grad_(grad)
        self.tensors.append(tensor)
        return tensor

    def below(self, limit: int, *size: int) -> torch.Tensor:
        """Return random integers."""
        tensor = torch.randint(0, limit, size, device=self.device)
        self.tensors.append(tensor)
        return tensor

    def module(self, module: nn.Module) -> nn.Module:
        """Put a module on the device."""
        module = module.to(self.device, self.dtype).train()
        self.tensors += list(module.parameters()) + list(module.buffers())
        return module


def _step(run: Run, made: _Made, start: Callable[[Phase], None]) -> None:
    for tensor in made.tensors:
        tensor.grad = None
    output = run()
    if output.requires_grad:
        start(Phase.BACKWARD)
        output.backward(torch.ones_like(output))


# Each function takes one point of its family's grid and returns what to run.


def _conv2d(
    made: _Made, shape: tuple[int, int, int, int], kernel: int, stride: int, groups: int
) -> Run:
    batch, inside, side, outside = shape
    count = groups or inside  # 0: depthwise
    outside = outside if groups else inside
    x = made.floats(batch, inside, side, side)
    weight = made.floats(outside, inside // count, kernel, kernel)
    return lambda: F.conv2d(x, weight, None, stride, kernel // 2, 1, count)


def _conv_transpose2d(made: _Made, shape: tuple[int, int, int, int], kernel: int) -> Run:
    batch, inside, side, outside = shape
    x, weight = (
        made.floats(batch, inside, side, side),
        made.floats(inside, outside, kernel, kernel),
    )
    return lambda: F.conv_transpose2d(x, weight, None, 2)


def _conv1d(made: _Made, shape: tuple[int, int, int, int], kernel: int) -> Run:
    batch, inside, length, outside = shape
    x, weight = made.floats(batch, inside, length), made.floats(outside, inside, kernel)
    return lambda: F.conv1d(x, weight, None, 1, kernel // 2)


def _conv3d(made: _Made, shape: tuple[int, int, int, int, int]) -> Run:
    batch, inside, frames, side, outside = shape
    x = made.floats(batch, inside, frames, side, side)
    weight = made.floats(outside, inside, 3, 3, 3)
    return lambda: F.conv3d(x, weight, None, 1, 1)


def _matmul(made: _Made, m: int, n: int, k: int) -> Run:
    a, b = made.floats(m, k), made.floats(k, n)
    return lambda: a @ b


def _linear(made: _Made, rows: int, width: int, out: int) -> Run:
    x, weight, bias = made.floats(rows, width), made.floats(out, width), made.floats(out)
    return lambda: F.linear(x, weight, bias)


def _bmm(made: _Made, batch: int, side: int, inner: int) -> Run:
    a, b = made.floats(batch, side, inner), made.floats(batch, inner, side)
    return lambda: torch.bmm(a, b)


def _attention(
    made: _Made, backend: str, heads: tuple[int, int, int], length: int, head_dim: int,
    causal: bool,
) -> Run:  # fmt: skip
    batch, queries, keys = heads
    q = made.floats(batch, queries, length, head_dim)
    k, v = (made.floats(batch, keys, length, head_dim) for _ in range(2))
    grouped = queries != keys
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)


def _layer_norm(made: _Made, rows: int, width: int) -> Run:
    x, norm = made.floats(rows, width), made.module(nn.LayerNorm(width))
    return lambda: norm(x)


def _rms_norm(made: _Made, rows: int, width: int) -> Run:
    x, norm = made.floats(rows, width), made.module(nn.RMSNorm(width))
    return lambda: norm(x)


def _batch_norm(made: _Made, shape: tuple[int, int, int]) -> Run:
    batch, channels, side = shape
    x, norm = made.floats(batch, channels, side, side), made.module(nn.BatchNorm2d(channels))
    return lambda: norm(x)


def _group_norm(made: _Made, shape: tuple[int, int, int]) -> Run:
    batch, channels, side = shape
    x, norm = made.floats(batch, channels, side, side), made.module(nn.GroupNorm(32, channels))
    return lambda: norm(x)


def _embedding(made: _Made, vocabulary: int, width: int, tokens: int) -> Run:
    weight, ids = made.floats(vocabulary, width), made.below(vocabulary, tokens)
    return lambda: F.embedding(ids, weight)


def _cross_entropy(made: _Made, rows: int, classes: int) -> Run:
    x, target = made.floats(rows, classes), made.below(classes, rows)
    return lambda: F.cross_entropy(x, target)


def _mse(made: _Made, rows: int, classes: int) -> Run:
    x, target = made.floats(rows, classes), made.floats(rows, classes, grad=False)
    return lambda: F.mse_loss(x, target)


def _softmax(made: _Made, rows: int, width: int) -> Run:
    x = made.floats(rows, width)
    return lambda: x.softmax(-1)


def _gelu(made: _Made, rows: int, width: int) -> Run:
    x = made.floats(rows, width)
    return lambda: F.gelu(x)


def _dropout(made: _Made, rows: int, width: int) -> Run:
    x = made.floats(rows, width)
    return lambda: F.dropout(x, 0.1)


def _recurrent(kind: type[nn.RNNBase], made: _Made, batch: int, length: int, width: int,
               layers: int) -> Run:  # fmt: skip
    x = made.floats(batch, length, width)
    net = made.module(kind(width, width, num_layers=layers, batch_first=True))
    return lambda: net(x)[0]


def _lstm(made: _Made, batch: int, length: int, width: int, layers: int) -> Run:
    return _recurrent(nn.LSTM, made, batch, length, width, layers)


def _gru(made: _Made, batch: int, length: int, width: int, layers: int) -> Run:
    return _recurrent(nn.GRU, made, batch, length, width, layers)


def _max_pool2d(made: _Made, shape: tuple[int, int, int]) -> Run:
    batch, channels, side = shape
    x = made.floats(batch, channels, side, side)
    return lambda: F.max_pool2d(x, 3, 2, 1)


def _interpolate(made: _Made, shape: tuple[int, int, int]) -> Run:
    batch, channels, side = shape
    x = made.floats(batch, channels, side, side)
    return lambda: F.interpolate(x, scale_factor=4, mode="bilinear")


def _index(made: _Made, rows: int, width: int) -> Run:
    x, chosen = made.floats(rows, width), made.below(rows, rows)
    return lambda: x[chosen]


def _sort(made: _Made, rows: int, width: int) -> Run:
    x = made.floats(rows, width)
    return lambda: x.sort(-1).values
