"""Packages of strangers: whatever is wrong with one, it is refused, and nothing in it runs."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import warnings
import zipfile
from contextlib import suppress

import pytest
import torch
from torch.torch_version import TorchVersion

from deploy_models import Mlp, Tagger, packaged
from torchgauge.deploy import manifest
from torchgauge.deploy.serving.model import open_package
from torchgauge.errors import PackageError, TorchGaugeError
from torchgauge.models.exported_archive import check_archive
from torchgauge.models.exported_graph import UnsafeProgram, check_guard, check_size_expression


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages") / "tagger"
    packaged(Tagger(), folder, inputs={"input_size": (2, 7), "dtypes": ["int64"]}, longest=16)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "p")


def rehash(folder):
    """Make the manifest fit whatever the files are now, as one who means harm would."""
    facts = json.loads((folder / "manifest.json").read_text())
    facts = {key: facts[key] for key in facts if key not in ("format", "format_version", "files")}
    manifest.write_manifest(folder, facts)


def rewrite(path, change, *, added=None, compression=zipfile.ZIP_STORED):
    """Write the archive again with ``change(name, data) -> data`` applied to every entry."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in [*entries, *(added or {}).items()]:
            archive.writestr(name, change(name, data))


def change_graph(folder, change):
    """Apply ``change`` to the graph's JSON in place, and make the hashes fit."""

    def in_entry(name, data):
        if not name.endswith(("models/model.json", "serialized_exported_program.json")):
            return data
        graph = json.loads(data)
        change(graph)
        return json.dumps(graph).encode()

    rewrite(folder / "program.pt2", in_entry)
    rehash(folder)


def nodes_of(graph):
    return graph["graph_module"]["graph"]["nodes"]


# ---------------------------------------------------------------------------- harm


def _guard(graph, canary):
    text = f"__import__('pathlib').Path({str(canary)!r}).touch() or True"
    graph.setdefault("guards_code", []).append(text)


def _guard_in_disguise(graph, canary):
    graph.setdefault("guards_code", []).append(
        f"L['tensors'][0].size.__func__.__globals__['open']({str(canary)!r}, 'w')"
    )


