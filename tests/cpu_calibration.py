"""A calibration of a CPU that does not exist: every operator takes what a formula says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

import torch

from torchgauge.estimate.time.cpu.caches import MODULE, PYTHON, VIEW, Caches
from torchgauge.estimate.time.cpu.calibration import Calibration, CpuName, Overheads
from torchgauge.estimate.time.cpu.surface import Roof
from torchgauge.estimate.time.cpu.work import CpuWork
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.measure.calibration.fit import surfaces_of
from torchgauge.measure.calibration.timing import Sample
from torchgauge.target import cpu_name

ROOF = Roof(flops_per_second=1e11, bytes_per_second=1e10, op_seconds=1e-6)
OVERHEADS = Overheads(
    module_us=1.0,
    op_us=2.0,
    view_us=0.5,
    python_us=0.25,
    gradient_us=3.0,
    backward_us=4.0,
    page_us=1.0,
)
CACHES = Caches(
    distances=(1e6, 1e8),
    code=(0.0, 1.0),
    read=(1e-10, 1e-10),
    written=(1e-10, 1e-10),
    code_us={MODULE: 0.0, VIEW: 0.0, PYTHON: 0.0, "elementwise": 0.0},
)
"""Of a machine on which nothing takes longer because it was used long ago."""
SLOWER = 2.0
"""Times of the roof's that each operator takes."""


def sample(work: CpuWork, ratio: float = SLOWER) -> Sample:
    seconds = ratio * ROOF.seconds(work.padded_flops, work.nbytes)
    return Sample(work=work, seconds=seconds)


def _products() -> Iterator[CpuWork]:
    for rows, columns, inner in product((1, 16, 256), (32, 128), (32, 128)):
        flops = 2.0 * rows * columns * inner
        nbytes = 4.0 * (rows * columns + columns * inner + rows * inner)
        yield CpuWork(surface="mm", sizes=(rows, columns, inner, 1.0), kind=Kind.MATMUL,
                      dtype="float32", flops=flops, padded_flops=flops, nbytes=nbytes)  # fmt: skip


def _curve(name: str) -> Iterator[CpuWork]:
    for elements in (16, 4096, 1_048_576):
        yield CpuWork(surface=name, sizes=(elements,), kind=Kind.ELEMENTWISE, dtype="float32",
                      nbytes=8.0 * elements)  # fmt: skip


def calibration(names: Iterable[str] = ("relu", "add", "threshold_backward")) -> Calibration:
    """Return the calibration, of the CPU at hand by name."""
    works = [*_products(), *(work for name in names for work in _curve(name))]
    samples = [sample(work) for work in works]
    return Calibration(
        cpu=cpu_name(torch.get_num_threads(), str(torch.__version__)),
        measured_on="2026-11-24",
        roof=ROOF,
        overheads=OVERHEADS,
        caches=CACHES,
        dtypes={"bfloat16": {"matmul": 0.5, "convolution": 3.0}},
        error=0.2,
        surfaces=surfaces_of(samples, ROOF),
        kinds={work.surface: str(work.kind) for work in works},
    )


def of_another_cpu() -> Calibration:
    other = CpuName(processor="Abacus", threads=3, torch_version="1.0")
    return replace(calibration(), cpu=other)
