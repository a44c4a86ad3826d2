"""Models from torchvision, timm and transformers, each where it is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from torchgauge.errors import MissingExtraError, ModelSpecError
from torchgauge.models.spec import build_model, parse_model_spec
from torchgauge.models.torchvision_operators import define_missing_operators


def build(text, **settings):
    return build_model(parse_model_spec(text, settings))


def refusal(text, **settings) -> ModelSpecError:
    with pytest.raises(ModelSpecError) as caught:
        build(text, **settings)
    return caught.value


def parameter_count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("spec", "library", "install"),
    [
        ("torchvision:resnet50", "torchvision", 'pip install "torchgauge[vision]"'),
        ("timm:resnet50", "timm", 'pip install "torchgauge[timm]"'),
        ("hf:llama", "transformers", 'pip install "torchgauge[hf]"'),
    ],
)
def test_a_missing_library_names_the_command_that_installs_it(spec, library, install, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == library else find_spec(name)
    )
    with pytest.raises(MissingExtraError) as caught:
        build(spec)
    assert caught.value.message == f"{library} is not installed"
    assert caught.value.hint == install
    assert caught.value.exit_status == 2


# ---------------------------------------------------------------------------- torchvision


@pytest.fixture
def torchvision():
    define_missing_operators()
    return pytest.importorskip("torchvision", exc_type=ImportError)


def test_torchvision_imports_in_a_new_process(torchvision):
    code = (
        "from torchgauge.models.torchvision_operators import define_missing_operators as d\n"
        "d(); import torchvision; print(torchvision.models.resnet18.__name__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100
    )
    assert result.stdout == "resnet18\n", result.stderr


def test_torchvision_models_come_without_memory_and_with_a_default_size(torchvision):
    made = build("torchvision:resnet50")
    assert made.name == "ResNet"
    assert parameter_count(made.model) == 25_557_032
    assert all(parameter.is_meta for parameter in made.model.parameters())
    assert made.default_inputs.sizes == (3, 224, 224)
    assert made.default_inputs.why == (
        "input size 3,224,224: the crop of ResNet50_Weights.IMAGENET1K_V2 "
        "(choose with --input-size)"
    )
    assert made.notes == ()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("inception_v3", (3, 299, 299)),
        ("lraspp_mobilenet_v3_large", (3, 520, 520)),
        ("ssdlite320_mobilenet_v3_large", (3, 320, 320)),
        ("r3d_18", (3, 16, 112, 112)),
        ("quantized_mobilenet_v2", (3, 224, 224)),
    ],
)
def test_each_kind_of_torchvision_model_has_its_size(name, size, torchvision):
    assert build(f"torchvision:{name}").default_inputs.sizes == size


def test_torchvision_takes_arguments_and_never_weights(torchvision):
    assert build("torchvision:vit_b_16(image_size=384)").default_inputs.sizes == (3, 384, 384)
    assert build("torchvision:resnet18", num_classes=7).model.fc.out_features == 7
    assert "would load weights" in refusal("torchvision:resnet18", weights="DEFAULT").message
    assert "cannot be built with nonsense=1" in refusal("torchvision:resnet18", nonsense=1).message


def test_a_count_other_than_the_published_one_is_explained(torchvision):
    (note,) = build("torchvision:googlenet").notes
    assert "publishes 6,624,904 parameters" in note
    assert "it builds 13,004,888" in note
    assert build("torchvision:googlenet", aux_logits=False).notes == ()


def test_regnet_is_built_for_real_with_a_warning(torchvision):
    made = build("torchvision:regnet_y_400mf")
    assert parameter_count(made.model) == 4_344_144
    # Whether it needs real memory depends on what meta_construction can carry.
    assert all("so it was built for real" in line for line in made.warnings)


def test_an_unknown_torchvision_name_offers_the_nearest(torchvision):
    error = refusal("torchvision:resnet5O")
    assert error.message == "torchvision has no model 'resnet5O'"
    assert error.hint.startswith("did you mean resnet50")
    assert refusal("torchvision:zzzzzz").hint == "see torchvision.models.list_models()"


# ---------------------------------------------------------------------------- timm


@pytest.fixture
def timm():
    define_missing_operators()
    return pytest.importorskip("timm", exc_type=ImportError)


@pytest.mark.models
def test_timm_models_have_their_default_size(timm):
    made = build("timm:vit_base_patch16_224")
    assert parameter_count(made.model) == 86_567_656
    assert made.default_inputs.sizes == (3, 224, 224)
    assert build("timm:resnet18(in_chans=1)").default_inputs.sizes == (1, 224, 224)
    assert build("timm:vit_tiny_patch16_224", img_size=96).default_inputs.sizes == (3, 96, 96)


@pytest.mark.models
def test_timm_names_are_checked_and_hubs_never_asked(timm):
    assert refusal("timm:vit_base_patch16_2244").hint.startswith(
        "did you mean vit_base_patch16_224"
    )
    assert "are not downloaded" in refusal("timm:hf-hub:timm/resnet18").hint
    assert "would load weights" in refusal("timm:resnet18", pretrained=True).message


# ---------------------------------------------------------------------------- transformers


@pytest.fixture
def transformers(monkeypatch):
    define_missing_operators()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers", exc_type=ImportError)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write a configuration file and return its spec."""
    monkeypatch.chdir(tmp_path)

    def write(**content):
        (tmp_path / "config.json").write_text(json.dumps(content))
        return "hf:config.json"

    return write


