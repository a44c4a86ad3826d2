"""cuBLAS workspaces: the rules, by torch release and GPU."""

from __future__ import annotations

import pytest

from torchgauge.estimate.memory.workspaces.cuda.cublas import (
    CUBLAS_RULES,
    cublas_workspace_bytes,
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


def test_rules_are_in_the_order_of_the_releases():
    versions = [rules.version for rules in CUBLAS_RULES]
    assert versions == sorted(set(versions))
