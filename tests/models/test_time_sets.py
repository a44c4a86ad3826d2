"""The predicted time against published measurements, where the data is beside the repository."""

from __future__ import annotations

import statistics

import pytest
from benchmarks.time_sets import validation
from benchmarks.time_sets.cases import DATA
from benchmarks.time_sets.left_out import FAMILIES, KIN
from benchmarks.time_sets.run import of_set
from benchmarks.time_sets.sets import FILES, NOT_FITTED, SETS
from benchmarks.time_sets.timm_sets import family

from torchgauge.models.torchvision_operators import define_missing_operators

define_missing_operators()
pytestmark = pytest.mark.models
SAMPLE = 12


def left_out_row(
    name: str, fit: str, median: float, ninth: float, *, most_covered: float
) -> validation.Agreement:
    """Return what the last calibration found of rows that a fit had not seen, once it is met."""
    rows = {(row.set, row.fit, row.left_out): row for row in validation.read()}
    row = rows[name, fit, ""]
    assert row.median <= median
    assert row.p90 <= ninth
    assert 0.6 <= row.covered <= most_covered
    return row


def _needs(name: str) -> None:
    for library in ("torchvision", "timm", "transformers"):
        pytest.importorskip(library, exc_type=ImportError)
    if not (DATA / FILES[name]).is_file():
        pytest.skip(f"{FILES[name]} is not beside the repository")


@pytest.mark.parametrize("name", [name for name in SETS if name not in NOT_FITTED])
def test_a_sample_of_each_set_is_met(name: str) -> None:
    _needs(name)
    found, _ = of_set(name, DATA, SAMPLE, None)
    assert len(found) >= SAMPLE // 2
    assert statistics.median(abs(result.error) for result in found) < 0.15


def test_a_set_that_nothing_was_fitted_on_is_met() -> None:
    """Without FSDP's communication; the smallest models are up to a fifth too slow."""
    _needs("mpt")
    found, _ = of_set("mpt", DATA, 8, None)
    errors = [abs(result.error) for result in found]
    assert len(errors) >= 6
    assert statistics.median(errors) <= 0.12
    assert max(errors) <= 0.3


@pytest.mark.parametrize(("name", "median", "ninth"), [
    ("timm inference RTX 3090", 0.05, 0.13),
    ("timm inference RTX 4090", 0.05, 0.11),
    ("timm inference RTX 4090, torch 2.9", 0.05, 0.11),
    ("timm inference RTX PRO 6000 Max-Q", 0.06, 0.14),
    ("timm inference RTX 3090, channels last", 0.05, 0.12),
    ("timm inference RTX 4090, compiled", 0.07, 0.18),
    ("timm inference RTX 4090, compiled, torch 2.9", 0.05, 0.17),
    ("timm training RTX 3090", 0.05, 0.14),
    ("neusight", 0.07, 0.13),
    ("neusight L4 and P100", 0.08, 0.14),
    # Without a family an A100's half precision is known by BERT or by ResNet-50 alone.
    ("lambda", 0.11, 0.20),
])  # fmt: skip
def test_families_left_out_are_met(name: str, median: float, ninth: float) -> None:
    """What the last calibration found of families that it had not seen, and of their intervals."""
    row = left_out_row(name, FAMILIES, median, ninth, most_covered=0.95)
    assert row.spearman >= 0.95


@pytest.mark.parametrize(("name", "median", "ninth"), [
    # 5.5 and 15 % before rates were expected by how a board is built, which halved the errors of
    # training and of NVIDIA's sets; without it an RTX 3090 seems 9 % slower than it is.
    ("timm inference RTX 3090", 0.10, 0.19),
    # 5.7 % before a calibration that took training 1.5 percentage points nearer.
    ("timm inference RTX 3090, channels last", 0.08, 0.19),
    ("timm inference RTX 4090", 0.05, 0.11),
    ("timm inference RTX 4090, compiled", 0.09, 0.22),
    ("timm inference RTX PRO 6000 Max-Q", 0.06, 0.16),
    ("timm training RTX 3090", 0.06, 0.19),
    ("neusight", 0.12, 0.27),
    ("neusight L4 and P100", 0.06, 0.12),
    ("lambda", 0.07, 0.16),
])  # fmt: skip
def test_a_gpu_and_its_siblings_left_out_are_met(name: str, median: float, ninth: float) -> None:
    """Of NeuSight, the V100's fp32 cores sustain a fifth more than they are expected to."""
    left_out_row(name, KIN, median, ninth, most_covered=0.97)


@pytest.mark.parametrize(
    ("name", "first"),
    [("resnet50d", "resnet"), ("tf_efficientnet_b1", "efficientnet"), ("gluon_resnet18", "resnet"),
     ("vit_base_patch16_224", "vit")],
)  # fmt: skip
def test_families_are_what_names_begin_with(name: str, first: str) -> None:
    assert family(name) == first
