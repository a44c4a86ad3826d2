"""The sets of measurements by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.time_sets import mpt, neusight, timm_sets
from benchmarks.time_sets.cases import NotPredicted, TimeCase

SETS: dict[str, Callable[[Path], Iterator[TimeCase | NotPredicted]]] = {
    "timm inference RTX 3090": partial(timm_sets.inference, "RTX 3090"),
    "timm inference RTX 4090": partial(timm_sets.inference, "RTX 4090"),
    "timm training RTX 3090": partial(timm_sets.training, "RTX 3090"),
    "neusight": neusight.cases,
    "mpt": mpt.cases,
}
FILES = {
    "timm inference RTX 3090": timm_sets.INFERENCE["RTX 3090"],
    "timm inference RTX 4090": timm_sets.INFERENCE["RTX 4090"],
    "timm training RTX 3090": timm_sets.TRAINING["RTX 3090"],
    "neusight": neusight.FILE,
    "mpt": mpt.FILE,
}
"""The data file of each, beside the repository."""
NOT_FITTED = frozenset({"mpt"})
"""Sets that the coefficients are never fitted on: they say what an unseen one would."""
