"""``torchgauge package``: what is in the folder, what it says, and when there is none."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from deploy_models import Mlp, Noisy, Recurrent, Tagger, packaged
from torchgauge.cli.main import main
from torchgauge.deploy import manifest
from torchgauge.deploy.export.signature import Signature, SizeRange, signature_from_dict
from torchgauge.deploy.memory_table import read_memory
from torchgauge.deploy.verification import size_choices
from torchgauge.deploy.writing import save_program
from torchgauge.errors import CheckFailed, InputError, ModelError, PackageError
from torchgauge.facts.io import load_answer
from torchgauge.facts.scenario import Scenario

SPEC = "tests/deploy_models.py"
IN_BFLOAT16 = "the model in bfloat16: its weights take 134 B less"


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    model = Tagger()
    folder = tmp_path_factory.mktemp("packages") / "tagger"
    package = packaged(model, folder, inputs={"input_size": (2, 7), "dtypes": ["int64"]})
    return model, folder, package


def test_a_package_holds_what_is_promised(tagger):
    _, folder, _ = tagger
    assert sorted(os.listdir(folder)) == sorted(
        ["Dockerfile", "README.md", "manifest.json", "memory.json", "model.safetensors",
         "program.pt2", "report.json", "requirements.lock", "signature.json"]
    )  # fmt: skip
    facts = manifest.check_package(folder)
    assert facts["model"] == "Tagger"
    assert facts["torch_version"] == torch.__version__


def test_the_signature_names_what_varies_and_bounds_the_indices(tagger):
    _, folder, package = tagger
    signature = signature_from_dict(manifest.read_json(folder, manifest.SIGNATURE))
    assert signature == package.signature
    (ids,) = signature.inputs
    assert (ids.shape, ids.dtype, ids.minimum, ids.maximum) == (
        ("batch", "sequence"),
        "int64",
        0,
        49,
    )
    scores, pooled = signature.outputs
    assert (scores.name, scores.shape) == ("scores", ("batch", "sequence", 5))
    assert (pooled.name, pooled.shape) == ("pooled.0", ("batch", 16))
    assert signature.dimensions == {"batch": SizeRange(), "sequence": SizeRange(maximum=2048)}
    assert signature.can_batch


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch 2.9
def test_the_program_does_what_the_model_does_at_other_sizes(tagger):
    model, folder, package = tagger
    program = torch.export.load(folder / "program.pt2").module()
    model.eval()
    for batch, length in ((1, 1), (3, 20), (16, 5)):
        ids = torch.randint(0, 50, (batch, length))
        scores, pooled = program(ids)
        expected = model(ids)
        torch.testing.assert_close(scores, expected["scores"])
        torch.testing.assert_close(pooled, expected["pooled"][0])
    assert len(package.comparisons) == 4
    assert {c.sizes["batch"] for c in package.comparisons} == {1, 2, 3, 8}


def test_sizes_beyond_a_range_are_brought_into_it_not_left_out():
    signature = Signature(
        inputs=(), outputs=(),
        dimensions={"batch": SizeRange(), "sequence": SizeRange(maximum=32)},
    )  # fmt: skip
    choices = size_choices(signature, {"batch": 2, "sequence": 128})
    assert [(choice["batch"], choice["sequence"]) for choice in choices] == [
        (2, 32), (1, 1), (3, 32), (8, 16),
    ]  # fmt: skip


def test_the_weights_are_the_models(tagger):
    model, folder, _ = tagger
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(stored[name], value) for name, value in model.state_dict().items())


def test_the_report_the_card_and_the_lock(tagger):
    _, folder, _ = tagger
    report = load_answer(folder / "report.json")
    assert report.totals.params == sum(p.numel() for p in Tagger().parameters())
    card = (folder / "README.md").read_text()
    assert "| input | `ids` | [batch, sequence] | int64 | 0…49 |" in card
    assert "batch 8, sequence 3 | 0 | 0 |" in card
    lock = (folder / "requirements.lock").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}\n" in lock
    assert "uvicorn==" in lock
    assert "://" not in lock
    assert "torchgauge==" in lock


def test_memory_grows_with_the_batch_and_with_the_length(tagger):
    _, folder, _ = tagger
    (table,) = read_memory(folder)
    lengths = [line.up_to["sequence"] for line in table.lines]
    assert lengths == [16, 32, 64, 128, 256, 512, 1024, 2048]
    peaks = [line.peak_bytes(4) for line in table.lines]
    assert peaks == sorted(peaks)
    # 64 sequences of 16: words 64·16·16·4 B and more; weights below 10 kB.
    assert table.lines[0].peak_bytes(64) > 64 * 16 * 16 * 4


def test_the_model_is_left_as_it_was(tmp_path):
    model = Mlp().train()
    model.layers[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    packaged(model, tmp_path / "p", inputs={"input_size": (4,)})
    assert model.training
    assert not model.layers[0].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_batch_that_is_not_first_is_found(tmp_path):
    package = packaged(
        Recurrent(), tmp_path / "p", inputs={"input_size": (2, 6), "dtypes": ["int64"]}
    )
    assert [tensor.batch_dim for tensor in package.signature.outputs] == [0, 1]
    assert package.signature.outputs[1].shape == (1, "batch", 8)
    # torch.export unrolls nothing here, but fixes the length: the note says so.
    assert any("fixed at 6" in note for note in package.notes)


def test_further_dimensions_vary_when_asked_for(tmp_path):
    package = packaged(
        torch.nn.Linear(4, 2),
        tmp_path / "p",
        inputs={"input_size": (2, 5, 4)},
        dynamic={"input": {1: "time"}},
        longest=64,
    )
    assert package.signature.inputs[0].shape == ("batch", "time", 4)
    assert package.signature.dimensions["time"].maximum == 64


def test_real_inputs_of_the_user_are_compared_on(tmp_path):
    inputs = tmp_path / "inputs.safetensors"
    save_file({"x": torch.randn(3, 4)}, inputs)
    output = tmp_path / "p"
    assert main(["package", f"{SPEC}:Mlp", "--input-size", "4", "--inputs", str(inputs),
                 "--output", str(output), "--quiet"]) == 0  # fmt: skip
    assert "on the inputs given" in (output / "README.md").read_text()


def test_inputs_under_another_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="are y, the model takes x"):
        packaged(
            Mlp(), tmp_path / "p", inputs={"input_size": (4,)}, examples={"y": torch.zeros(2, 4)}
        )


class TwoNamesAlike(torch.nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        return {"a.b": y, "a": {"b": y + 1}}


def test_no_output_has_the_name_of_another(tmp_path):
    package = packaged(TwoNamesAlike(4, 2), tmp_path / "p", inputs={"input_size": (4,)})
    assert [tensor.name for tensor in package.signature.outputs] == ["a.b", "a.b_2"]


def test_where_the_batch_is_fixed_no_other_is_spoken_of(tmp_path, capsys):
    model = tmp_path / "fixed.py"
    model.write_text(
        "import torch\n"
        "class Fixed(torch.nn.Linear):\n"
        "    def __init__(self): super().__init__(4, 3)\n"
        "    def forward(self, x): return self.weight @ x\n"
    )
    spec, output = f"{model}:Fixed", tmp_path / "p"
    arguments = ["package", spec, "--input-size", "4,5", "--output", str(output), "--quiet"]
    assert main([*arguments, "--budget-memory", "1GiB", "--budget-batch", "8"]) == 2
    assert "this program has no batch that may vary" in capsys.readouterr().err
    assert main([*arguments, "--budget-memory", "1"]) == 1
    assert "error: one forward takes 200 B on cpu" in capsys.readouterr().err
    assert main([*arguments, "--longest", "9"]) == 0
    text = capsys.readouterr().out
    # weight 3·4, bias 3, input 4·5 and output 3·5 floats
    assert "Memory      200 B on cpu\n" in text
    assert "--longest 9 changes nothing: no length varies" in text
    card = (output / "README.md").read_text()
    assert "| device | up to | one forward |\n|---|---|---|\n| cpu | any | 200 B |" in card


# ---------------------------------------------------------------------------- refusals


def test_a_model_that_cannot_be_exported_gets_a_reason_and_a_way_out(tmp_path, capsys):
    output = tmp_path / "p"
    arguments = ["package", f"{SPEC}:Branching", "--input-size", "4", "--output", str(output)]
    assert main([*arguments, "--quiet"]) == 3
    text = capsys.readouterr().err
    line = next(
        number
        for number, line in enumerate(Path(SPEC).read_text().splitlines(), 1)
        if "if x.sum() > 0" in line
    )
    assert f"depends on the values of a tensor at deploy_models.py:{line}" in text
    assert "torch.where or torch.cond" in text
    assert "def forward" not in text  # torch prints its graph
    assert os.listdir(tmp_path) == []


def test_a_model_that_is_not_the_same_twice_is_refused(tmp_path):
    with pytest.raises(ModelError, match="gives different results from the model"):
        packaged(Noisy(), tmp_path / "p", inputs={"input_size": (4,)})
    assert os.listdir(tmp_path) == []


def test_nothing_is_written_where_the_format_fails(tmp_path, capsys, monkeypatch):
    """A format of the user's own is tried before the folder takes its name."""
    (tmp_path / "failing_format.py").write_text(
        "class Failing:\n    def render(self, page):\n        raise ValueError('no')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["package", f"{SPEC}:Mlp", "--input-size", "4", "--quiet"]
    arguments += ["--output", str(tmp_path / "package")]
    assert main([*arguments, "--format", "import:failing_format:Failing"]) == 2
    assert "import:failing_format:Failing failed: ValueError: no" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) in (
        [], ["__pycache__"],
    )  # fmt: skip