def _expression(graph, canary):
    text = f"__import__('pathlib').Path({str(canary)!r}).touch() or 1"
    for value in graph["graph_module"]["graph"]["tensor_values"].values():
        for size in value["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = text


def _range(graph, canary):
    name = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    graph["range_constraints"][name] = {"min_val": 1, "max_val": 2}


def _function(graph, canary):
    nodes_of(graph)[0]["target"] = "torch.serialization.os.system"


def _file_operator(graph, canary):
    nodes_of(graph)[0]["target"] = "torch.ops.aten.from_file.default"


def _foreign_operator(graph, canary):
    nodes_of(graph)[0]["target"] = "torch.ops.evil.run.default"


def _name(graph, canary):
    harm = f"x = open({str(canary)!r}, 'w'); embedding"
    text = json.dumps(graph).replace('"embedding"', json.dumps(harm))
    graph.update(json.loads(text))


def _weight_path(graph, canary):
    specification = graph["graph_module"]["signature"]["input_specs"][0]["parameter"]
    specification["parameter_name"] = f'x"), open({str(canary)!r}, "w'


def _argument_type(graph, canary):
    call = graph["graph_module"]["module_call_graph"][0]["signature"]
    call["in_spec"] = call["in_spec"].replace("builtins.dict", "os.system", 1)


def _own_object(graph, canary):
    nodes_of(graph)[0]["inputs"][0]["arg"] = {"as_custom_obj": {"name": "x", "class_fqn": "x.Y"}}


HARM = [
    _guard, _guard_in_disguise, _expression, _range, _function, _file_operator, _foreign_operator,
    _name, _weight_path, _argument_type, _own_object,
]  # fmt: skip


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_a_graph_that_means_harm_is_refused_before_it_is_loaded(
    folder, tmp_path, harm, monkeypatch
):
    canary = tmp_path / "canary"
    change_graph(folder, lambda graph: harm(graph, canary))
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(PackageError, match="is not loaded"):
        open_package(folder)
    assert not canary.exists()


@pytest.mark.parametrize("harm", [_expression, _guard], ids=lambda harm: harm.__name__)
def test_the_harm_would_be_done_without_the_check(folder, tmp_path, harm):
    """What the check is for: torch itself runs what the file says."""
    if harm is _guard and torch.__version__ < TorchVersion("2.9"):
        pytest.skip("programs have no guards in this version")
    canary = tmp_path / "canary"
    change_graph(folder, lambda graph: harm(graph, canary))
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        program = torch.export.load(folder / "program.pt2").module()
        program(torch.zeros(2, 3, dtype=torch.int64))
    assert canary.exists()


class _Pickled:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (open, (str(self._path), "w"))


@pytest.mark.parametrize(
    "name",
    ["program/data/constants/opaque_obj_0", "program/data/constants/custom_obj_0",
     "program/data/aotinductor/model/x.so", "program/extra/x.pkl", "../outside", "program/code.py"],
)  # fmt: skip
def test_entries_that_are_no_part_of_a_program_are_refused(folder, tmp_path, name):
    harm = pickle.dumps(_Pickled(tmp_path / "canary"))
    rewrite(folder / "program.pt2", lambda _, data: data, added={name: harm})
    rehash(folder)
    with pytest.raises(PackageError, match="is not part of a program"):
        open_package(folder)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("entry", ["weights", "sample_inputs"])
def test_a_pickle_in_a_weights_place_does_not_run(folder, tmp_path, entry):
    canary = tmp_path / "canary"
    harm = pickle.dumps(_Pickled(canary))

    def change(name, data):
        if entry == "sample_inputs" and ("sample_inputs" in name or "example_inputs" in name):
            return harm
        if entry == "weights" and "serialized_state_dict" in name:  # before torch 2.8
            return harm
        if entry == "weights" and name.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true')
        if entry == "weights" and "/weights/weight_" in name:
            return harm
        return data

    rewrite(folder / "program.pt2", change)
    rehash(folder)
    with pytest.raises(PackageError, match="cannot be loaded"):
        open_package(folder)
    assert not canary.exists()


def test_compressed_entries_are_refused(folder):
    rewrite(folder / "program.pt2", lambda _, data: data, compression=zipfile.ZIP_DEFLATED)
    rehash(folder)
    with pytest.raises(PackageError, match="holds compressed entries"):
        open_package(folder)


@pytest.mark.parametrize(
    "text",
    ["", "x", "s0.is_integer", "s0[0]", "(lambda: 1)()", "[s0 for s0 in (1,)]", "s0 if 'a' else 1",
     "Symbol('os')", "Symbol('s0', commutative=True)", "print(1)", "s0\n", "1" * 3000, 5, None,
     "Float('__import__(1)')", "f'{1}'", "s0:=1"],
)  # fmt: skip
def test_what_is_no_expression_of_sizes(text):
    with pytest.raises(UnsafeProgram, match="is not on sizes"):
        check_size_expression(text)


@pytest.mark.parametrize(
    "text",
    ["s0", "2*s0 + 1", "Max(1, s0//2)", "Mul(Integer(2), Symbol('s27', positive=True))",
     "u0 <= 5", "Mod(s0, 8)", "-s1", "FloorDiv(s0, 2)"],
)  # fmt: skip
def test_what_is_one(text):
    check_size_expression(text)


@pytest.mark.parametrize("text", ["L['x'].data", "L['x'].size.__self__", "open('x')", "L.x", "x"])
def test_guards_that_are_not_on_sizes(text):
    with pytest.raises(UnsafeProgram):
        check_guard(text)


# ---------------------------------------------------------------------------- damage


def test_a_changed_missing_or_unknown_file_is_named(folder):
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(PackageError, match=r"model\.safetensors in .* is not the file"):
        manifest.check_package(folder)
    weights.unlink()
    with pytest.raises(PackageError, match=r"lacks model\.safetensors"):
        manifest.check_package(folder)


def test_an_unknown_file_is_refused(folder):
    (folder / "sitecustomize.py").write_text("")
    with pytest.raises(PackageError, match=r"holds sitecustomize\.py, which its manifest\.json"):
        manifest.check_package(folder)


def test_links_are_refused(folder, tmp_path):
    (folder / "README.md").rename(tmp_path / "elsewhere")
    (folder / "README.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackageError, match="is not a regular file"):
        manifest.check_package(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.update(format="zip"), "not a torchgauge package"),
        (lambda facts: facts.update(format_version=99), "has format 99"),
        (lambda facts: facts.update(files=[]), "lists no files"),
        (lambda facts: facts["files"].update({"../x": {}}), "lists '../x', which does not belong"),
        (lambda facts: facts["files"].pop("program.pt2"), r"does not list program\.pt2"),
        (lambda facts: facts["files"]["README.md"].update(bytes="1"), r"damaged at README\.md"),
        (lambda facts: facts["files"]["README.md"].update(sha256="x"), r"damaged at README\.md"),
    ],
)
def test_a_manifest_that_is_not_right(folder, change, message):
    facts = json.loads((folder / "manifest.json").read_text())
    change(facts)
    (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(PackageError, match=message):
        manifest.check_package(folder)


@pytest.mark.parametrize("name", ["signature.json", "memory.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}", "{" * 5000, '{"inputs": 1, "tables": 1}'])
def test_a_damaged_signature_or_memory_table_is_refused(folder, name, text):
    (folder / name).write_text(text)
    rehash(folder)
    with pytest.raises(PackageError):
        open_package(folder)


def test_a_signature_of_another_program_is_refused(folder, tmp_path):
    packaged(Mlp(), tmp_path / "mlp", inputs={"input_size": (4,)})
    (folder / "signature.json").write_bytes((tmp_path / "mlp" / "signature.json").read_bytes())
    rehash(folder)
    with pytest.raises(PackageError, match="takes 1 tensor and returns 2, its signature says"):
        open_package(folder)


@pytest.mark.parametrize("seed", range(25))
def test_damaged_bytes_are_refused_or_harmless(original, tmp_path, seed):
    """Random bytes changed, cut or inserted: an error of ours, or still a program."""
    draw = random.Random(seed)
    path = tmp_path / "program.pt2"
    data = bytearray((original / "program.pt2").read_bytes())
    for _ in range(draw.randint(1, 8)):
        place = draw.randrange(len(data))
        kind = draw.choice(("flip", "cut", "insert"))
        if kind == "flip":
            data[place] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del data[place : place + draw.randint(1, 50)]
        else:
            data[place:place] = draw.randbytes(draw.randint(1, 50))
    path.write_bytes(data)
    try:
        check_archive(path)
    except TorchGaugeError as error:
        assert str(path) in error.message
