"""Model specs: how they are taken apart, and models from Python code."""

from __future__ import annotations

import sys

import pytest
import torch

from torchgauge.errors import ModelSpecError
from torchgauge.models.spec import SpecKind, build_model, parse_model_spec

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, depth=1):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])


class Real(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3))
        self.list = self.weight.detach().numpy().tolist()


class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear("a", 2)


def make(width=3):
    return Net(width)


def gives_a_dict():
    return {}


def leaves():
    import sys

    sys.exit(1)


net = Net(2)
number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current directory with ``net.py``; what is imported from it is forgotten afterwards."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "net", raising=False)  # another test's, of the same name
    before = set(sys.modules)
    with torch.random.fork_rng(devices=[]):  # net.py makes a model with real weights
        yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and file.startswith(str(tmp_path)):
            del sys.modules[name]


def build(text, **settings):
    return build_model(parse_model_spec(text, settings))


def refusal(text, **settings) -> ModelSpecError:
    with pytest.raises(ModelSpecError) as caught:
        build(text, **settings)
    return caught.value


# ---------------------------------------------------------------------------- taking apart


def test_each_form_is_recognised(folder):
    for name in ("w.safetensors", "w.safetensors.index.json", "w.pt", "w.bin", "w.PTH", "w.pt2"):
        (folder / name).touch()
    kinds = {
        "net.py:Net": SpecKind.PYTHON_FILE,
        "./net.py:Net(2)": SpecKind.PYTHON_FILE,
        "package.module:make": SpecKind.PYTHON_MODULE,
        "torchvision:resnet50": SpecKind.TORCHVISION,
        "timm:vit_base_patch16_224.augreg_in21k": SpecKind.TIMM,
        "hf:llama": SpecKind.HUGGING_FACE,
        "hf:some/config.json": SpecKind.HUGGING_FACE,
        "w.safetensors": SpecKind.SAFETENSORS,
        "w.safetensors.index.json": SpecKind.SAFETENSORS,
        "w.pt": SpecKind.CHECKPOINT,
        "w.bin": SpecKind.CHECKPOINT,
        "w.PTH": SpecKind.CHECKPOINT,
        "w.pt2": SpecKind.EXPORTED,
    }
    assert {text: parse_model_spec(text).kind for text in kinds} == kinds


def test_arguments_are_literals_by_position_and_by_name(folder):
    spec = parse_model_spec("net.py:Net(2, sizes=[1, (2, 3)], name='a)b', none=None)")
    assert spec.positional == (2,)
    assert spec.keywords == {"sizes": [1, (2, 3)], "name": "a)b", "none": None}
    assert spec.without_arguments == "net.py:Net"
    assert parse_model_spec("timm:resnet18(in_chans=1)").keywords == {"in_chans": 1}
    assert parse_model_spec("hf:llama", {"hidden_size": 8}).without_arguments == "hf:llama"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("resnet50", "'resnet50' is not a model spec", "torchvision:resnet50, timm:resnet50"),
        ("net.py", "'net.py' is not a model spec", "as in net.py:Net (it has Net, Real, Wrong"),
        ("net.py:", "'net.py:' names no model", "as in net.py:Net"),
        ("nett.py:Net", "there is no file nett.py", "did you mean net.py?"),
        ("a/b.py:Net", "there is no file a/b.py", "there is no folder a either"),
        ("w.pt", "there is no file w.pt", "check the path; the current directory is"),
        ("model.onnx", "'model.onnx' is not a model spec", "ONNX files are not read"),
        ("torchvision:", "'torchvision:' names no model", "write torchvision:NAME"),
        ("net.py:3x", "'3x' is not the name of a class, function or model", "file.py:Name"),
        ("net.py:Net(", "'Net(' is not the name of a class", "file.py:Name"),
        ("net.py:Net(width=)", "the arguments in 'net.py:Net(width=)' are not Python", "(width=2)"),
        ("net.py:Net(1)(2)", "the arguments in 'net.py:Net(1)(2)' are not Python", "(width=2)"),
        ("net.py:Net(**{'a': 1})", "** in ", "write each argument as name=value"),
    ],
)
def test_what_is_no_spec_says_what_would_be(text, message, hint, folder):
    error = refusal(text)
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize("code", ["__import__('os')", "open('x', 'w')", "width", "1 if 2 else 3"])
def test_arguments_are_never_run_as_code(code, folder):
    error = refusal(f"net.py:Net(width={code})")
    assert "is not a literal" in error.message
    assert "file.py:make_model" in error.hint
    assert not (folder / "x").exists()


def test_a_config_or_its_folder_without_prefix_is_explained(folder):
    (folder / "llama").mkdir()
    (folder / "llama/config.json").write_text("{}")
    assert refusal("llama/config.json").hint == "hf:llama/config.json"
    assert refusal("llama").hint == "hf:llama"


# ---------------------------------------------------------------------------- Python code


