"""The sets of measurements by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.time_sets import lambda_training, mpt, neusight, timm_sets
from benchmarks.time_sets.cases import NotPredicted, TimeCase

SETS: dict[str, Callable[[Path], Iterator[TimeCase | NotPredicted]]] = {
    **{name: partial(timm_sets.inference, name) for name in timm_sets.INFERENCE},
    "timm training RTX 3090": partial(timm_sets.training, "RTX 3090"),
    **{name: partial(neusight.cases, name) for name in neusight.FILES},
    "lambda": lambda_training.cases,
    "mpt": mpt.cases,
}
FILES = {
    **{name: run.file for name, run in timm_sets.INFERENCE.items()},
    "timm training RTX 3090": timm_sets.TRAINING["RTX 3090"],
    **neusight.FILES,
    "lambda": lambda_training.FILE,
    "mpt": mpt.FILE,
}
"""The data file of each, beside the repository."""
NOT_FITTED = frozenset({"mpt"})
"""Sets that the coefficients are never fitted on: they say what an unseen one would."""
