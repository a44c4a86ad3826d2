"""Nested tensors, jagged and strided: true lengths are counted, and the bytes of a real step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nested, nn
from torch.nn import functional

import torchgauge as tg
from real_step import predicted_peak, real_peak
from torchgauge.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")

LENGTHS = (5, 7, 8)
ROWS = [torch.randn(length, 16) for length in LENGTHS]
TOTAL = sum(LENGTHS)
TRAINING = tg.Scenario(mode="training", optimizer="none")


class Layer(nn.Module):
    """A function of a linear layer and the inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(self.linear, *args)


def strided(*rows: torch.Tensor) -> torch.Tensor:
    return nested.nested_tensor(list(rows or ROWS))


def jagged(*rows: torch.Tensor) -> torch.Tensor:
    return nested.nested_tensor(list(rows or ROWS), layout=torch.jagged)


def padded(linear: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return linear(x).to_padded_tensor(0.0)


def normalised(linear: Any, x: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, (16,), linear.bias, linear.bias)


def from_offsets(linear: nn.Module, values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    return padded(linear, nested.nested_tensor_from_jagged(values, offsets))


def narrowed(linear: nn.Module, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    starts = torch.zeros_like(lengths)
    rows = nested.narrow(x, 1, starts, lengths, layout=torch.jagged)
    return linear(rows.contiguous()).values()


LINEAR = TOTAL * 16 * 16
MEMBERS: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]], int]] = {
    "strided input": (padded, lambda: (strided(),), LINEAR),
    "jagged input": (padded, lambda: (jagged(),), LINEAR),
    "strided inside": (
        lambda linear, *rows: padded(linear, nested.as_nested_tensor(list(rows))),
        lambda: tuple(ROWS),
        LINEAR,
    ),
    "jagged inside": (
        lambda linear, *rows: padded(
            linear, nested.as_nested_tensor(list(rows), layout=torch.jagged)
        ),
        lambda: tuple(ROWS),
        LINEAR,
    ),
    "from offsets": (
        from_offsets,
        lambda: (torch.cat(ROWS), torch.tensor([0, 5, 12, 20])),
        LINEAR,
    ),
    "narrowed": (narrowed, lambda: (torch.randn(3, 8, 16), torch.tensor(LENGTHS)), LINEAR),
    "in a list, with a dense one": (
        lambda linear, pair: padded(linear, pair[0]) + pair[1],
        lambda: ([strided(), torch.randn(16)],),
        LINEAR,
    ),
    "two of the same lengths": (
        lambda linear, x, y: (linear(x) + y).values(),
        lambda: (one := jagged(), one * 2),
        LINEAR,
    ),
    "strided bmm": (
        lambda linear, x: torch.bmm(x, x.transpose(1, 2)).to_padded_tensor(0.0),
        lambda: (strided(),),
        sum(length * length * 16 for length in LENGTHS),
    ),
    "norm and activation": (
        lambda linear, x: padded(functional.gelu, normalised(linear, x)),
        lambda: (strided(),),
        0,
    ),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_true_lengths_are_counted(name: str) -> None:
    function, inputs, macs = MEMBERS[name]
    model, args = Layer(function), inputs()
    report = tg.analyze(model, input_data=args)
    assert report.totals.forward_macs == macs
    assert not [gap for gap in report.not_counted if gap.op != "linear"]  # not always called
    assert predicted_peak(report) == real_peak(model, *args)
    assert not any("accelerator" in text for text in report.assumptions)


@pytest.mark.parametrize("name", ["strided input", "jagged input", "from offsets"])
def test_their_gradients_as_well(name: str) -> None:
    """Two products as large as the forward's, less the one for an input."""
    function, inputs, macs = MEMBERS[name]
    model, args = Layer(function), inputs()
    report = tg.analyze(model, input_data=args, scenario=TRAINING)
    assert (report.totals.forward_macs, report.totals.backward_flops) == (macs, 2 * macs)
    assert predicted_peak(report) == real_peak(model, *args, training=True)


def test_attention_is_padded_and_it_is_said() -> None:
    """PyTorch's CPU kernel multiplies two nested tensors padded to the longest row."""

    def attend(linear: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(x, x, x).to_padded_tensor(0.0)

    model, heads = Layer(attend), strided(*(torch.randn(2, n, 8) for n in LENGTHS))
    report = tg.analyze(model, input_data=(heads,))
    assert report.totals.forward_macs == 2 * (3 * 2 * 8 * 8 * 8)
    assert any("padded to the longest row" in text for text in report.assumptions)
    assert predicted_peak(report) == real_peak(model, heads)


def test_a_nested_output_is_shown_as_its_values() -> None:
    for made in (strided, jagged):
        report = tg.analyze(Layer(lambda linear, x: linear(x)), input_data=(made(),))
        assert report.outputs[0].tensor is not None
        assert report.outputs[0].tensor.shape == (TOTAL, 16)


def test_an_encoder_with_a_padding_mask() -> None:
    """Its fast path would drop the padding; what is counted is not, and the report says so."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2), torch.randn(3, 8, 16)
    mask = torch.arange(8) >= torch.tensor(LENGTHS)[:, None]
    data = {"src": x, "src_key_padding_mask": mask}
    report = tg.analyze(model, input_data=data)
    per_layer = 24 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 3 * 8 * 8 * 16
    assert report.totals.forward_macs == 2 * per_layer
    assert any("src_key_padding_mask" in text for text in report.assumptions)
    for other in (
        tg.analyze(model, input_data=(x,)),
        tg.analyze(model, input_data=data, scenario=TRAINING),
    ):
        assert not any("src_key_padding_mask" in text for text in other.assumptions)


def test_where_no_real_run_is_possible_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchgauge.trace.run.runs.allowed_bytes", lambda: 0)
    with pytest.raises(ModelError, match="a real run would need about") as raised:
        tg.analyze(Layer(padded), input_data=(strided(),))
    assert raised.value.hint.startswith("sparse and nested tensors are run for real")


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=["strided", "jagged"])
def test_training_on_nested_inputs_and_outputs(layout: torch.layout) -> None:
    """The automatic loss of a nested output; an input that needs a gradient gets its product."""
    rows = [torch.randn(length, 16) for length in LENGTHS]
    for needed, products in ((False, 1), (True, 2)):
        data = nested.nested_tensor(rows, layout=layout, requires_grad=needed)
        report = tg.analyze(
            Layer(lambda linear, x: linear(x)), input_data=(data,), scenario=TRAINING
        )
        assert report.totals.forward_macs == LINEAR
        assert report.totals.backward_flops == 2 * products * LINEAR
        assert data.grad is None


def test_naming_the_batch_leaves_nested_inputs_alone() -> None:
    """``summary`` names the batch in shapes, by a second run with one sample more."""
    for made in (strided, jagged):
        report = tg.summary(Layer(padded), input_data=(made(),))
        assert report.totals.forward_macs == LINEAR