@pytest.mark.parametrize("text", ["net.py:Net(2, depth=3)", "net:Net(2, depth=3)"])
def test_a_class_is_built_without_memory(text, folder):
    made = build(text)
    assert made.name == "Net"
    assert made.spec == text
    assert len(made.model.layers) == 3
    assert all(parameter.is_meta for parameter in made.model.parameters())
    assert (made.warnings, made.assumptions, made.default_inputs) == ((), (), None)


def test_set_gives_arguments(folder):
    assert build("net.py:Net(2)", depth=4).model.layers[3].in_features == 2


def test_a_function_and_a_finished_model_are_taken(folder):
    assert build("net.py:make").model.layers[0].in_features == 3
    finished = build("net.py:net").model
    assert finished.layers[0].in_features == 2
    assert not any(parameter.is_meta for parameter in finished.parameters())


def test_an_exported_program_gives_its_module_and_its_inputs(folder):
    (folder / "program.py").write_text(
        "import torch\n"
        "def export():\n"
        "    return torch.export.export(torch.nn.Linear(4, 2), (torch.zeros(3, 4),))\n"
        "ready = export()\n"
    )
    for text in ("program.py:ready", "program.py:export"):
        made = build(text)
        assert sum(parameter.numel() for parameter in made.model.parameters()) == 10
        assert made.default_inputs.data[0].shape == (3, 4)


def test_a_constructor_that_needs_real_values_is_built_for_real_with_a_warning(folder):
    made = build("net.py:Real")
    assert not made.model.weight.is_meta
    assert len(made.warnings) == 1
    assert "net.py:Real could not be built without memory (" in made.warnings[0]
    assert "so it was built for real" in made.warnings[0]


def test_a_file_in_a_package_may_import_relatively(folder):
    package = folder / "zoo" / "nets"
    package.mkdir(parents=True)
    (folder / "zoo/__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "base.py").write_text("from torch import nn\n")
    (package / "small.py").write_text(
        "from .base import nn\ndef make():\n    return nn.Linear(2, 2)\n"
    )
    assert isinstance(build("zoo/nets/small.py:make").model, torch.nn.Linear)


def test_a_file_may_import_its_neighbour_and_bear_an_installed_name(folder):
    (folder / "sub").mkdir()
    (folder / "sub/helper.py").write_text("from torch import nn\n")
    (folder / "sub/json.py").write_text(
        "from helper import nn\ndef make():\n    return nn.Linear(2, 2)\n"
    )
    import json

    assert isinstance(build("sub/json.py:make").model, torch.nn.Linear)
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("net.py:Nett", "net.py has no 'Nett'", "did you mean Net?"),
        ("net.py:zzz", "net.py has no 'zzz'", "it has Net, Real, Wrong, net, make"),
        ("torch.nn:Linearr", "torch.nn has no 'Linearr'", "did you mean Linear"),
        ("net.py:Net", "net.py:Net: missing a required argument: 'width'", "add --set width=…"),
        ("net.py:Net(widht=2)", "net.py:Net: there is no argument 'widht'", "did you mean width?"),
        ("net.py:make(1, 2)", "net.py:make: too many positional arguments", "it takes (width=3)"),
        ("net.py:net(3)", "net.py:net is a finished Net and takes no arguments", "leave them out"),
        ("net.py:number", "net.py:number is an int, not a torch.nn.Module", "name a class"),
        ("net.py:gives_a_dict", "gives a dict, not a torch.nn.Module", "name a class"),
        ("net.py:leaves", "net.py:leaves ends the program (sys.exit at net.py:", "name a class"),
        ("net.py:Wrong", "net.py:Wrong: building the model failed at net.py:22: ", "correct that"),
        ("nowhere.at_all:Net", "there is no Python module 'nowhere'", "path/to/file.py:Name"),
        ("torchvison:resnet50", "no Python module 'torchvison'", "mean torchvision:resnet50?"),
    ],
)
def test_what_leads_to_no_model_says_why(text, message, hint, folder):
    error = refusal(text)
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("x = 1\ny = = 2\n", "bad.py:2: SyntaxError: invalid syntax", "--debug"),
        ("x = 1\n1 / 0\n", "bad.py:2: ZeroDivisionError: division by zero", "--debug"),
        ("import nonexistent_package\n", "bad.py:1: ModuleNotFoundError", "install what provides"),
        ("import json\njson.loads('{')\n", "bad.py:2: JSONDecodeError: Expecting", "--debug"),
        (
            "import sys\nsys.exit(3)\n",
            "ends the program while it is imported (sys.exit at bad.py:2)",
            'if __name__ == "__main__":',
        ),
    ],
)
def test_a_file_that_does_not_import_is_named_with_its_line(source, message, hint, folder):
    (folder / "bad.py").write_text(source)
    error = refusal("bad.py:Net")
    assert message in error.message
    assert hint in error.hint
    assert "bad" not in sys.modules
