"""Inputs made for a model from its configuration, and tried; on networks small enough to see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.analyze import analyze_model
from torchgauge.errors import UsageError
from torchgauge.models.build import ModelBuild
from torchgauge.models.huggingface.inputs import Finding, default_inputs
from torchgauge.models.requests import with_build
from torchgauge.request import Inputs, Request
from torchgauge.trace.inputs.plan import InputTensor


class Config(SimpleNamespace):
    """Looks like a configuration of transformers, as far as it is looked at."""

    model_type = "toy"

    def to_dict(self) -> dict[str, Any]:
        return vars(self)


def find(model: nn.Module, **settings: Any) -> Finding:
    config = Config(**settings)
    model.config = config  # type: ignore[assignment]
    return default_inputs(model, config)


def shapes(finding: Finding) -> dict[str, tuple[int, ...]]:
    """Return the shapes for one sample."""
    assert finding.inputs is not None, finding.note
    if finding.inputs.tensors:
        return {tensor.name: tensor.shape for tensor in finding.inputs.tensors}
    assert isinstance(finding.inputs.sizes, dict)
    return {name: (1, *size) for name, size in finding.inputs.sizes.items()}


class Layout(nn.Module):
    """Text with the box of each word, which its error asks for by name."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(10, 4), nn.Embedding(1000, 1)

    def forward(self, input_ids: Any = None, bbox: Any = None) -> torch.Tensor:
        if bbox is None:
            raise ValueError("You have to specify bbox")
        return self.words(input_ids) + self.places(bbox).squeeze(-1)


class Video(nn.Module):
    main_input_name = "pixel_values"

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv3d(3, 4, (2, 8, 8), stride=(2, 8, 8))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        _batch, _frames, _channels, _height, _width = pixel_values.shape
        return self.patches(pixel_values.transpose(1, 2))


class Waveform(nn.Module):
    main_input_name = "input_values"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(1, 4, 7)

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        _batch, _channels, _length = input_values.shape
        return self.layer(input_values)


class Spectrogram(nn.Module):
    """Wants its bins last, and another number of them than the configuration says."""

    main_input_name = "input_features"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(96, 4)

    def forward(self, input_features: torch.Tensor, attention_mask: Any = None) -> torch.Tensor:
        return self.layer(input_features) * attention_mask.unsqueeze(-1)


class Packed(nn.Module):
    """Patches of all images in a row, their grids beside; the grid's values decide shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 2 * 14 * 14, 8)

    def forward(self, hidden_states: torch.Tensor, grid_thw: torch.Tensor) -> torch.Tensor:
        sizes = [int(n) for n in grid_thw.prod(-1)]
        return torch.stack([part.sum(0) for part in self.layer(hidden_states).split(sizes)])


class Reader(nn.Module):
    """Text in which tokens stand for images, as transformers' vision-language models do."""

    def __init__(self, *, width: int = 8, tower: int = 8) -> None:
        super().__init__()
        self.words, self.tower = nn.Embedding(10, width), nn.Conv2d(3, tower, 14, stride=14)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.tower(pixel_values).flatten(2).transpose(1, 2)

    def forward(self, input_ids: Any = None, pixel_values: Any = None) -> torch.Tensor:
        words = self.words(input_ids)
        if pixel_values is None:
            return words
        features, places = self.get_image_features(pixel_values), input_ids == 7
        if int(places.sum()) != features.shape[:2].numel():
            raise ValueError("Image features and image tokens do not match")
        return words.masked_scatter(places.unsqueeze(-1), features)


@pytest.mark.parametrize(
    ("model", "settings", "wanted"),
    [
        (Layout(), {}, {"input_ids": (1, 128), "bbox": (1, 128, 4)}),
        (Layout(), {"max_position_embeddings": 40}, {"input_ids": (1, 40), "bbox": (1, 40, 4)}),
        (Video(), {"image_size": 32}, {"pixel_values": (1, 8, 3, 32, 32)}),
        (Video(), {"image_size": 32, "num_frames": 6}, {"pixel_values": (1, 6, 3, 32, 32)}),
        (Waveform(), {"sampling_rate": 8000}, {"input_values": (1, 1, 8000)}),
        (Spectrogram(), {"num_mel_bins": 80},
         {"input_features": (1, 1024, 96), "attention_mask": (1, 1024)}),
        (Packed(), {"patch_size": 14, "temporal_patch_size": 2, "image_size": 56},
         {"hidden_states": (16, 1176), "grid_thw": (1, 3)}),
        (Reader(), {"image_token_id": 7, "image_size": 28},
         {"input_ids": (1, 132), "pixel_values": (1, 3, 28, 28)}),
    ],
)  # fmt: skip
def test_the_forward_runs_with_what_was_made(model: nn.Module, settings: Any, wanted: Any) -> None:
    finding = find(model, **settings)
    assert shapes(finding) == wanted
    assert finding.inputs is not None
    assert "choose with --input-size" in finding.inputs.why
    for batch in (1, 3):
        build = ModelBuild(model=model, name="", spec="", default_inputs=finding.inputs)
        request = Request(spec="any", inputs=Inputs(batch_size=batch))
        report = analyze_model(with_build(request, build))
        assert report.execution == "simulated"
        assert report.batch_size == batch


