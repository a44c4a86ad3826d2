"""Model types of transformers by their name alone: inputs are made, tried, stated, and scale."""

from __future__ import annotations

import importlib.util
import json
import os
import random
from math import prod
from typing import Any

import pytest
import torch

from torchgauge.analyze import analyze_model
from torchgauge.cli.main import main
from torchgauge.errors import ModelSpecError
from torchgauge.facts.report import Report
from torchgauge.models.build import ModelBuild
from torchgauge.models.requests import with_build
from torchgauge.models.spec import build_model, parse_model_spec
from torchgauge.models.torchvision_operators import define_missing_operators
from torchgauge.request import Inputs, Request

pytestmark = pytest.mark.models
os.environ["HF_HUB_OFFLINE"] = "1"
define_missing_operators()
transformers = pytest.importorskip("transformers", exc_type=ImportError)


def build(text: str, **settings: Any) -> ModelBuild:
    return build_model(parse_model_spec(text, settings))


def analyzed(made: ModelBuild, batch: int | None = None) -> Report:
    request = Request(spec=made.spec, inputs=Inputs(batch_size=batch))
    return analyze_model(with_build(request, made))


def shapes(report: Report) -> dict[str, tuple[int, ...]]:
    return {value.name: value.tensor.shape for value in report.inputs if value.tensor is not None}


SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 64}  # fmt: skip

SMALLEST = {**SMALL, "num_hidden_layers": 1, "num_key_value_heads": 4, "head_dim": 16}

FAMILIES = {
    "boxes of words": ("bros", SMALL, {"input_ids": (1, 128), "bbox": (1, 128, 4)}),
    "clips": ("videomae", SMALL, {"pixel_values": (1, 16, 3, 224, 224)}),
    "any image size": ("segformer", {}, {"pixel_values": (1, 3, 224, 224)}),
    "raw sound": ("encodec", {}, {"input_values": (1, 1, 24_000)}),
    "spectrogram": ("audio-spectrogram-transformer", SMALL, {"input_values": (1, 1024, 128)}),
    "time series": ("timesfm", {"num_hidden_layers": 2},
                    {"past_values": (1, 512), "past_values_padding": (1, 512), "freq": (1,)}),
    "patches": ("siglip2", {},
                {"input_ids": (1, 64), "pixel_values": (1, 784, 768), "spatial_shapes": (1, 2)}),
    "queries": ("blip_2_qformer", {},
                {"query_embeds": (1, 128, 768), "encoder_hidden_states": (1, 128, 1408)}),
    "whole windows": ("rf_detr", {}, {"pixel_values": (1, 3, 560, 560)}),
    "classes and tasks": ("omdet-turbo", {},
                          {"pixel_values": (1, 3, 640, 640), "classes_input_ids": (1, 77),
                           "classes_attention_mask": (1, 77), "tasks_input_ids": (1, 77),
                           "tasks_attention_mask": (1, 77), "classes_structure": (1,)}),
    "merged patches": ("inkling2_vision", {"num_hidden_layers": 1},
                       {"pixel_values": (484, 40, 40, 3), "image_grid_thw": (1, 3)}),
    "a draft's context": ("muse_glimmer_assistant", SMALLEST,
                          {"noise_embeds": (1, 16, 64), "context_hidden_states": (1, 128, 320)}),
    "a vector for all steps": ("voxtral_realtime_text", SMALLEST,
                               {"input_ids": (1, 128), "attention_mask": (1, 128),
                                "t_cond": (1, 1, 64)}),
    "packed patches": ("qwen2_5_vl_vision", {"depth": 2, "hidden_size": 64, "num_heads": 4},
                       {"hidden_states": (1024, 1176), "grid_thw": (1, 3)}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "wanted"), FAMILIES.values(), ids=FAMILIES)
def test_each_family_gets_its_inputs(name: str, settings: Any, wanted: Any) -> None:
    made = build(f"hf:{name}", **settings)
    report = analyzed(made)
    assert shapes(report) == wanted
    assert report.execution == "simulated"
    assert report.totals.forward_macs > 0


TRIED = {
    **{name: (name, {}) for name in ("rf_detr", "lw_detr", "uvdoc", "edgetam", "gemma4_vision")},
    "inkling2_vision": FAMILIES["merged patches"][:2],
    "muse_glimmer_assistant": FAMILIES["a draft's context"][:2],
    "voxtral_realtime_text": FAMILIES["a vector for all steps"][:2],
    "moonshine_streaming": ("moonshine_streaming", {}),
    "paddleocr_vl": ("paddleocr_vl", {"text_config.num_hidden_layers": 1,
                                      "vision_config.num_hidden_layers": 1}),
    "pp_ocrv6_small_det": ("pp_ocrv6_small_det", {}),
    "dbrx": ("dbrx", {"d_model": 256, "n_heads": 4, "n_layers": 2}),
    "lfm2_moe": ("lfm2_moe", {**SMALL, "num_hidden_layers": 24, "num_key_value_heads": 4,
                              "moe_intermediate_size": 64}),
    "git": ("git", {"num_hidden_layers": 1}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), TRIED.values(), ids=TRIED)
