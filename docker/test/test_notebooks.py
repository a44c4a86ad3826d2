"""The tutorial notebooks: executed in the image, and the same in both languages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from containers import USER_ID, Container, make_workspace, podman

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
NAMES = ["workflow.ipynb", "workflow.zh-CN.ipynb"]


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def load(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def printed(cell: dict[str, Any]) -> str:
    """What a cell printed or showed, as one text."""
    return "".join(
        "".join(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
        for output in cell["outputs"]
    )


def test_there_are_no_others() -> None:
    assert sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")) == sorted(NAMES)


def test_both_languages_have_the_same_code_and_the_same_steps() -> None:
    english, chinese = (load(NOTEBOOKS / name)["cells"] for name in NAMES)
    assert [cell["cell_type"] for cell in english] == [cell["cell_type"] for cell in chinese]
    for one, other in zip(english, chinese, strict=True):
        if one["cell_type"] == "code":
            assert one["source"] == other["source"]
        else:
            assert one["source"] != other["source"]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_kept_without_output(name: str) -> None:
    for cell in code_cells(load(NOTEBOOKS / name)):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom(image: str, name: str, tmp_path: Path) -> None:
    make_workspace(tmp_path)
    shutil.copy(NOTEBOOKS / name, tmp_path)
    (tmp_path / name).chmod(0o666)
    container = Container.start(
        image, f"--volume={tmp_path}:/workspace", "--env=TORCHGAUGE_DOCTOR=off"
    )
    try:
        container.wait_until_ready()
        podman("exec", container.name, "jupyter", "execute", "--inplace", name, timeout=900)
    finally:
        container.remove()
    cells = code_cells(load(tmp_path / name))
    doctor, _, summary, largest, _, compared, learned, package, files = map(printed, cells)
    assert "torch " in doctor and "usage:" not in doctor
    # 3·64·9+64, 64·128·9+128, 8192·1024+1024, 1024·10+10
    assert "8,475,530" in summary
    assert "head.1: 8,389,632 of 8,475,530 parameters, 99.0%" in largest
    # The convolutions and 128·10+10 are left.
    assert "76,938" in compared
    for line in learned.splitlines():
        first, last = (float(number) for number in line.split("loss")[1].split("->"))
        assert last < first
    assert "error" not in package.lower()
    assert ".pt2" in files and ".safetensors" in files
    assert (tmp_path / "packed").stat().st_uid == USER_ID