def test_image_tokens_have_known_values_and_are_said() -> None:
    finding = find(Reader(), image_token_id=7, image_size=28)
    assert finding.inputs is not None
    tokens = finding.inputs.tensors[0].make("cpu")
    assert int((tokens == 7).sum()) == 4  # 28 × 28 pixels are four patches of 14 × 14
    assert "input_ids [1, 132] (4 for the image)" in finding.inputs.why
    report = tg.analyze(Reader(), input_data={t.name: t for t in finding.inputs.tensors})
    assert not [line for line in report.assumptions if "was decided" in line]
    assert report.modules["tower"].macs == 4 * 8 * 3 * 14 * 14


def test_a_tower_that_does_not_fit_leaves_the_text() -> None:
    finding = find(Reader(width=8, tower=6), image_token_id=7, image_size=28)
    assert shapes(finding) == {"input_ids": (1, 128)}
    assert finding.inputs is not None
    assert "text alone" in finding.inputs.why


def test_what_cannot_be_made_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, wavelets: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            return wavelets * key

    finding = find(Odd())
    assert finding.inputs is None
    assert "no inputs were found with which Odd runs" in finding.note
    assert "--input-size wavelets=… --input-size key=…" in finding.note


def test_the_error_that_came_furthest_is_told() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.last = nn.Embedding(10, 4), nn.Linear(5, 2)

        def forward(self, input_ids: Any = None, bbox: Any = None) -> torch.Tensor:
            return self.last(self.words(input_ids))

    assert "runs: RuntimeError: a and b must have same reduction dim" in find(Broken()).note


def test_options_that_need_a_size_are_refused() -> None:
    model = Packed()
    inputs = find(model, patch_size=14, temporal_patch_size=2, image_size=56).inputs
    build = ModelBuild(model=model, name="", spec="", default_inputs=inputs)
    with pytest.raises(UsageError, match="dtypes and a batch dimension need a size"):
        with_build(Request(spec="any", inputs=Inputs(dtypes=("float16",))), build)


# ------------------------------------------------------------------ what the inputs rest on


def test_rows_of_a_sample_grow_with_the_batch() -> None:
    rows = InputTensor(name="x", keyword=True, shape=(6, 4), dtype=torch.float32, per_sample=6)
    assert rows.with_batch(3).shape == (18, 4)
    assert rows.has_batch(1)
    assert rows.with_batch(3).has_batch(3)
    assert not rows.has_batch(2)
    grid = InputTensor(
        name="g", keyword=True, shape=(2, 3), dtype=torch.int64, values=((1, 2, 3), (1, 1, 1)),
        per_sample=2,
    )  # fmt: skip
    made = grid.with_batch(2).make("cpu")
    assert made.tolist() == [[1, 2, 3], [1, 1, 1], [1, 2, 3], [1, 1, 1]]


class Positions(nn.Module):
    """Reads what its constructor computed, in each of the ways that models do."""

    def __init__(self, read: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.read = read
        self.register_buffer("positions", torch.arange(6).expand(1, -1).contiguous())
        self.register_buffer("kernel", torch.tensor(3))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, : self.read(self)])


READS = {
    "item": lambda m: int(m.kernel),
    "maximum": lambda m: int(m.positions.max()) - 2,
    "list": lambda m: m.positions.tolist()[0][3],
    "mask": lambda m: m.positions[m.positions < 3].shape[0],
    "list of scalars": lambda m: int(torch.tensor([m.kernel, m.kernel * 2], device="meta")[0]),
    "branch": lambda m: 3 if m.scale > 1 else 1,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_a_constructor_computed_is_known_to_the_run(read: Any) -> None:
    real = Positions(read)
    with tg.meta_construction():
        made = Positions(read)
    assert made.positions.is_meta
    report = tg.analyze(made, (2, 6, 4))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == tg.analyze(real, (2, 6, 4)).totals.forward_macs
    assert report.totals.forward_macs == 2 * 3 * 4 * 4
