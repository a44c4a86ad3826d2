"""``torchgauge fit``: what it prints, in each format, and its exit statuses."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fit_builder
from torchgauge.cli.main import main
from torchgauge.facts.fit import FitReport
from torchgauge.render import FORMATS, get_format
from torchgauge.render.pages.fit import fit_page
from torchgauge.trace import local_gpus as reader

REPORTS = {
    "training": fit_builder.report,
    "generation": fit_builder.generation,
    "close": fit_builder.close,
    "many": fit_builder.many,
}
SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=256):
        super().__init__()
        print("built")
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, x):
        return self.layers(x)

class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("no such layer")
"""


@pytest.fixture(autouse=True)
def no_user_files_and_no_gpu(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(reader, "_NODES", ())
    for name in ("TORCHGAUGE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "net.py").write_text(SOURCE)
    yield
    sys.modules.pop("net", None)  # other tests have a file of that name


def shown(report, name="text", **options):
    return get_format(name, **options).render(fit_page(report))


def fit(*arguments: str) -> int:
    return main(["fit", *arguments])


# ---------------------------------------------------------------------------- rendering


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize(("width", "ascii"), [(80, False), (80, True), (160, False)])
def test_text(golden, name, width, ascii):
    text = shown(REPORTS[name](), width=width, ascii=ascii, details=width > 80)
    assert max(map(len, text.splitlines())) <= width
    assert not ascii or text.isascii()
    golden(f"fit_{name}_{'ascii' if ascii else width}.txt", text)


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("format", [name for name in FORMATS if name != "text"])
def test_other_formats(golden, name, format):
    golden(f"fit_{name}.{format}", shown(REPORTS[name](), format))


@pytest.mark.parametrize("name", REPORTS)
def test_json(golden, name):
    golden(f"fit_{name}.json", REPORTS[name]().to_json())


def test_csv_holds_plain_numbers():
    report = fit_builder.report()
    rows = list(csv.DictReader(io.StringIO(shown(report, "csv"))))
    assert [row["row"] for row in rows] == ["device"] + 4 * ["batch"] + 4 * ["alternative"]
    assert int(rows[0]["device_bytes"]) == report.devices[0].device_bytes
    assert int(rows[5]["difference_bytes"]) == report.alternatives[0].saved_bytes


def test_an_answer_is_rendered_without_torch():
    code = (
        "import sys; sys.path.insert(0, 'tests'); import fit_builder; "
        "from torchgauge.api import show; "
        "show(fit_builder.report()); assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# ---------------------------------------------------------------------------- the command


def test_a_step_that_fits(capsys):
    status = fit(
        "net.py:Net(width=2048)", "--input-size", "2048", "--batch-size", "64", "--mode",
        "training", "--optimizer", "adamw", "--device", "RTX 3060 12GB",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert status == 0
    assert printed.startswith("Net · x [64, 2048] float32 · training · adamw · RTX 3060 12GB\n")
    assert "Fits           yes: " in printed
    assert " GiB); RTX 3060 12GB has 11." in " ".join(printed.replace("MiB", "GiB").split())
    assert "Largest batch" in printed
    assert "What saves memory" in printed
    assert "built" not in printed  # what the model prints goes to stderr


def test_a_step_that_does_not_fit_exits_with_1(capsys):
    status = fit(
        "net.py:Net(width=40000)", "--input-size", "40000", "--batch-size", "8", "--mode",
        "training", "--optimizer", "adamw", "--device", "T4", "--no-search", "--no-alternatives",
    )  # fmt: skip
    assert status == 1
    assert "); T4 has 14.75 GiB (" in " ".join(capsys.readouterr().out.split())


def test_every_device(capsys):
    status = fit(
        "net.py:Net(width=40000)", "--input-size", "40000", "--mode", "training", "--device",
        "all", "--format", "json",
    )  # fmt: skip
    data = json.loads(capsys.readouterr().out)
    verdicts = {device["device"]: device["verdict"] for device in data["devices"]}
    assert status == 0  # it fits on some
    assert data["fits"] is False  # and not on all
    assert verdicts["H200-SXM"] == "fits"
    assert verdicts["GTX 1050"] == "does-not-fit"
    assert data["traces"] == 1


def test_several_devices_of_which_one_is_too_small(capsys):
    options = ("net.py:Net(width=40000)", "--input-size", "40000", "--mode", "training")
    assert fit(*options, "--device", "GTX 1050", "--device", "H200-SXM") == 1
    printed = capsys.readouterr().out
    assert "on 1 of 2 devices" in printed
    assert fit(*options, "--device", "H100-SXM", "--device", "H200-SXM") == 0


def test_a_precision_that_the_device_lacks(capsys):
    options = ("net.py:Net", "--input-size", "256", "--device", "T4", "--no-search")
    assert fit(*options, "--precision", "bf16-autocast", "--no-alternatives") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Warnings T4: T4 has no bf16 arithmetic" in printed
    assert "use fp16" in printed


def test_the_result_goes_to_a_file(tmp_path):
    out = tmp_path / "fit.json"
    assert fit("net.py:Net", "--input-size", "256", "--device", "T4", "--output", str(out)) == 0
    assert json.loads(out.read_text())["model"]["spec"] == "net.py:Net"


def test_a_language_model_that_generates(capsys):
    pytest.importorskip("transformers")
    settings = {
        "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
    }  # fmt: skip
    options = [f"--set={key}={value}" for key, value in settings.items()]
    status = fit(
        "hf:llama", *options, "--context", "512", "--batch-size", "4", "--device", "T4", "--cache",
        "static", "--no-search", "--no-alternatives", "--precision", "fp16",
    )  # fmt: skip
    printed = " ".join(capsys.readouterr().out.split())
    assert status == 0
    # 2 (K, V) × 2 layers × 2 heads × 16 × 2 bytes = 256 bytes per token.
    assert "512.00 KiB for 512 tokens per sequence · 256 B per token static cache" in printed


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--device", "RTX 3061"), 2, "there is no device 'RTX 3061'; did you mean RTX 3060"),
        ((), 2, "there is no GPU here whose kernels could be simulated"),
        (("--device", "cpu"), 2, "`fit` predicts GPU memory; the CPU is not one of its devices"),
        (("--device", "T4", "--optimizer", "adamw"), 2, "has no meaning in inference"),
        (("--device", "T4", "--checkpointing"), 2, "has no meaning in inference"),
        (("--device", "T4", "--cache", "static"), 2, "--cache needs a length"),
        (
            ("--device", "T4", "--context", "64"),
            2,
            "--context and --input-size contradict each other",
        ),
        (("--device", "T4", "--format", "csv", "--ascii"), 2, "--ascii has no meaning in csv"),
        (("--device", "T4", "--device"), 2, "expected one argument"),
    ],
)
def test_a_bad_request(capsys, arguments, status, message):
    assert fit("net.py:Net", "--input-size", "256", *arguments) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


# ---------------------------------------------------------------------------- strict

STRICT = ("--device", "T4", "--strict", "--no-search", "--no-alternatives", "--quiet")
TRAINED = ("--mode", "training", "--optimizer", "adamw")


@pytest.mark.parametrize("options", [(), TRAINED, ("--batch-size", "4"), ("--precision", "fp16")])
def test_strict_takes_what_says_how_the_figures_are_made(capsys, options):
    assert fit("net.py:Net", "--input-size", "256", *options, *STRICT) == 0
    captured = capsys.readouterr()
    assert "Assumptions" in captured.out and captured.err == "built\n"


@pytest.mark.parametrize(
    ("model", "options", "line"),
    [
        ("Chooses", (), "guessed: .item() was decided on an input that was made"),
        ("Exponential", (), "not counted: aten.linalg_matrix_exp.default (1 ×): "),
        ("Idle", (), "not counted: spare (0 ×): Linear was never called"),
        ("Bare", (), "guessed: the input size was read without a batch dimension"),
        ("Net", ("--precision", "bf16"), "warning: T4: T4 has no bf16 arithmetic"),
        (
            "Hides",
            (),
            "warning: 1 parameters (4 elements) are held by the model",
        ),
    ],
)
def test_strict_refuses_what_is_not_counted_or_guessed(capsys, tmp_path, model, options, line):
    (tmp_path / "net.py").write_text(SOURCE + DOUBTFUL)
    given = ("net.py:" + model, "--input-size", "256", *options)
    assert fit(*given, *STRICT) == 4
    captured = capsys.readouterr()
    assert (
        "torchgauge: error: --strict: the report is incomplete or holds guesses\n" in captured.err
    )
    assert f"\n  {line}" in captured.err
    assert "yes: " in captured.out
    assert fit(*given, *(option for option in STRICT if option != "--strict")) == 0


def test_strict_has_another_status_than_what_does_not_fit(capsys, tmp_path):
    (tmp_path / "net.py").write_text(SOURCE + DOUBTFUL)
    large = ("--batch-size", "8", *TRAINED, *STRICT)
    assert fit("net.py:Net(width=40000)", "--input-size", "40000", *large) == 1
    assert (
        fit("net.py:Chooses(width=40000)", "--input-size", "16", *large) == 4
    )  # a verdict that hangs on a guess
    assert capsys.readouterr().out.count("no: ") == 2


@pytest.mark.parametrize(("is_strict", "status"), [(False, 0), (True, 4)])
def test_what_is_too_close_to_call_exits_as_predicted_and_is_in_doubt(capsys, is_strict, status):
    """The other programs leave the device just what the step is predicted to take."""
    import torchgauge as tg

    sys.path.insert(0, ".")
    from net import Net

    report: FitReport = tg.fits(Net(), (256,), device="T4", search=False, alternatives=False)
    device = report.devices[0]
    others = ("--other-programs", str(device.headroom_bytes))
    options = STRICT if is_strict else [option for option in STRICT if option != "--strict"]
    assert fit("net.py:Net", "--input-size", "256", *others, *options) == status
    captured = capsys.readouterr()
    assert "too close to call: " in captured.out and "of it for other programs" in captured.out
    assert ("\n  too close to call on T4: " in captured.err) is is_strict
    beyond = ("--other-programs", str(device.headroom_bytes + 1))
    assert fit("net.py:Net", "--input-size", "256", *beyond, *options) == (4 if is_strict else 1)


DOUBTFUL = """
class Chooses(Net):
    def __init__(self, width=256):
        super().__init__(width)
        self.embedding = nn.Embedding(10, width)
        self.layers = nn.Sequential(self.embedding, self.layers)

    def forward(self, ids):
        return self.layers(ids) * int(ids.max().item() + 1)

class Exponential(Net):
    def forward(self, x):
        return self.layers(x) + torch.matrix_exp(x.T @ x).sum()

class Idle(Net):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)

class Bare(nn.Module):
    def forward(self, x):
        return x + 1

class Hides(Net):
    def __init__(self):
        super().__init__()
        self.kept = [nn.Parameter(torch.ones(4))]

    def forward(self, x):
        return super().forward(x) + self.kept[0].sum()
"""


def test_an_input_is_needed(capsys):
    assert fit("net.py:Net", "--device", "T4") == 2
    assert "a step needs inputs" in capsys.readouterr().err


def test_a_model_that_fails_exits_with_3(capsys):
    assert fit("net.py:Broken", "--input-size", "256", "--device", "T4") == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Broken failed in forward: RuntimeError: no such layer" in captured.err


def test_the_answer_of_the_command_is_that_of_the_function(capsys):
    import torchgauge as tg

    fit("net.py:Net", "--input-size", "256", "--device", "T4", "--format", "json")
    data = json.loads(capsys.readouterr().out)
    sys.path.insert(0, ".")
    from net import Net

    report: FitReport = tg.fits(Net(), (256,), device="T4")
    expected = json.loads(report.to_json())
    for key in ("devices", "breakdown", "alternatives", "largest_batch"):
        assert data[key] == expected[key], key