def test_the_library_runs_on_the_inputs_that_were_made(name: str, settings: Any) -> None:
    """With real weights and real tensors: what a run without data accepts may still be wrong."""
    made = build(f"hf:{name}", **settings)
    report = analyzed(made)
    model = type(made.model)(made.model.config).eval()
    inputs = {
        value.name: _real(made, value.name, value.tensor)
        for value in report.inputs
        if value.tensor is not None
    }
    with torch.no_grad():
        output = model(**inputs)
    first = next(value for value in output.to_tuple() if isinstance(value, torch.Tensor))
    assert tuple(first.shape) in [v.tensor.shape for v in report.outputs if v.tensor is not None]


def _real(made: ModelBuild, name: str, tensor: Any) -> torch.Tensor:
    for known in made.default_inputs.tensors:
        if known.name == name:
            return known.make("cpu")
    dtype = getattr(torch, tensor.dtype)
    noise = torch.randn if dtype.is_floating_point else torch.zeros
    return noise(tensor.shape, dtype=dtype)


def test_an_image_stands_among_the_tokens_and_its_tower_is_counted() -> None:
    made = build("hf:llava", **{"text_config.num_hidden_layers": 1})
    report = analyzed(made)
    patches = (336 // 14) ** 2
    assert shapes(report) == {
        "input_ids": (1, 128 + patches), "pixel_values": (1, 3, 336, 336),
    }  # fmt: skip
    assert f"{patches} for the image" in made.default_inputs.why
    convolution = report.modules["vision_tower.embeddings.patch_embedding"]
    assert convolution.macs == patches * 1024 * 3 * 14 * 14
    assert shapes(analyzed(made, batch=2)) == {
        "input_ids": (2, 128 + patches), "pixel_values": (2, 3, 336, 336),
    }  # fmt: skip


def test_packed_patches_grow_with_the_batch() -> None:
    made = build("hf:qwen2_5_vl_vision", depth=2, hidden_size=64, num_heads=4)
    assert shapes(analyzed(made, batch=3)) == {"hidden_states": (3072, 1176), "grid_thw": (3, 3)}


def test_the_report_says_what_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "hf:bros", "--format", "json"]) == 0
    (said, *_) = json.loads(capsys.readouterr().out)["assumptions"]
    assert said == (
        "inputs made from the configuration of bros, and tried: input_ids [1, 128]; "
        "bbox [1, 128, 4] (choose with --input-size)"
    )


def test_what_cannot_be_made_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    widths = "layer_list_out_channels=[1, 2, 3, 4]"
    assert main(["summary", "hf:pp_ocrv6_small_det", "--depth", "1", "--set", widths]) == 0
    (note, *_) = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert "no inputs were found with which PPOCRV6SmallDetModel runs" in note
    assert "--input-size pixel_values=…" in note


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sam2_video", "takes inference_session, which is not a tensor"),
        ("edgetam_video", "takes inference_session, which is not a tensor"),
        ("bark", "does not exist"),
        ("glm_image_vqmodel", "does not exist"),
    ],
)
def test_what_no_tensor_can_be_made_for_is_told(name: str, said: str) -> None:
    (note,) = build(f"hf:{name}").notes
    assert f"its forward {said}. Write a module" in note
    assert note.endswith("file.py:Name")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gemma4_unified_assistant", "cannot be built"),
        ("gemma4_assistant", "the configuration is refused"),
        ("qwen4_exp_text", "cannot be built"),
    ],
)
def test_a_default_that_builds_nothing_says_what_to_pass(name: str, said: str) -> None:
    """Whatever the configuration answers to what is asked about it: some refuse."""
    with pytest.raises(ModelSpecError, match=said) as caught:
        build(f"hf:{name}")
    assert "hf:PATH/config.json" in (caught.value.hint or "")


def test_a_setting_without_a_value_is_named_in_place_of_what_torch_says_of_it() -> None:
    with pytest.raises(ModelSpecError) as caught:
        build("hf:dots1", n_routed_experts=None)
    assert "empty() takes 1 positional argument but 3 were given" in caught.value.message
    assert "not set in this configuration: num_local_experts" in caught.value.hint


@pytest.mark.parametrize(("name", "library"), [("dinat", "natten"), ("layoutlmv2", "detectron2")])
def test_a_library_that_a_model_needs_is_named(name: str, library: str) -> None:
    if importlib.util.find_spec(library) is not None:
        pytest.skip(f"{library} is installed")
    with pytest.raises(ModelSpecError, match=f"requires the {library} library") as caught:
        build(f"hf:{name}")
    assert caught.value.hint == "install that library, then try again"