SMALL = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "vocab_size": 100}  # fmt: skip


def test_a_model_type_gives_the_usual_architecture_and_says_so(transformers):
    made = build("hf:gpt2")
    assert made.name == "GPT2LMHeadModel"
    assert parameter_count(made.model) == 124_439_808
    assert made.default_inputs.sizes == {"input_ids": (128,)}
    assert made.default_inputs.dtypes == ("int64",)
    assert "input_ids=128 per sample" in made.default_inputs.why
    assert "architecture GPT2LMHeadModel: the usual one for gpt2" in made.assumptions[0]


def test_settings_change_the_configuration(transformers):
    made = build("hf:llama", **SMALL, architectures=["LlamaForSequenceClassification"])
    assert made.name == "LlamaForSequenceClassification"
    assert made.model.config.hidden_size == 64
    assert made.model.model.layers[0].self_attn.head_dim == 16
    assert made.assumptions == ()


def test_an_encoder_that_can_fill_masks_is_built_bare(transformers):
    made = build("hf:bert", **SMALL)
    assert made.name == "BertModel"


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("t5", {"input_ids": (128,), "decoder_input_ids": (128,)}),
        ("vit", {"pixel_values": (3, 224, 224)}),
        ("clip", {"input_ids": (77,), "pixel_values": (3, 224, 224)}),
        ("whisper", {"input_features": (80, 3000), "decoder_input_ids": (128,)}),
    ],
)
def test_each_kind_of_transformers_model_has_its_inputs(name, sizes, transformers):
    assert build(f"hf:{name}").default_inputs.sizes == sizes


def test_a_configuration_file_names_architecture_and_dtype(transformers, config, tmp_path):
    import torch

    spec = config(
        model_type="llama", architectures=["LlamaForCausalLM"], torch_dtype="bfloat16", **SMALL
    )
    for made in (build(spec), build(f"hf:{tmp_path}")):
        assert made.name == "LlamaForCausalLM"
        assert made.model.lm_head.weight.dtype is torch.bfloat16
        assert made.assumptions == ()
    assert torch.get_default_dtype() is torch.float32
    assert build(spec, vocab_size=50).model.lm_head.out_features == 50


def test_quantization_is_not_applied_and_that_is_said(transformers, config):
    spec = config(
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        quantization_config={"quant_method": "gptq", "bits": 4},
        **SMALL,
    )
    assert build(spec).assumptions == (
        "gptq in the configuration is not applied: counted unquantized",
    )


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ({"a": 1}, "config.json has no model_type", "use the config.json that comes with"),
        ({"model_type": "foo", "auto_map": {"AutoModel": "m.Foo"}}, "no model type 'foo'",
         "its own code is never run"),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLLM"]},
         "asks for the architecture LlamaForCausalLLM", "did you mean LlamaForCausalLM"),
        ({"model_type": "llama", "architectures": ["AutoTokenizer"]},
         "asks for the architecture AutoTokenizer", ""),
        ({"model_type": "llama", "hidden_size": "x"}, "the configuration is refused",
         "check the file"),
    ],
)  # fmt: skip
def test_a_bad_configuration_is_explained(content, message, hint, transformers, config):
    error = refusal(config(**content))
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("spec", "settings", "message", "hint"),
    [
        ("hf:llamaa", {}, "has no model type 'llamaa'", "did you mean llama"),
        ("hf:llama", {"hiden_size": 8}, "LlamaConfig has no setting 'hiden_size'", "hidden_size"),
        ("hf:llama", {"hidden_size": "abc"}, "the configuration is refused", "--set"),
        ("hf:llama(1)", {}, "arguments need names", "num_classes=10"),
        ("hf:meta-llama/Llama-3.2-1B", {}, "there is no file meta-llama/Llama-3.2-1B",
         "hub names are not downloaded"),
    ],
)  # fmt: skip
def test_a_bad_request_is_explained(spec, settings, message, hint, transformers):
    error = refusal(spec, **settings)
    assert message in error.message
    assert hint in error.hint


def test_a_configuration_that_is_no_json_is_explained(transformers, tmp_path):
    (tmp_path / "config.json").write_text("{")
    assert "is not a readable JSON file" in refusal(f"hf:{tmp_path}/config.json").message


@pytest.mark.models
def test_diffusers_configurations_are_understood(config):
    define_missing_operators()
    pytest.importorskip("diffusers", exc_type=ImportError)
    settings = {
        "sample_size": 16,
        "block_out_channels": [32, 64],
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
    }
    made = build(config(_class_name="UNet2DModel", **settings))
    assert made.name == "UNet2DModel"
    assert "has no model 'UNet3DModel'" in refusal(config(_class_name="UNet3DModel")).message
