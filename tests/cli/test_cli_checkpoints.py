"""Checkpoints as models: what is read from them, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import struct
import warnings

import pytest
import torch

from torchgauge.cli.main import main
from torchgauge.errors import ModelSpecError
from torchgauge.models.sources.skeleton import StoredTensor, build_skeleton
from torchgauge.models.spec import build_model, parse_model_spec


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):  # the tests make models with real weights
        yield tmp_path


def build(text):
    return build_model(parse_model_spec(text))


def refusal(text) -> ModelSpecError:
    with pytest.raises(ModelSpecError) as caught:
        build(text)
    return caught.value


def write_safetensors(path, tensors, *, cut=0, data=True):
    """Write the format by hand: ``tensors`` is name → (dtype, shape, bytes)."""
    header, position = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, nbytes) in tensors.items():
        header[name] = {
            "dtype": dtype, "shape": shape, "data_offsets": [position, position + nbytes],
        }  # fmt: skip
        position += nbytes
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text
    path.write_bytes(content + bytes(position - cut) if data else content)


def small_model():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    model.add_module("head", torch.nn.Linear(4, 4))
    model.head.weight = model[0].weight
    return model


def stored_bytes(model):
    return sum(p.numel() * p.element_size() for p in [*model.parameters(), *model.buffers()])


# ---------------------------------------------------------------------------- safetensors


def test_a_header_becomes_a_tree_of_modules(folder):
    write_safetensors(
        folder / "w.safetensors",
        {
            "layers.0.weight": ("F32", [4, 3], 48),
            "layers.0.bias": ("BF16", [4], 8),
            "norm.running_mean": ("F32", [4], 16),
            "norm.num_batches_tracked": ("I64", [], 8),
            "scale": ("F8_E4M3", [2], 2),
        },
    )
    made = build("w.safetensors")
    assert made.name == "w"
    assert made.runs is False
    assert {name: (tuple(p.shape), p.dtype) for name, p in made.model.named_parameters()} == {
        "layers.0.weight": ((4, 3), torch.float32),
        "layers.0.bias": ((4,), torch.bfloat16),
        "scale": ((2,), torch.float8_e4m3fn),
    }
    assert set(dict(made.model.named_buffers())) == {
        "norm.running_mean",
        "norm.num_batches_tracked",
    }
    assert all(tensor.is_meta for tensor in made.model.state_dict().values())
    assert made.assumptions == (
        "a checkpoint does not say what is trained: every floating-point weight counts as "
        "trainable",
    )


def test_packed_weights_keep_their_stored_bytes_and_do_not_train(folder):
    write_safetensors(
        folder / "w.safetensors",
        {"q.qweight": ("I32", [8, 4], 128), "q.scales": ("F16", [4], 8), "f.w": ("F4", [16], 8)},
    )
    made = build("w.safetensors")
    assert stored_bytes(made.model) == 128 + 8 + 8
    trained = {name: p.requires_grad for name, p in made.model.named_parameters()}
    assert trained == {"q.qweight": False, "q.scales": True, "f.w": False}
    assert "2 packed integer tensors are counted as stored" in made.assumptions[1]


def test_no_weight_is_read(folder):
    write_safetensors(
        folder / "big.safetensors", {"w": ("F32", [10**6, 10**6], 4 * 10**12)}, data=0
    )
    os.truncate("big.safetensors", os.path.getsize("big.safetensors") + 4 * 10**12)  # sparse
    made = build("big.safetensors")
    assert made.model.w.numel() == 10**12
    assert made.warnings == ()


def test_a_file_cut_short_is_warned_about(folder):
    write_safetensors(folder / "w.safetensors", {"w": ("F32", [4], 16)}, cut=1)
    assert build("w.safetensors").warnings == (
        "w.safetensors is shorter than its header says: the download is cut",
    )


def test_shards_are_put_together(folder):
    write_safetensors(folder / "a.safetensors", {"x.weight": ("F32", [4], 16)})
    write_safetensors(folder / "b.safetensors", {"x.bias": ("F32", [2], 8)})
    index = {"weight_map": {"x.weight": "a.safetensors", "x.bias": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    made = build("model.safetensors.index.json")
    assert made.name == "model"
    assert [name for name, _ in made.model.named_parameters()] == ["x.weight", "x.bias"]
    (folder / "b.safetensors").unlink()
    assert (
        "names b.safetensors, not found next to it"
        in refusal("model.safetensors.index.json").message
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first bytes are not the length of a header"),
        (b"version https://git-lfs.github.com/spec/v1", "its first bytes are not the length"),
        (struct.pack("<Q", 4) + b"nope", "Expecting value"),
        (struct.pack("<Q", 2) + b"[]", "its header is not a JSON object"),
        (struct.pack("<Q", 10) + b'{"w": {}} ', "its header has no dtype for w"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(content, message, folder):
    (folder / "w.safetensors").write_bytes(content)
    error = refusal("w.safetensors")
    assert error.message.startswith("w.safetensors is not a safetensors file: ")
    assert message in error.message
    assert "Git LFS pointer" in error.hint


def test_a_shape_that_contradicts_its_bytes_is_refused(folder):
    write_safetensors(folder / "w.safetensors", {"w": ("F32", [4], 12)})
    assert refusal("w.safetensors").message == (
        "w.safetensors is damaged: w is [4] F32 and has 12 bytes"
    )


def test_an_index_leads_nowhere_else(folder):
    (folder / "sub").mkdir()
    write_safetensors(folder / "w.safetensors", {"w": ("F32", [4], 16)})
    (folder / "sub/model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"w": "../w.safetensors"}})
    )
    assert "names w.safetensors, not found" in refusal("sub/model.safetensors.index.json").message


# ---------------------------------------------------------------------------- torch.save


@pytest.mark.parametrize("new_format", [True, False])
def test_a_state_dict_counts_shared_weights_once(new_format, folder):
    torch.save(small_model().state_dict(), "w.pt", _use_new_zipfile_serialization=new_format)
    made = build("w.pt")
    assert made.model.head.weight is dict(made.model.named_parameters())["0.weight"]
    assert sum(p.numel() for p in made.model.parameters()) == 16 + 4 + 8 + 4
    assert len(list(made.model.buffers())) == 3
    assert all(parameter.is_meta for parameter in made.model.parameters())


def test_the_weights_in_a_training_checkpoint_are_found(folder):
    torch.save(
        {"epoch": 3, "state_dict": small_model().state_dict(), "optimizer": {"lr": 1}}, "w.ckpt"
    )
    made = build("w.ckpt")
    assert made.notes == ("the weights are those under 'state_dict' in w.ckpt",)
    assert sum(p.numel() for p in made.model.parameters()) == 32


def test_entries_that_are_no_tensors_are_mentioned(folder):
    torch.save({"w": torch.zeros(2), "epoch": 3}, "w.pt")
    assert build("w.pt").notes == ("1 entries of w.pt are not tensors: epoch",)


def test_quantized_tensors_keep_their_bytes(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.quantize_per_tensor(torch.zeros(4, 3), 0.1, 0, torch.qint8)
        torch.save({"w": tensor}, "w.pt")
    made = build("w.pt")
    assert stored_bytes(made.model) == 12
    assert made.model.w.dtype is torch.uint8


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("was_run",))


def test_pickled_code_is_refused_and_not_run(folder):
    torch.save(small_model(), "model.pt")
    torch.save({"w": torch.zeros(2), "x": RunsCode()}, "evil.pt")
    (folder / "plain.pt").write_bytes(pickle.dumps(RunsCode()))
    error = refusal("model.pt")
    assert error.message == (
        "model.pt wants to run pickled code (torch.nn.modules.container.Sequential), "
        "which torchgauge does not do"
    )
    assert "torch.save(model.state_dict(), …)" in error.hint
    assert "file.py:Name" in error.hint
    assert "evil.pt wants to run pickled code" in refusal("evil.pt").message
    refusal("plain.pt")
    assert not (folder / "was_run").exists()


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_what_is_no_checkpoint_is_refused(content, folder):
    (folder / "w.pt").write_bytes(content)
    assert "w.pt cannot be read as a PyTorch checkpoint: " in refusal("w.pt").message


@pytest.mark.parametrize(
    ("saved", "found"),
    [({"epoch": 3}, "it has epoch"), ({}, "it is empty"), ([1, 2], "it holds a list")],
)
def test_a_file_without_weights_is_refused(saved, found, folder):
    torch.save(saved, "w.pt")
    error = refusal("w.pt")
    assert error.message == f"there is no state dict in w.pt: {found}"


def test_a_torchscript_archive_is_explained(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), "w.pt")
    error = refusal("w.pt")
    assert error.message == "w.pt is a TorchScript archive, not a checkpoint"
    assert "torch.jit.load" in error.hint


def test_a_checkpoint_takes_no_arguments(folder):
    torch.save({}, "w.pt")
    with pytest.raises(ModelSpecError, match=r"--set has no meaning for w\.pt"):
        parse_model_spec("w.pt", {"width": 2})


# ---------------------------------------------------------------------------- names


def test_names_that_modules_cannot_have_are_changed_and_none_is_lost():
    names = ("weight", "weight.absmax", "weight.state.nf4", "a..b", "type.half", "x.type", ".y")
    tensors = [StoredTensor(name=name, shape=(1,), dtype=torch.float32) for name in names]
    made = build_skeleton("spec", "name", tensors)
    assert {name for name, _ in made.model.named_parameters()} == {
        "weight", "weight/absmax", "weight/state/nf4", "a._.b", "type_.half_", "x.type_", "_.y",
    }  # fmt: skip
    assert sum(parameter.numel() for parameter in made.model.parameters()) == len(names)


# ---------------------------------------------------------------------------- torch.export


def save_program(path):
    program = torch.export.export(torch.nn.Linear(4, 2), (torch.zeros(3, 4),))
    torch.export.save(program, path)


def test_an_exported_program_brings_its_example_inputs(folder):
    save_program("linear.pt2")
    made = build("linear.pt2")
    assert made.name == "linear"
    assert sum(parameter.numel() for parameter in made.model.parameters()) == 10
    assert made.default_inputs.data[0].shape == (3, 4)
    assert made.model(*made.default_inputs.data).shape == (3, 2)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_an_exported_program_of_fixed_sizes_says_nothing_but_its_result(folder, capsys):
    class Named(torch.nn.Linear):
        def forward(self, x):
            return {"out": super().forward(x)}

    program = torch.export.export(Named(4, 2), (torch.zeros(3, 4),))
    torch.export.save(program, "named.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none is the user's
        assert main(["summary", "named.pt2"]) == 0
    assert capsys.readouterr().err == ""
    status = main(["summary", "named.pt2", "--input-size", "5,4"])
    error = capsys.readouterr().err
    if "Guard failed" in error:  # torch 2.6 checks in another way
        assert status == 3
        assert "the program was exported for other sizes" in error


def test_an_exported_program_runs_no_pickled_code(folder):
    import zipfile

    save_program("linear.pt2")
    replaced = 0
    with zipfile.ZipFile("linear.pt2") as old, zipfile.ZipFile("evil.pt2", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if "sample_inputs" in name or "example_inputs" in name:  # 2.13, 2.6
                torch.save(RunsCode(), "inputs")
                content = (folder / "inputs").read_bytes()
                replaced += 1
            new.writestr(name, content)
    assert replaced == 1
    error = refusal("evil.pt2")
    assert "evil.pt2 wants to run pickled code, which torchgauge does not do" in error.message
    assert not (folder / "was_run").exists()


def test_what_is_no_exported_program_is_refused(folder, capfd):
    (folder / "w.pt2").write_bytes(b"hello")
    torch.save({"w": torch.zeros(1)}, "weights.pt")
    os.rename("weights.pt", "weights.pt2")
    assert "w.pt2 is not an exported program" in refusal("w.pt2").message
    assert "holds a compiled package or a pickle" in refusal("weights.pt2").message
    assert capfd.readouterr().err == ""