def test_over_budget_nothing_is_written_and_the_status_is_1(tmp_path, capsys):
    output = tmp_path / "p"
    arguments = ["package", f"{SPEC}:Mlp", "--input-size", "4", "--output", str(output), "--quiet"]
    assert main([*arguments, "--budget-memory", "1KiB", "--budget-batch", "10"]) == 1
    text = capsys.readouterr().err
    # Weights 4·8 + 8 + 8·3 + 3 floats; per sample 4 in, 8 before and 8 after the ReLU:
    # 268 B + 10 · 80 B = 1068 B.
    assert "a batch of 10 takes 1.04 KiB on cpu, the budget is 1.00 KiB" in text
    assert "try: --budget-batch 9, the largest that fits; the model in bfloat16" in text
    assert "--longest" not in text  # nothing but the batch varies
    assert os.listdir(tmp_path) == []
    assert main([*arguments, "--budget-memory", "1KiB", "--budget-batch", "9"]) == 0


@pytest.mark.parametrize(
    ("budget", "ways"),
    [
        # 268 B of weights and 80 B per sample; in 16 bits the weights take 134 B.
        (["340B"], IN_BFLOAT16),
        (
            ["350B", "--budget-batch", "2"],
            f"--budget-batch 1, the largest that fits; {IN_BFLOAT16}",
        ),
        # one sample does not fit, whatever the batch
        (["300B"], IN_BFLOAT16),
        (["100B"], "use a smaller model, or --budget-memory 348B: the weights alone take 268 B"),
    ],
)
def test_over_budget_only_what_helps_is_advised(tmp_path, capsys, budget, ways):
    arguments = ["package", f"{SPEC}:Mlp", "--input-size", "4", "--output", str(tmp_path / "p")]
    assert main([*arguments, "--quiet", "--budget-memory", *budget]) == 1
    assert capsys.readouterr().err.rpartition("try: ")[2].strip() == ways


