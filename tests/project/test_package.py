"""The wheel, installed alone: it needs what it declares and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import torchgauge

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "torchgauge"


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, ROOT, cwd=folder,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean_environment(wheel, tmp_path_factory) -> Path:
    """Return the ``bin`` of an environment with the wheel and its declared dependencies only.

    The dependencies are linked from here instead of being downloaded again. What this environment
    has besides (numpy, say) is not linked, so an undeclared import fails there.
    """
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel,
        cwd=folder,
    )  # fmt: skip
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", code, cwd=folder).strip())
    for dependency in dependencies_of("torchgauge"):
        link(dependency, site)
    return python.parent


def dependencies_of(name: str) -> list[Distribution]:
    """Return what the distribution needs to run, all levels down, without extras."""
    found: dict[str, Distribution] = {}
    waiting = [name]
    while waiting:
        for text in distribution(waiting.pop()).requires or []:
            requirement = Requirement(text)
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if not needed or requirement.name in found:
                continue
            try:
                found[requirement.name] = distribution(requirement.name)
            except PackageNotFoundError:
                continue  # torch declares parts that not every build of it installs
            waiting.append(requirement.name)
    return list(found.values())


def link(dependency: Distribution, site: Path) -> None:
    home = Path(str(dependency.locate_file("")))
    for name in {file.parts[0] for file in dependency.files or [] if file.parts[0] != ".."}:
        if name != "__pycache__" and not (site / name).exists():
            (site / name).symlink_to(home / name)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    version = torchgauge.__version__
    assert wheel.name == f"torchgauge-{version}-py3-none-any.whl"
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"torchgauge", f"torchgauge-{version}.dist-info"}
    assert "torchgauge/py.typed" in names
    tables = SOURCE.rglob("*.csv")
    assert {f"torchgauge/{path.relative_to(SOURCE)}" for path in tables} <= set(names)
    assert f"torchgauge-{version}.dist-info/licenses/LICENSE" in names
    assert not [name for name in names if "/test" in name or name.endswith(".pyc")]


def test_the_wheel_declares_few_dependencies(wheel):
    version = torchgauge.__version__
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(f"torchgauge-{version}.dist-info/METADATA").decode()
    always = re.findall(r"^Requires-Dist: ((?:(?!extra ==).)*)$", metadata, re.MULTILINE)
    assert sorted(Requirement(text).name for text in always) == [
        "msgspec",
        "rich",
        "torch",
        "zstandard",
    ]
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata


def test_the_clean_environment_has_no_other_package(clean_environment):
    code = "import importlib.util as u; print([n for n in ('numpy', 'pytest') if u.find_spec(n)])"
    found = run(clean_environment / "python", "-c", code, cwd=clean_environment)
    assert found.strip() == "[]"


def test_the_installed_command_answers(clean_environment):
    shown = run(clean_environment / "torchgauge", "--version", cwd=clean_environment)
    assert torchgauge.__version__ in shown


def test_the_installed_command_summarises_a_model(clean_environment, tmp_path):
    (tmp_path / "tiny.py").write_text("from torch import nn\n\nclass Tiny(nn.Linear):\n    pass\n")
    shown = run(
        clean_environment / "torchgauge", "summary", "tiny.py:Tiny(8, 4)", "--input-size", "8",
        cwd=tmp_path,
    )  # fmt: skip
    assert "36" in shown  # 8 × 4 weights and 4 biases


def test_the_installed_package_is_the_one_from_the_wheel(clean_environment, tmp_path):
    code = (
        "import torch, torchgauge as tg; print(tg.__file__); "
        "tg.summary(torch.nn.Linear(8, 4), (8,))"
    )
    shown = run(clean_environment / "python", "-c", code, cwd=tmp_path)
    assert str(clean_environment.parent) in shown.splitlines()[0]
    assert "36" in shown
