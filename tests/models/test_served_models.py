"""Real models, packaged and served: what comes over HTTP equals what the model gives.

A convolutional network, a vision transformer, an LSTM and a Llama with tokens of any length.
"""

from __future__ import annotations

import base64
import json
import struct
import urllib.request

import pytest
import torch

from serving_process import running
from torchgauge.cli.main import main
from torchgauge.deploy.package import package_model
from torchgauge.deploy.parts import PackageRequest
from torchgauge.models.spec import build_model, parse_model_spec
from torchgauge.request import Inputs, Request

pytestmark = pytest.mark.models

LLAMA = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 256,
}  # fmt: skip
CASES = [
    ("torchvision:resnet50", {}, {"input_size": (2, 3, 224, 224)}, [(1,), (3,)], 1e-5),
    ("torchvision:vit_b_16", {}, {"input_size": (2, 3, 224, 224)}, [(1,), (3,)], 1e-5),
    ("tests/deploy_models.py:Recurrent", {}, {"input_size": (2, 12), "dtypes": ["int64"]},
     [(1,), (5,)], 1e-6),
    ("hf:llama", LLAMA, {"input_size": {"input_ids": (2, 16)}, "dtypes": ["int64"]},
     [(1, 1), (3, 40), (2, 200)], 1e-5),
]  # fmt: skip


def encoded(tensor):
    data = tensor.numpy().tobytes()
    dtype = str(tensor.dtype).removeprefix("torch.")
    text = base64.b64encode(data).decode()
    return {"dtype": dtype, "shape": list(tensor.shape), "data": text}


def asked(port, name, tensor):
    data = {"inputs": {name: encoded(tensor)}, "encoding": "base64"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/predict",
        json.dumps(data).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        outputs = json.load(response)["outputs"]
    return {
        name: torch.tensor(
            struct.unpack(f"<{torch.Size(o['shape']).numel()}f", base64.b64decode(o["data"]))
        ).reshape(o["shape"])
        for name, o in outputs.items()
    }


@pytest.mark.parametrize(
    ("spec", "settings", "inputs", "choices", "tolerance"), CASES, ids=[c[0] for c in CASES]
)
def test_what_is_served_equals_the_model(tmp_path, spec, settings, inputs, choices, tolerance):
    torch.manual_seed(0)
    build = build_model(parse_model_spec(spec, settings), with_weights=True)
    model = build.model.eval()
    folder = tmp_path / "p"
    inputs = Inputs.taken_from(dict(inputs))
    request = Request(model=model, spec=spec, name=build.name, inputs=inputs)
    package = package_model(folder, PackageRequest(asked=request))
    (given,) = package.signature.inputs
    assert max(c.max_relative_difference for c in package.comparisons) <= tolerance
    with running(folder) as server:
        for sizes in choices:
            bound = dict(zip(package.signature.dimensions, sizes, strict=True))
            shape = [size if isinstance(size, int) else bound[size] for size in given.shape]
            if given.dtype == "int64":
                tensor = torch.randint(0, given.maximum + 1, shape)
            else:
                tensor = torch.randn(shape)
            outputs = asked(server.port, given.name, tensor)
            for expected, got in zip(
                expected_outputs(model, tensor), outputs.values(), strict=True
            ):
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def expected_outputs(model, tensor):
    options = {"use_cache": False} if hasattr(model, "config") else {}
    with torch.no_grad():
        result = model(tensor, **options)
    if isinstance(result, torch.Tensor):
        return [result]
    return [value for value in tuple(result.values() if hasattr(result, "values") else result)]


def test_a_llama_as_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    output = tmp_path / "p"
    settings = [text for key, value in LLAMA.items() for text in ("--set", f"{key}={value}")]
    assert main(["package", "hf:llama", *settings, "--output", str(output), "--onnx"]) == 0
    assert (output / "model.onnx").is_file()
    assert "ONNX Runtime" in (output / "README.md").read_text()
