"""No circle of imports between the files and packages of a room; and that the check can fail."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).parents[2]
LINTER = which("lint-imports", path=str(Path(sys.executable).parent))

CONFIGURATION = """\
[tool.importlinter]
root_packages = ["{package}"]
exclude_type_checking_imports = false

[[tool.importlinter.contracts]]
name = "no circles"
type = "acyclic_siblings"
ancestors = {ancestors}
"""


def checked(folder: Path, package: str, ancestors: list[str], source: Path) -> tuple[int, str]:
    """Return the exit status of the linter and what it printed."""
    assert LINTER is not None
    folder.joinpath("linter.toml").write_text(
        CONFIGURATION.format(package=package, ancestors=ancestors)
    )
    done = subprocess.run(
        [LINTER, "--config", "linter.toml", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_rooms_have_no_circle_also_not_for_annotations(tmp_path: Path) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (ours,) = [c for c in contracts["contracts"] if c["type"] == "acyclic_siblings"]
    status, text = checked(tmp_path, "torchgauge", ours["ancestors"], ROOT / "src")
    assert status == 0, text


@pytest.mark.parametrize(
    "back",
    [
        "from house.upper import attic\n",
        "def climb():\n    from house.upper import attic\n    return attic\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.upper import attic\n",
        "",
    ],
    ids=["plain", "inside a function", "for annotations", "none"],
)
def test_a_circle_between_packages_is_found(tmp_path: Path, back: str) -> None:
    files = {
        "house/__init__.py": "",
        "house/upper/__init__.py": "",
        "house/upper/attic.py": "from house.lower import cellar\n",
        "house/lower/__init__.py": "",
        "house/lower/cellar.py": back,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    status, text = checked(tmp_path, "house", ["house"], tmp_path)
    assert (status, "No cycles are allowed in house" in text) == ((1, True) if back else (0, False))
