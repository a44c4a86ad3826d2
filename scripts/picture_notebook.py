"""Draw the pictures of docs/notebook.md: a notebook in JupyterLab (`make notebook-pictures`)."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from make_gallery import IMAGES, ROOT, browser, save_small, shot

sys.path.append(str(ROOT / "tests" / "notebook"))
from lab import lab, run_all

CELLS = (
    "%load_ext torchgauge",
    "%gauge torchvision:resnet50 (3, 224, 224) mode=training optimizer=adamw device=T4 "
    "batch_size=64",
    "from torch import nn\n"
    "net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 10))\n"
    "%gauge net (3, 32, 32)",
)
VIEW = {"width": 1000, "height": 1500}


def write_notebook(path: Path) -> None:
    cells = [
        {
            "cell_type": "code", "id": f"cell-{number}", "source": source, "outputs": [],
            "execution_count": None, "metadata": {"tags": ["raises-exception"]},
        }
        for number, source in enumerate(CELLS)
    ]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    path.write_text(json.dumps(content))


def draw(chromium: Any, *, dark: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name) / "work", Path(name) / "home"
        folder.mkdir()
        home.mkdir()
        write_notebook(folder / "net.ipynb")
        with lab(home, folder, dark=dark) as address:
            page = chromium.new_page(viewport=VIEW, device_scale_factor=1.5)
            page.goto(address.format("net.ipynb"))
            page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
            page.keyboard.press("Control+b")  # without the list of files
            run_all(page)
            page.mouse.move(0, 0)
            whole = page.locator(".jp-WindowedPanel-viewport").first
            save_small(shot(whole), IMAGES / f"notebook-{'dark' if dark else 'light'}.png")
            page.close()


def main() -> None:
    with browser() as chromium:
        if chromium is not None:
            for dark in (False, True):
                draw(chromium, dark=dark)


if __name__ == "__main__":
    main()
