"""The public face: few names, documented, and stable."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import torchgauge as tg

ROOT = Path(tg.__file__).resolve().parents[2]

PUBLIC = [
    "Report",
    "Scenario",
    "TorchGaugeError",
    "__version__",
    "advise",
    "analyze",
    "calibrate",
    "compare",
    "devices",
    "estimate",
    "explain_oom",
    "fits",
    "load",
    "measure",
    "meta_construction",
    "plan_checkpoints",
    "register_flop_formula",
    "show",
    "summary",
]


def test_public_names_are_exactly_these():
    # A new name is a promise: add it here on purpose, and keep the list at 20 or below.
    assert sorted(tg.__all__) == PUBLIC
    assert len(tg.__all__) <= 20


def test_dir_shows_the_public_names_and_nothing_else():
    assert dir(tg) == PUBLIC


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_public_name_is_there_and_documented(name):
    value = getattr(tg, name)
    doc = inspect.getdoc(value)
    assert doc
    assert doc[0].isupper()
    assert doc.splitlines()[0].endswith(".")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'torchgauge' has no attribute 'sumary'"):
        tg.sumary  # noqa: B018


def test_a_submodule_never_hides_the_function_of_the_same_name():
    code = (
        "import torchgauge.api, torchgauge.analyze, torchgauge.measure.measurement\n"
        "import torchgauge as tg\n"
        "from torchgauge import analyze, measure\n"
        "assert tg.analyze is analyze is torchgauge.api.analyze, tg.analyze\n"
        "assert tg.measure is measure is torchgauge.api.measure, tg.measure\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "code",
    [
        "import torchgauge as tg\ncall, package = tg.estimate, tg.estimate",
        "from torchgauge import estimate as call\nimport torchgauge.estimate.memory as package",
        "import torchgauge.estimate.memory.lifetimes\nimport torchgauge.api\n"
        "package = torchgauge.estimate.memory\ncall = torchgauge.estimate",
        "from torchgauge.estimate.memory import lifetimes\nimport torchgauge.estimate as package\n"
        "call = package",
    ],
)
def test_estimate_is_a_function_and_a_package(code):
    check = "\nassert package.__path__ and callable(call)"
    subprocess.run([sys.executable, "-c", code + check], check=True, timeout=60)


def test_the_version_is_the_same_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab.]\w+)?", tg.__version__)
    assert importlib.metadata.version("torchgauge") == tg.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {tg.__version__}\n" in citation
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{tg.__version__}]" in changelog
