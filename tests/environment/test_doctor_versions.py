"""The doctor's version tables and the questions asked of them, without any machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from torchgauge.environment import Severity
from torchgauge.environment.facts import Facts, Host, Package, Python
from torchgauge.environment.rules import find
from torchgauge.environment.rules.gpu import runs_on
from torchgauge.environment.versions import (
    BUILDS,
    DRIVER_NEEDS,
    PAIRS,
    REACHES,
    best_build,
    companion_for,
    driver_need,
    go_together,
    is_driver_enough,
    parse_requirement,
    satisfies,
)

ROOT = Path(__file__).parents[2]
capabilities = st.tuples(st.integers(5, 13), st.integers(0, 9))
releases = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(
    lambda numbers: ".".join(map(str, numbers))
)


@given(releases, st.lists(st.tuples(st.sampled_from(["==", "!=", ">=", "<=", "<", ">"]), releases)))
def test_bounds_are_met_as_packaging_says(version, bounds):
    text = ",".join(f"{operator}{bound}" for operator, bound in bounds)
    assert satisfies(version, text) == (Version(version) in SpecifierSet(text))


@given(releases, releases)
def test_bounds_with_a_star_are_met_as_packaging_says(version, bound):
    assert satisfies(version, f"=={bound}.*") == (Version(version) in SpecifierSet(f"=={bound}.*"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch (==2.13.0)", ("torch", "==2.13.0")),
        ("Torch_Geometric>=2.6,<3; extra == 'graph'", ("torch-geometric", ">=2.6,<3")),
        (
            "cuda-toolkit[cudart,cufft]==13.0.2; sys_platform == 'linux'",
            ("cuda-toolkit", "==13.0.2"),
        ),
        ("numpy", ("numpy", "")),
        ("", ("", "")),
    ],
)
def test_requirements_are_read(text, expected):
    assert parse_requirement(text) == expected


# ---------------------------------------------------------------------------- tables


def test_every_row_has_a_source():
    for table in (DRIVER_NEEDS, BUILDS, REACHES, PAIRS):
        assert all(row.source for row in table)


def test_the_tables_know_each_others_versions():
    known = {row.cuda for row in REACHES}
    for row in BUILDS:
        assert set(row.cuda) <= known, row.torch
        assert all(driver_need(cuda) for cuda in row.cuda)
        assert companion_for(row.torch, "torchvision")
    assert [row.torch for row in PAIRS] == sorted({row.torch for row in PAIRS})


@pytest.mark.parametrize(
    ("cuda", "driver", "driver_cuda", "enough"),
    [
        ((11, 8), "450.80.02", None, True),
        ((11, 8), "450.51.06", None, False),
        ((12, 4), "525.60.13", None, True),
        ((12, 4), "525.60.11", None, False),
        ((12, 8), "550.54.14", (12, 4), True),  # minor version compatibility
        ((12, 4), "470.57.02", (11, 4), False),
        ((13, 0), "575.51.03", (12, 9), False),
        ((13, 0), "580.65.06", None, True),
        ((12, 4), "535.104.05", (12, 2), True),
        ((12, 4), None, None, None),
        ((14, 0), "580.65.06", (13, 0), None),
    ],
)
def test_is_the_driver_enough(cuda, driver, driver_cuda, enough):
    assert is_driver_enough(cuda, driver=driver, driver_cuda=driver_cuda) is enough


@pytest.mark.parametrize(
    ("release", "driver_cuda", "capability", "expected"),
    [
        ((2, 6), (12, 4), (8, 6), ((2, 6), "cu126")),  # 12.6 runs on any driver for 12
        ((2, 6), (11, 4), (8, 6), ((2, 6), "cu118")),
        ((2, 13), (13, 0), (8, 6), ((2, 13), "cu132")),
        ((2, 13), (12, 8), (8, 6), ((2, 13), "cu126")),
        ((2, 13), (13, 0), (7, 0), ((2, 13), "cu126")),  # Volta left with CUDA 13
        ((2, 6), (12, 8), (12, 0), ((2, 11), "cu128")),  # Blackwell on a driver for 12
        ((2, 13), (12, 8), (12, 0), ((2, 11), "cu128")),
        ((2, 13), (11, 4), (8, 6), ((2, 7), "cu118")),
        ((2, 13), (13, 0), (3, 5), None),
        ((2, 13), (10, 2), (7, 5), None),
        (None, (13, 0), (9, 0), ((2, 14), "cu132")),
    ],
)
def test_the_build_that_is_advised(release, driver_cuda, capability, expected):
    build = best_build(release, driver=None, driver_cuda=driver_cuda, capabilities=(capability,))
    assert (build and (build.torch, build.tag)) == expected


@given(
    st.sampled_from([row.torch for row in BUILDS]),
    st.tuples(st.integers(10, 14), st.integers(0, 9)),
    st.lists(capabilities, max_size=3),
)
def test_a_build_that_is_advised_runs_on_the_driver_and_every_gpu(release, driver_cuda, gpus):
    build = best_build(release, driver=None, driver_cuda=driver_cuda, capabilities=tuple(gpus))
    if build is not None:
        assert is_driver_enough(build.cuda, driver=None, driver_cuda=driver_cuda)
        reach = next(row for row in REACHES if row.cuda == build.cuda)
        assert all(reach.oldest <= gpu <= reach.newest for gpu in gpus)


@pytest.mark.parametrize(
    ("torch", "name", "version", "together"),
    [
        ((2, 6), "torchvision", (0, 21), True),
        ((2, 6), "torchvision", (0, 22), False),
        ((2, 14), "torchvision", (0, 29), True),
        ((2, 15), "torchvision", (0, 29), True),  # stable ABI
        ((2, 13), "torchvision", (0, 29), False),
        ((2, 13), "torchaudio", (2, 11), True),
        ((2, 10), "torchaudio", (2, 11), False),
        ((2, 13), "torchaudio", (2, 10), False),
        ((2, 99), "torchvision", (0, 28), None),
    ],
)
def test_companions(torch, name, version, together):
    assert go_together(torch, name, version) is together


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 6), ("sm_80",), True),
        ((8, 6), ("sm_89",), False),
        ((9, 0), ("sm_80", "sm_86"), False),
        ((9, 0), ("sm_80", "compute_86"), True),
        ((9, 0), ("sm_90a",), True),
        ((10, 0), ("compute_90a",), False),
        ((10, 3), ("sm_100f",), True),
        ((10, 3), ("sm_100a",), False),
        ((12, 1), ("sm_120",), True),
        ((7, 0), ("compute_75",), False),
        ((7, 5), (), False),
        ((7, 5), ("gfx90a", "nonsense"), False),
    ],
)
def test_what_runs_on_which_gpu(capability, architectures, runs):
    assert runs_on(capability, architectures) is runs


# ---------------------------------------------------------------------------- the rules as a whole


def test_no_facts_give_no_crash():
    assert [finding.name for finding in find(Facts())] == [
        "interpreter-broken", "no-gpu",
    ]  # fmt: skip


def test_the_worst_comes_first():
    facts = Facts(
        host=Host(open_files_limit=256),
        python=Python(version="3.11.7", packages=(Package(name="numpy", version="2.0"),)),
    )
    severities = [finding.severity for finding in find(facts)]
    assert severities == [Severity.ERROR, Severity.WARNING, Severity.NOTICE]
