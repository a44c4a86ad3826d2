"""Other tools' module names answered by torchgauge: only when asked, whole, and taken back."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import torchgauge.compat
from torchgauge.compat import install
from torchgauge.compat.stand_in import TOOLS
from torchgauge.errors import UsageError

NAMES = tuple(name for names in TOOLS.values() for name in names)


@pytest.fixture(autouse=True)
def modules_as_before() -> Iterator[None]:
    before = {name: sys.modules.get(name) for name in NAMES}
    yield
    after = {name: sys.modules.get(name) for name in NAMES}
    for name, module in before.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module
    changed = [name for name in NAMES if before[name] is not after[name]]
    assert [name for name in changed if not name.startswith("fvcore")] == []


def run_script(tmp_path: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", *arguments, str(script), "7"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )


def test_nothing_is_taken_over_by_importing():
    code = """
        import sys, torchgauge, torchgauge.compat
        assert not {"torchinfo", "thop", "torchsummary", "ptflops", "fvcore"} & set(sys.modules)
        assert "torch" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_is_answered_and_given_back(tool):
    before = {name: sys.modules.get(name) for name in TOOLS[tool]}
    with install(tool, quiet=True):
        for name in TOOLS[tool]:
            module = importlib.import_module(name)
            if not (tool == "fvcore" and name in ("fvcore", "fvcore.nn")):
                assert module.__name__ == f"torchgauge.compat.{name}"
    if tool != "fvcore":  # of which the original's package may have been imported
        assert {name: sys.modules.get(name) for name in TOOLS[tool]} == before


def test_names_come_from_torchgauge():
    with install(quiet=True):
        from fvcore.nn import FlopCountAnalysis, flop_count_table
        from ptflops import get_model_complexity_info
        from thop import clever_format, profile
        from torchinfo import summary
        from torchinfo.enums import Units
        from torchsummary.torchsummary import summary_string
    for name in (FlopCountAnalysis, flop_count_table, get_model_complexity_info, clever_format,
                 profile, summary, Units, summary_string):  # fmt: skip
        assert name.__module__.startswith("torchgauge.compat.")
    assert summary(nn.Linear(3, 5), (1, 3), verbose=0).total_params == 20


def test_of_fvcore_the_rest_stays_where_it_is_installed():
    if importlib.util.find_spec("fvcore") is None:
        pytest.skip("fvcore is not installed (make setup-models)")
    import fvcore.nn

    original = fvcore.nn.FlopCountAnalysis
    with install("fvcore", quiet=True):
        from fvcore.nn import FlopCountAnalysis, sigmoid_focal_loss

        assert FlopCountAnalysis.__module__ == "torchgauge.compat.fvcore.nn.flop_count"
        assert sigmoid_focal_loss.__module__ == "fvcore.nn.focal_loss"
    assert fvcore.nn.FlopCountAnalysis is original


def test_it_says_so_unless_it_should_not(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "torchinfo", raising=False)
    install("torchinfo").uninstall()
    assert capsys.readouterr().err == "torchgauge stands in for torchinfo\n"
    install("torchinfo", quiet=True).uninstall()
    assert capsys.readouterr() == ("", "")


def test_a_tool_that_was_imported_before_is_named(capsys):
    with install("thop", quiet=True):
        install("thop").uninstall()
    assert "(thop had been imported: names taken from there stay)" in capsys.readouterr().err


def test_an_unknown_tool_is_refused_before_anything_is_done():
    before = dict(sys.modules)
    with pytest.raises(UsageError, match="does not stand in for 'torchview'"):
        install("torchinfo", "torchview")
    assert sys.modules.get("torchinfo") is before.get("torchinfo")


def test_a_script_runs_unchanged(tmp_path):
    code = """
        import sys
        from torchinfo import summary
        from torch import nn
        print(sys.argv[1:], __name__, summary.__module__)
        summary(nn.Linear(3, 5), (1, 3))
    """
    done = run_script(tmp_path, code, "-m", "torchgauge.compat")
    assert done.returncode == 0, done.stderr
    assert "['7'] __main__ torchgauge.compat.torchinfo" in done.stdout
    assert "Total params: 20" in done.stdout
    assert "torchgauge stands in for torchsummary, torchinfo, thop, fvcore, ptflops" in done.stderr


def test_a_module_runs_unchanged(tmp_path):
    (tmp_path / "job.py").write_text("import sys, thop\nprint(sys.argv[1:], thop.__name__)\n")
    done = subprocess.run(
        [sys.executable, "-m", "torchgauge.compat", "-m", "job", "--epochs", "1"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "['--epochs', '1'] torchgauge.compat.thop" in done.stdout


WITHOUT_OPERATORS = """
    import torch
    for name in ("nms", "qnms"):
        @torch.library.register_fake(f"torchvision::{name}")
        def shape(dets, scores, iou_threshold):
            return dets
    ready = True
"""
"""What ``import torchvision`` does where its compiled operators do not load."""
PROGRAMS = {
    "late": "from torchinfo import summary\ndef run():\n    from torchvision import ready\nrun()",
    "through a library": "import library",  # timm and transformers import it
    "looked for": "import importlib.util as util\nassert util.find_spec('torchvision')\n"
    "import torchvision",
    "with a repair of its own": "from torch.library import Library\n"
    "own = Library('torchvision', 'FRAGMENT')\n"
    "own.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
    "import torchvision",
}


@pytest.mark.skipif(torch.version.cuda is not None, reason="with CUDA a mismatch is to be heard of")
@pytest.mark.parametrize(
    "program",
    [
        *list(PROGRAMS)[:2],
        *(pytest.param(name, marks=pytest.mark.models) for name in list(PROGRAMS)[2:]),
    ],
)
def test_torchvision_is_imported_without_its_compiled_operators(tmp_path, program):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(WITHOUT_OPERATORS))
    (tmp_path / "library.py").write_text("from torchvision import ready\n")
    code = PROGRAMS[program] + "\nprint('it ran')\n"
    if program == "through a library":
        assert "operator torchvision::nms does not exist" in run_script(tmp_path, code).stderr
    done = run_script(tmp_path, code, "-m", "torchgauge.compat")
    assert (done.returncode, done.stdout) == (0, "it ran\n"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "usage: "), (("-m",), "usage: "), (("none.py",), "there is no file none.py")],
)
def test_without_a_program_it_says_what_it_wants(tmp_path, arguments, said):
    done = subprocess.run(
        [sys.executable, "-m", "torchgauge.compat", *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr


def test_the_package_lists_what_it_offers():
    assert set(torchgauge.compat.__all__) == {"StandIn", "install"}
