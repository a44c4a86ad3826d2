"""The blocks of docs/integrations.md and docs/agents.md run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NEEDED = {
    "A plain loop": "torch", "Lightning": "lightning.pytorch", "Transformers": "accelerate",
    "Accelerate": "accelerate", "Keras": "keras", "Hydra and OmegaConf": "omegaconf",
    "Trackers": "tensorboard", "Model cards": "torch",
}  # fmt: skip
"""What a section cannot do without: the Trainer of transformers imports accelerate."""
PRINTED = {"A plain loop": "peak memory of tensors: ", "Lightning": "fits", "Accelerate": "fits",
           "Keras": str(8 * 16 * 64), "Model cards": "| Parameters | 1,348 "}  # fmt: skip


def blocks(page: str) -> dict[str, str]:
    """Return the Python blocks of a page by the heading that they stand under."""
    text = (DOCS / page).read_text(encoding="utf-8")
    first, *sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    found = {"": first, **dict(zip(sections[::2], sections[1::2], strict=True))}
    code = {
        heading: "\n".join(re.findall(r"^```python\n(.*?)^```$", body, re.MULTILINE | re.DOTALL))
        for heading, body in found.items()
    }
    return {heading: text for heading, text in code.items() if text}


def needs(name: str) -> None:
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed (make test-integrations)")


def run(code: str, folder: Path) -> str:
    bin = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=250, check=False,
    )  # fmt: skip
    if done.returncode and "cannot be imported: " in done.stderr:
        pytest.skip(done.stderr.splitlines()[-2])  # installed, and of another build of torch
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_section_is_run():
    assert blocks("integrations.md").keys() - {""} == NEEDED.keys()


@pytest.mark.parametrize("heading", NEEDED)
def test_a_section_of_integrations(heading, tmp_path):
    needs(NEEDED[heading])
    code = blocks("integrations.md")
    printed = run(f"{code['']}\n{code[heading]}", tmp_path)
    assert PRINTED.get(heading, "") in printed
    if heading == "Model cards":
        assert "torchgauge: begin" in (tmp_path / "README.md").read_text()


def test_the_client_of_agents(tmp_path):
    needs("mcp")
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef Net():\n    return nn.Linear(16, 4)\n"
    )
    (code,) = blocks("agents.md").values()
    printed = run(code.replace('command="torchgauge", args=["mcp"]',
                               'command=sys.executable, args=["-m", "torchgauge", "mcp"]')
                  .replace("import anyio", "import sys, anyio"), tmp_path)  # fmt: skip
    assert printed.startswith("Linear · ")
    assert int(printed.split()[-1]) > 2**20