def test_over_budget_a_shorter_length_is_advised_and_is_enough(tmp_path, capsys):
    arguments = [
        "package", f"{SPEC}:Tagger", "--input-size", "2,7", "--dtype", "int64",
        "--output", str(tmp_path / "p"), "--quiet", "--budget-memory", "100KiB",
    ]  # fmt: skip
    assert main(arguments) == 1
    longest = re.search(r"--longest (\d+)", capsys.readouterr().err)[1]
    assert main([*arguments, "--longest", str(2 * int(longest))]) == 1
    assert main([*arguments, "--longest", longest]) == 0


def test_over_the_budget_of_a_gpu_the_cpu_is_advised(tmp_path):
    """A CUDA context takes hundreds of MiB, whatever the model."""
    with pytest.raises(CheckFailed, match="serve it on the CPU, without --device: 348 B"):
        packaged(
            Mlp(), tmp_path / "p", inputs={"input_size": (4,)}, budget_bytes=2**20,
            scenario=Scenario(device="T4"),
        )  # fmt: skip


def test_a_gpu_is_predicted_for_without_one(tmp_path):
    with pytest.raises(CheckFailed, match="on T4"):
        packaged(
            Mlp(), tmp_path / "p", inputs={"input_size": (4,)}, budget_bytes=2**20,
            scenario=Scenario(device="T4"),
        )  # fmt: skip