def test_a_default_that_does_not_run_is_completed_and_said() -> None:
    made = build("hf:esm", **SMALL)
    assert made.model.config.vocab_size == 33
    assert made.assumptions[-1] == (
        "vocab_size=33, pad_token_id=1, mask_token_id=32 was set: the default configuration of "
        "esm does not run without it"
    )
    assert analyzed(made).totals.forward_macs > 0
    assert build("hf:esm", vocab_size=40, **SMALL).model.config.vocab_size == 40


def test_a_type_is_built_with_the_class_of_its_own_configuration() -> None:
    assert build("hf:llama4", **{"text_config.num_hidden_layers": 1}).name == (
        "Llama4ForConditionalGeneration"
    )


def test_types_drawn_by_chance() -> None:
    from transformers.models.auto import modeling_auto

    names = random.Random(1).sample(sorted(modeling_auto.MODEL_MAPPING_NAMES), 8)
    made = {}
    for name in names:
        if name in transformers.CONFIG_MAPPING:
            try:
                found = build(f"hf:{name}")
            except ModelSpecError:  # its library is not here, or its defaults make no model
                continue
            made[name] = found.default_inputs is not None or bool(found.notes)
    assert len(made) >= len(names) - 2
    assert all(made.values())  # inputs, or one line on what to pass


def test_sizes_are_those_of_one_sample() -> None:
    defaults = build("hf:vit", **SMALL).default_inputs
    assert prod(defaults.sizes["pixel_values"]) == 3 * 224 * 224


@pytest.mark.parametrize(
    ("name", "tower", "said"),
    [
        ("idefics3", "vision_model", ""),
        ("smolvlm", "vision_model", ""),
        ("qwen3_vl", "visual", "vision_config.out_hidden_size=4096 was set"),
        ("gemma3", "model.vision_tower", "vision_config.image_size=896"),
        ("gemma4", "model.vision_tower", "vision_config={} was set"),
        ("gemma4_unified", "model.embed_vision", "vision_config={} was set"),
        ("perception_lm", "vision_tower", "vit_pe_core_large_patch14_336"),
        ("granite4_vision", "vision_tower", "deepstack_layer_map"),
        ("granite_docling", "vision_model", ""),
        ("paddleocr_vl", "visual", ""),
        ("inkling2", "vision_tower", ""),
        ("janus", "vision_model", "vision_config.projection_dim=4096"),
        ("llama4", "vision_model", "vision_config.hidden_size=1408"),
        ("t5gemma2", "model.encoder.vision_tower", "encoder.vision_config="),
        ("chameleon", "vqmodel", "vocabulary_map=dict of 8193 was set"),
    ],
)
def test_images_are_given_by_default_where_the_model_takes_them(
    name: str, tower: str, said: str
) -> None:
    """By default images fit neither the text model's width, nor are they told from padding."""
    made = build(f"hf:{name}")
    assert made.default_inputs is not None
    assert "for the image)" in made.default_inputs.why
    assert any(said in note for note in made.assumptions)
    report = analyzed(made)
    assert report.execution == "simulated"
    assert sum(report.modules[path].macs for path in report.modules if path.startswith(tower)) > 0


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("git", {"input_ids": (1, 128), "pixel_values": (1, 3, 224, 224)}),
        ("fuyu", {"input_ids": (1, 128 + 100), "pixel_values": (1, 100, 3 * 30 * 30)}),
        ("voxtral", {"input_ids": (1, 128 + 375), "input_features": (1, 128, 3000)}),
        ("mllama", {"input_ids": (1, 128), "pixel_values": (1, 1, 4, 3, 448, 448),
                    "aspect_ratio_ids": (1, 1), "aspect_ratio_mask": (1, 1, 4)}),
    ],
)  # fmt: skip
def test_a_head_does_not_hide_that_images_and_sound_are_taken(name: str, wanted: Any) -> None:
    assert shapes(analyzed(build(f"hf:{name}"))) == wanted


@pytest.mark.parametrize(
    ("name", "is_said"),
    [("phi4_multimodal", True), ("kosmos-2.5", True), ("diffusion_gemma", True), ("bert", False),
     ("qwen3_vl_text", False)],
)  # fmt: skip
def test_text_alone_is_said_where_a_model_takes_more(name: str, is_said: bool) -> None:
    assert ("text alone" in build(f"hf:{name}").default_inputs.why) is is_said


def test_the_widths_of_a_default_tower_fit_its_language_model() -> None:
    from torchgauge.models.huggingface.defaults import fitting_settings

    width = transformers.CONFIG_MAPPING["qwen3_asr"]().text_config.hidden_size
    config = transformers.CONFIG_MAPPING["qwen3_asr"]()
    assert fitting_settings(config) == {"audio_config.output_dim": width}
    for name in ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm_ocr", "exaone4_5"):
        config = transformers.CONFIG_MAPPING[name]()
        width = config.text_config.hidden_size
        assert fitting_settings(config) == {"vision_config.out_hidden_size": width}
    assert fitting_settings(transformers.CONFIG_MAPPING["bert"]()) == {}
