"""The pytest plugin, loaded by its entry point in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from budget_project import NET, SOURCE, Project, environment

ROOT = SOURCE.parent

TESTS = """\
import pytest
from torch import nn
from net import Net


def test_within(gauge):
    model = gauge(Net(), (8,))
    assert model.params <= 178
    assert model.params == 178 and model.params < "1 K" and 178 >= model.params
    assert model.macs == 8 * 16 + 16 * 2
    assert model.trainable_params == 178 and model.param_bytes <= "1 KiB"
    assert model.peak_memory <= "1 MiB" and model.uncounted == ()
    assert gauge("net.py:Net(width=4)", (8,)).params < 0.5 * model.params
    assert gauge(Net(), (8,)).fits("T4", batch=64)
    assert gauge(Net(), (8,), device="T4").step_time < "1 s"


def test_too_many(gauge):
    assert gauge(Net(width=4096), (8,)).params <= "10 K"


def test_too_long(gauge):
    assert gauge(Net(), (8,), device="T4", mode="training").step_time <= 1e-6


def test_too_large(gauge):
    big = nn.Linear(8, 1 << 20)
    assert gauge(big, (8,)).fits("T4", batch=1 << 20)


def test_overlooked(gauge):
    gauge(nn.Linear(8, 1 << 20), (8,)).fits("T4", batch=1 << 20)


def test_no_gpu(gauge):
    assert gauge(Net(), (8,)).device_memory <= "1 GiB"
"""
SNAPSHOTS = """\
import os
from net import Net


def test_same(gauge):
    width = int(os.environ.get("WIDTH", "16"))
    assert gauge(Net(width=width), (8,)).matches_snapshot()


def test_nearly_the_same(gauge):
    width = int(os.environ.get("WIDTH", "16"))
    assert gauge(Net(width=width), (8,)).matches_snapshot("near", within=0.1)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Return a folder on the search path that declares the entry point as the wheel does."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    folder = tmp_path_factory.mktemp("site")
    info = folder / "budgets_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: budgets-plugin\nVersion: 1\n")
    lines = [f"{name} = {place}" for name, place in declared["pytest11"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    return folder


def run(folder: Path, site: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (SOURCE, site, folder)))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder, env={**environment(**more), "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(site, tmp_path_factory) -> subprocess.CompletedProcess[str]:
    project = Project(tmp_path_factory.mktemp("project"))
    project.write("test_budgets.py", TESTS)
    return run(project.folder, site)


def test_what_holds_passes(done):
    assert "test_within" not in done.stdout.partition("short test summary")[2]
    assert "2 passed" in done.stdout  # the other fails when it ends


@pytest.mark.parametrize(
    "text",
    [
        "params of Net: 45,058 <= 10,000",
        "difference: +35,058 (+350.58%)",
        "0 Linear: 36,864",
        "step_time of Net: ",
        "gauge: fits('T4', batch=1048576) -",
        "assert <Linear: 8.00 TiB needed, T4 has 14.75 GiB>",
        "  the largest batch that fits: 1864\n",
        "Linear: ",
        "fits('T4', batch=1048576) is false and was not asserted",
        'device_memory is not known: only a GPU has memory of its own; add a GPU: device="T4"',
    ],
)
def test_a_failure_says_why(done, text):
    assert text in done.stdout


@pytest.mark.slow
def test_a_snapshot_is_written_held_and_broken(site, tmp_path):
    project = Project(tmp_path)
    project.write("test_shape.py", SNAPSHOTS)
    missing = run(tmp_path, site)
    assert "there is no snapshot test_same.json" in missing.stdout
    assert "try: pytest --gauge-update" in missing.stdout

    assert run(tmp_path, site, "--gauge-update").returncode == 0
    written = sorted(p.name for p in (tmp_path / "gauge_snapshots" / "test_shape").iterdir())
    assert written == ["test_nearly_the_same.near.json", "test_same.json"]
    assert run(tmp_path, site).returncode == 0

    changed = run(tmp_path, site, WIDTH="17")
    assert "totals.params: 178 → 189 (+6.18%)" in changed.stdout
    assert "0 Linear: changed" in changed.stdout
    assert "1 failed, 1 passed" in changed.stdout


def test_tests_that_do_not_use_it_pay_nothing(site, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_other(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('torchgauge')\n"
        "    loaded = [name for name in sys.modules if name.startswith('torchgauge')]\n"
        "    assert sorted(loaded) == ['torchgauge', 'torchgauge.pytest_plugin',\n"
        "        'torchgauge.pytest_plugin.plugin', 'torchgauge.version'], loaded\n"
        "    assert 'torch' not in sys.modules and 'msgspec' not in sys.modules\n"
    )
    assert run(tmp_path, site).returncode == 0
