"""cuBLAS workspaces and the CUDA context: the rules, and the public figures they rest on."""

from __future__ import annotations

import re

import pytest

from torchgauge.errors import UsageError
from torchgauge.estimate.memory.cuda_context_rows import CONTEXT_ROWS
from torchgauge.estimate.memory.cuda_overheads import (
    CUBLAS_RULES,
    HANDLES_FORWARD,
    HANDLES_TRAINING,
    cublas_workspace_bytes,
    cublaslt_workspace,
    cuda_context_bytes,
)

KIB = 1 << 10
MIB = 1 << 20
NORMAL = 2 * 4096 * KIB + 8 * 16 * KIB  # 8,519,680 B
LARGE = 32 * MIB


@pytest.mark.parametrize(
    ("release", "capability", "nbytes"),
    [
        # Machine code of at::cuda::parseChosenWorkspaceSize: 0x820000 and 0x2000000.
        ("2.6", (8, 0), NORMAL),
        ("2.6", (9, 0), LARGE),
        ("2.11.0+cu130", (9, 0), LARGE),
        ("2.11", (10, 0), NORMAL),
        ("2.11", (12, 0), NORMAL),
        ("2.12", (10, 0), LARGE),
        ("2.12", (10, 3), LARGE),
        ("2.12", (12, 0), LARGE),
        ("2.13", (9, 0), LARGE),
        ("2.13", (11, 0), NORMAL),
        ("2.13", (8, 9), NORMAL),
        ("2.13", (7, 5), NORMAL),
    ],
)
def test_cublas_workspace(release, capability, nbytes):
    assert cublas_workspace_bytes(release, capability) == nbytes


@pytest.mark.parametrize(
    ("config", "nbytes"),
    [
        (":4096:8", 32 * MIB),
        (":16:8", 128 * KIB),
        (":4096:2:16:8", NORMAL),
        (":0:0", 0),
        ("", LARGE),
        ("4096", LARGE),  # no :SIZE:COUNT: torch warns and takes its default
    ],
)
def test_cublas_workspace_config(config, nbytes):
    """CUBLAS_WORKSPACE_CONFIG; ``:4096:8`` and ``:16:8`` are those of the determinism notes."""
    assert cublas_workspace_bytes("2.13", (9, 0), config) == nbytes


def test_cublaslt_shares_the_workspace_from_2_11():
    """PR 168175: the default of TORCH_CUBLASLT_UNIFIED_WORKSPACE became 1."""
    assert cublaslt_workspace("2.13").nbytes == cublaslt_workspace("2.11").nbytes == 0
    assert cublaslt_workspace("2.10").nbytes == MIB and cublaslt_workspace("2.10").stays
    assert cublaslt_workspace("2.8").nbytes == MIB and not cublaslt_workspace("2.8").stays
    assert cublaslt_workspace("2.13", unified="0").nbytes == MIB
    assert cublaslt_workspace("2.10", unified="1").nbytes == 0
    assert cublaslt_workspace("2.10", size_kib="4096").nbytes == 4 * MIB
    with pytest.raises(UsageError, match="CUBLASLT_WORKSPACE_SIZE=big is no size in KiB"):
        cublaslt_workspace("2.10", size_kib="big")


def test_a_backward_has_a_handle_of_its_own():
    assert (HANDLES_FORWARD, HANDLES_TRAINING) == (1, 2)


def test_rules_are_in_the_order_of_the_releases():
    versions = [rules.version for rules in CUBLAS_RULES]
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("row", CONTEXT_ROWS, ids=lambda row: f"{row.device}-{row.date}")
def test_context_figures_follow_from_their_sources(row):
    """In use by the process, less allocated, less reserved and unallocated."""
    text = row.source.split(": ", 1)[1]
    if not row.after_work:
        assert row.mib == int(row.mib)
        return
    terms = re.findall(r"([0-9.]+)(?: (GiB|MiB))?", text)
    unit, values = "", []
    for number, its_unit in reversed(terms):
        unit = its_unit or unit
        values.insert(0, float(number) * (1024 if unit == "GiB" else 1))
    assert row.mib == pytest.approx(values[0] - values[1] - values[2], abs=0.06)


def test_a_gpu_with_figures_gets_their_mean():
    context = cuda_context_bytes(
        compute_capability=(8, 9), sm_count=128, device="NVIDIA GeForce RTX 4090"
    )
    rows = [row.mib for row in CONTEXT_ROWS if "4090" in row.device]
    assert len(rows) == 4 and context.measured
    assert context.nbytes == round(sum(rows) / 4 * MIB)
    assert context.low_bytes == round(min(rows) * MIB)
    assert context.high_bytes == round(max(rows) * MIB)


@pytest.mark.parametrize(
    ("device", "capability", "sm_count", "measured"),
    [
        ("NVIDIA A100-SXM4-80GB", (8, 0), 108, True),
        ("NVIDIA A10", (8, 6), 72, True),
        ("NVIDIA A10G", (8, 6), 80, False),
        ("NVIDIA L4", (8, 9), 58, True),
        ("NVIDIA L40S", (8, 9), 142, False),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", (8, 9), 76, False),
        ("", (9, 0), 132, False),
    ],
)
def test_which_gpus_have_figures(device, capability, sm_count, measured):
    context = cuda_context_bytes(compute_capability=capability, sm_count=sm_count, device=device)
    assert context.measured is measured
    assert 0 <= context.low_bytes <= context.nbytes <= context.high_bytes


def test_every_figure_is_inside_the_interval_of_the_line():
    for row in CONTEXT_ROWS:
        context = cuda_context_bytes(
            compute_capability=row.compute_capability, sm_count=row.sm_count
        )
        slack = MIB  # of rounding
        assert context.low_bytes - slack <= row.mib * MIB <= context.high_bytes + slack


def test_one_figure_left_out_is_still_predicted(monkeypatch):
    """The line through the other GPUs misses a figure by 99 MiB at worst, 37 in the median."""
    from torchgauge.estimate.memory import cuda_overheads

    misses = []
    for row in CONTEXT_ROWS:
        others = tuple(other for other in CONTEXT_ROWS if other.device != row.device)
        monkeypatch.setattr(cuda_overheads, "CONTEXT_ROWS", others)
        context = cuda_context_bytes(
            compute_capability=row.compute_capability, sm_count=row.sm_count
        )
        misses.append(abs(context.nbytes / MIB - row.mib))
    assert max(misses) < 100 and sorted(misses)[len(misses) // 2] < 37


def test_no_context_without_a_gpu():
    with pytest.raises(UsageError, match=r"no CUDA context is known for .*\(3, 5\)"):
        cuda_context_bytes(compute_capability=(3, 5), sm_count=13)
    with pytest.raises(UsageError, match="with 0 multiprocessors"):
        cuda_context_bytes(compute_capability=(8, 0), sm_count=0)
