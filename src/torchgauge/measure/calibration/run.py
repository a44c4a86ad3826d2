"""Calibrate: time operators on this machine, make surfaces of them, and try those on networks."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from errno import EISDIR
from math import exp, log
from os import PathLike, strerror
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryFile
from typing import Any, Final

import torch

from torchgauge.devices.cpu_file import VARIABLE, calibration_path
from torchgauge.errors import UsageError
from torchgauge.estimate.time.cpu.calibration import Calibration
from torchgauge.facts.codec.files import write_atomically
from torchgauge.measure.calibration.case import Case
from torchgauge.measure.calibration.convolutions import convolutions
from torchgauge.measure.calibration.distances import caches
from torchgauge.measure.calibration.fit import quantile, roof_of, surfaces_of
from torchgauge.measure.calibration.networks import NETWORKS
from torchgauge.measure.calibration.others import others
from torchgauge.measure.calibration.products import products
from torchgauge.measure.calibration.steps import NOTHING, Checked, checked, overheads
from torchgauge.measure.calibration.timing import Sample, timed
from torchgauge.measure.settled import settle_allocator
from torchgauge.shown import Shown
from torchgauge.target import cpu_name
from torchgauge.trace.inspect.describe import dtype_name
from torchgauge.trace.isolate.isolation import neutral
from torchgauge.units import format_percent

DTYPES: Final = (torch.bfloat16, torch.float16, torch.float64)
_RUNS: Final = 9
_PRODUCTS: Final = ((16, 512, 512), (128, 768, 768), (256, 256, 1024))
"""Rows, columns, inner side."""
_CONVOLUTIONS: Final = (
    ((1, 32, 56, 56), (64, 32, 3, 3)),
    ((2, 128, 28, 28), (128, 128, 3, 3)),
    ((2, 256, 14, 14), (512, 256, 1, 1)),
)


def slower(dtype: torch.dtype) -> Mapping[str, float]:
    """Return the ratio of matrix products and of convolutions: the mean, in the logarithm."""
    with torch.no_grad():
        products = [_ratio(lambda a, b: a @ b, (m, k), (k, n), dtype) for m, n, k in _PRODUCTS]
        convolutions = [
            _ratio(lambda x, w: torch.conv2d(x, w, padding=w.shape[-1] // 2), x, w, dtype)
            for x, w in _CONVOLUTIONS
        ]
    return {"matmul": exp(fmean(products)), "convolution": exp(fmean(convolutions))}


def _ratio(
    op: Callable[..., Any], first: tuple[int, ...], second: tuple[int, ...], dtype: torch.dtype
) -> float:
    """Return the logarithm of the ratio; both are timed by turns."""
    given = [(torch.randn(first, dtype=t), torch.randn(second, dtype=t))
             for t in (torch.float32, dtype)]  # fmt: skip
    seconds: list[list[float]] = [[], []]
    for _ in range(_RUNS):
        for operands, times in zip(given, seconds, strict=True):
            start = time.perf_counter()
            op(*operands)
            times.append(time.perf_counter() - start)
    plain, other = (median(times[1:]) for times in seconds)
    return log(other / plain)


def cases() -> Iterator[Case]:
    """Yield every operator that is timed."""
    yield from products()
    yield from convolutions()
    yield from others()


def calibrate_cpu(on_progress: Callable[[str], None]) -> tuple[Calibration, list[Checked]]:
    """Time operators and networks; return what predictions need, and how good they were."""
    settle_allocator()
    with neutral():
        samples = timed(list(cases()), on_progress)
        on_progress("timing what is not in the caches")
        from_memory, python_us = caches()
        on_progress("fitting")
        roof = roof_of(samples)
        calibration = Calibration(
            cpu=cpu_name(torch.get_num_threads(), str(torch.__version__)),
            measured_on=datetime.date.today().isoformat(),
            roof=roof,
            overheads=replace(NOTHING, python_us=python_us),
            caches=from_memory,
            dtypes={dtype_name(dtype): slower(dtype) for dtype in DTYPES},
            error=1.0,
            surfaces=surfaces_of(samples, roof),
            kinds=_kinds(samples),
        )
        on_progress("timing networks")
        calibration = replace(calibration, overheads=overheads(calibration))
        steps = checked(NETWORKS, calibration)
    return replace(calibration, error=quantile([step.error for step in steps])), steps


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Calibrated(Shown):
    """What a calibration came to."""

    calibration: Calibration
    path: Path
    """The file that later predictions use."""
    steps: tuple[Checked, ...]
    """Networks that it was tried on."""

    def __str__(self) -> str:
        """Return what was calibrated and how good predictions are, in one line."""
        error = format_percent(self.calibration.error, 1.0)
        return f"{self.calibration.cpu}: predictions ± {error}, kept in {self.path}"


def calibrate(path: str | PathLike[str] | None, on_progress: Callable[[str], None]) -> Calibrated:
    """Calibrate and write the file; see ``torchgauge.calibrate``."""
    target = Path(path) if path is not None else calibration_path()
    if target is None:
        raise UsageError(
            f"no place to store a calibration: {VARIABLE} is empty, or there is no home folder",
            hint="name a file: torchgauge measure --calibrate --output cpu.json",
        )
    _check(target)
    calibration, steps = calibrate_cpu(on_progress)
    write_atomically(target, calibration.to_json() + "\n")
    return Calibrated(calibration=calibration, path=target, steps=tuple(steps))


def _check(target: Path) -> None:
    """Find out before minutes are spent whether the file can be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(EISDIR, strerror(EISDIR))
        with TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write {target}: {error.strerror or error}",
            hint="name another file: --output cpu.json",
        ) from error


def _kinds(samples: Sequence[Sample]) -> Mapping[str, str]:
    """Return the kind of each surface: that of its largest sample, the small ones are launches."""
    ordered = sorted(samples, key=lambda sample: sample.work.nbytes)
    return {sample.work.surface: str(sample.work.kind) for sample in ordered}
