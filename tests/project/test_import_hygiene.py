"""What must stay light does not import torch, seen from a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = [
    "import torchgauge",
    "import torchgauge; dir(torchgauge)",
    "from torchgauge import Report, Scenario, TorchGaugeError",
    "import torchgauge.errors, torchgauge.units",
    "import torchgauge.facts.report, torchgauge.facts.trace, torchgauge.facts.query",
    "import torchgauge.facts.io",
    "import pkgutil, importlib, torchgauge.render as package\n"
    "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
    "    importlib.import_module(module.name)",
    "import pkgutil, importlib, torchgauge.estimate as package\n"
    "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
    "    importlib.import_module(module.name)",
    "import torchgauge; torchgauge.devices.find_device('T4')",
    "import torchgauge.devices.catalog",
    "import os; os.environ['PATH'] = ''\n"
    "from torchgauge.trace import local_gpus; local_gpus._NODES = (); local_gpus.local_gpus()",
    "from torchgauge.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass",
    "from torchgauge.cli.main import main\ntry:\n    main(['--version'])\nexcept SystemExit: pass",
    "from torchgauge.cli.main import main\ntry:\n    main(['summary', '--help'])\n"
    "except SystemExit: pass",
]


def heavy_modules_after(code: str) -> list[str]:
    """Run the code in a new interpreter and return which heavy packages it has imported."""
    probe = code + (
        "\nimport sys\nheavy = {'torch', 'torchvision', 'transformers', 'timm', 'numpy'}"
        "\nprint('\\nimported:', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("imported:")[2].split()


@pytest.mark.parametrize("code", LIGHT)
def test_light_code_does_not_import_torch(code):
    assert heavy_modules_after(code) == []


@pytest.mark.parametrize("code", ["import torch", "import torchgauge.trace.run.session"])
def test_the_check_sees_torch_when_it_is_imported(code):
    assert "torch" in heavy_modules_after(code)


def test_the_first_use_draws_no_random_number():
    """A seeded script goes on the same with and without a look at its model."""
    code = (
        "import random; before = random.getstate(); import torchgauge; torchgauge.summary\n"
        "assert random.getstate() == before"
    )
    heavy_modules_after(code)