def test_the_time_on_a_gpu_is_predicted_and_has_a_budget(tmp_path, capsys):
    output = tmp_path / "p"
    arguments = ["package", f"{SPEC}:Mlp", "--input-size", "4", "--output", str(output), "--quiet"]
    assert main([*arguments, "--budget-ms", "5"]) == 2
    assert "no time can be predicted for cpu" in capsys.readouterr().err
    assert main([*arguments, "--device", "T4", "--budget-ms", "0.000001"]) == 1
    assert "on T4, the budget is 0.0 µs; nothing was written" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
    assert main([*arguments, "--device", "T4", "--budget-ms", "1000"]) == 0
    cpu, gpu = read_memory(output)
    assert cpu.lines[0].milliseconds == {}
    assert list(gpu.lines[0].milliseconds) == [4, 16, 64]
    assert all(0 < ms < 1000 for ms in gpu.lines[0].milliseconds.values())
    assert "## Time of one forward, predicted" in (output / "README.md").read_text()


def test_a_folder_that_exists_is_kept_unless_it_is_a_package(tmp_path, capsys):
    output = tmp_path / "p"
    output.mkdir()
    (output / "precious.txt").write_text("mine")
    arguments = ["package", f"{SPEC}:Mlp", "--input-size", "4", "--output", str(output), "--quiet"]
    assert main(arguments) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 2
    assert "is not a package, so it is not overwritten" in capsys.readouterr().err
    (output / "precious.txt").unlink()
    assert main(arguments) == 0
    first = json.loads((output / "manifest.json").read_text())
    assert main([*arguments, "--overwrite"]) == 0
    second = json.loads((output / "manifest.json").read_text())
    assert first["files"]["model.safetensors"] != second["files"]["model.safetensors"]
    assert os.listdir(tmp_path) == ["p"]


@pytest.mark.parametrize(
    ("module", "function", "error"),
    [
        (torch.export, "save", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        (manifest, "write_manifest", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        # what safetensors raised on a full tmpfs
        (safetensors.torch, "save_model", SafetensorError("I/O error: No space left on device")),
    ],
)
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, module, function, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(module, function, full)
    with pytest.raises(PackageError, match=r"cannot write .*: .*; nothing was written"):
        packaged(Mlp(), tmp_path / "p", inputs={"input_size": (4,)})
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="only Linux has /proc")
def test_a_folder_that_cannot_be_written_is_named_with_the_systems_reason(capsys):
    assert main(["package", f"{SPEC}:Mlp", "--input-size", "4", "--output", "/proc/x"]) == 2
    text = capsys.readouterr().err
    assert (
        "cannot write /proc/x: no file can be created in /proc: No such file or directory" in text
    )
    assert " free" not in text
    assert main(["package", f"{SPEC}:Mlp", "--input-size", "4", "--output", "/proc"]) == 2
    assert "/proc is a mount point" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", "'.' does not name a new folder"),
        ("/", "'/' does not name a new folder"),
        ("x" * 300, "File name too long"),
    ],
)
def test_names_that_no_folder_can_have(tmp_path, monkeypatch, capsys, output, message):
    spec = f"{os.path.abspath(SPEC)}:Mlp"
    monkeypatch.chdir(tmp_path)
    assert main(["package", spec, "--input-size", "4", "--output", output]) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_the_longest_name_that_a_folder_can_have_is_enough(tmp_path):
    packaged(Mlp(), tmp_path / ("x" * 255), inputs={"input_size": (4,)})
    assert os.listdir(tmp_path) == ["x" * 255]


def test_too_little_space_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "torchgauge.deploy.writing.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9)
    )
    with pytest.raises(PackageError, match=r"the package takes .* has 9 B free"):
        packaged(Mlp(), tmp_path / "p", inputs={"input_size": (4,)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing/p"], "there is no folder missing"),
        (["p", "--dynamic", "x"], "'x' is not INPUT:DIM"),
        (["p", "--dynamic", "y:1"], "there is no input 'y'"),
        (["p", "--dynamic", "x:7"], "x has 2 dimensions, there is none numbered 7"),
        (["p", "--wheel", "no.whl"], "no.whl is not a wheel"),
        (["p", "--budget-memory", "lots"], "not a number of bytes"),
        (["p", "--inputs", "no.safetensors"], "cannot be read as inputs"),
    ],
)
def test_bad_requests(tmp_path, monkeypatch, capsys, arguments, message):
    spec = os.path.abspath(SPEC)
    monkeypatch.chdir(tmp_path)
    assert main(["package", f"{spec}:Mlp", "--input-size", "4", "--output", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_torch_does_not_abort_the_process_when_the_disk_is_full():
    program = torch.export.export(torch.nn.Linear(4, 2), (torch.zeros(2, 4),))
    with pytest.raises(OSError, match="No space left on device"):
        save_program(program, Path("/dev/full"))
