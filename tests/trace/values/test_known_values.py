"""Values that are known stay known: no real run for a list index, a constant, a CTC loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg
from asked import run_model
from torchgauge.facts.trace import Execution
from torchgauge.reports import report_of
from torchgauge.trace.run.session import Session


class _Checks(nn.Module):
    """Fails where a check on values does not come out as in a real run."""

    def __init__(self, check: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.check = check
        self.embedding = nn.Embedding(8, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if not self.check(ids):
            raise ValueError("another value than in a real run")
        result: torch.Tensor = self.embedding(ids)
        return result


def _is_simulated(check: Callable[[torch.Tensor], Any]) -> None:
    ids = torch.zeros(2, 8, dtype=torch.int64)
    assert check(ids)  # what really comes out
    report = tg.analyze(_Checks(check), input_data=ids)
    assert report.execution == "simulated"


def _written(ids: torch.Tensor) -> torch.Tensor:
    ids = ids.clone()
    ids[:, [1, 2]] = 3
    return (ids[:, [1, 2]] == 3).all() and (ids[:, 3:] == 0).all()


def _struck_out(ids: torch.Tensor) -> bool:
    """The places that are left, as UDOP keeps the patches without words."""
    places = torch.stack([ids[0] + ids[1], torch.arange(8, device=ids.device) // 2], dim=-1)
    rows, columns = zip(*places, strict=True)
    left = torch.ones_like(ids, dtype=torch.bool)
    left[rows, columns] = False
    return left[0].nonzero().flatten().tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "check",
    [
        lambda ids: (ids[:, [-1, 0]] == 0).all(),
        lambda ids: (ids[:, (0, 3)] == 0).all(),
        lambda ids: (ids[[1, 0]] == 0).all(),
        lambda ids: (ids[[0, 1], [2, 3]] == 0).all() and ids[[0, 1], [2, 3]].shape == (2,),
        lambda ids: (ids[:, range(3)] == 0).all(),
        lambda ids: (ids[None, [0], 1:3] == 0).all(),
        lambda ids: (ids[..., [[0, 1], [2, 3]]] == 0).all(),
        lambda ids: ids[[True, False]].shape == (1, 8) and (ids[[True, False]] == 0).all(),
        lambda ids: ids[:, []].shape == (2, 0),
        lambda ids: (ids[:, tuple(torch.arange(3, device=ids.device))] == 0).all(),
        lambda ids: (ids[list(ids[0, :2]), list(torch.arange(2, device=ids.device))] == 0).all(),
        lambda ids: ids[[*(torch.arange(40, device=ids.device) // 20)]].shape == (40, 8),
        _struck_out,
        lambda ids: torch.arange(9)[[2, 3]].sum() == 5,
        lambda ids: (ids.index_select(1, torch.tensor([0, 1])) == 0).all(),
        lambda ids: (ids.take(torch.tensor([0, 5])) == 0).all(),
        _written,
    ],
)
def test_an_index_written_as_a_list(check: Callable[[torch.Tensor], Any]) -> None:
    _is_simulated(check)


def _share(ids: torch.Tensor) -> bool:
    """How much of each of 10 cells 2,000 places cover, as a pooling over a grid computes it."""
    cells = torch.arange(2000, device=ids.device) // 200 + ids.sum()
    weights = functional.one_hot(cells, 12).float() / 200
    is_empty = (weights == 0).all(0)
    return is_empty.nonzero().flatten().tolist() == [10, 11]


def _additive(ids: torch.Tensor) -> bool:
    """A mask as numbers to add, and its last row as a mask again."""
    mask = torch.ones(1, 1, 128, 128, dtype=torch.bool, device=ids.device).tril()
    added = torch.where(mask, torch.zeros((), device=ids.device), torch.finfo(torch.float32).min)
    return len((~added[:, :, -3].bool()).nonzero()) == 126


def _scaled(ids: torch.Tensor) -> bool:
    steps = (torch.arange(5000, device=ids.device) + ids.sum()).to(torch.float32)
    return int(((steps * 0.5 - 1).clamp(min=0) > 0).sum()) == 4997


@pytest.mark.parametrize(
    "check",
    [
        _share,
        _additive,
        _scaled,
        # Masks as CANINE pools them; without gradients they are pooled by oneDNN.
        lambda ids: nn.MaxPool1d(4)((ids + 1).float()[:, None]).all(),
        lambda ids: nn.MaxPool2d(2)((ids + 1).float().view(1, 1, 4, 4)).all(),
        lambda ids: nn.MaxPool3d(2)((ids + 1).float().view(1, 1, 2, 2, 4)).all(),
    ],
)
def test_real_numbers_made_of_whole_ones(check: Callable[[torch.Tensor], Any]) -> None:
    _is_simulated(check)


def _image(value: float = 1.0) -> torch.Tensor:
    return torch.full((1, 600, 700), value)


def _partly(value: float) -> bool:
    image = _image()
    image[:, :60, :70] = value
    return bool(image.all())


@pytest.mark.parametrize(
    "check",
    [
        lambda ids: functional.interpolate(_image()[None], size=(7, 7)).to(torch.bool).all(),
        lambda ids: functional.pad(_image(), (1, 1), value=1.0).all(),
        lambda ids: not functional.pad(_image(0.0), (1, 1)).any(),
        lambda ids: torch.cat([_image(), _image()]).view(-1, 7).T[2:, 5].all(),
        lambda ids: ((_image() > 0) & (_image().long() < 2)).all(),
        lambda ids: _image(3.0).mean() == 3 and _image(3.0).max() == 3,
        lambda ids: ids.new_ones(600, 700).sum() == 420_000,
        lambda ids: torch.ones(5000, 1).mul(torch.ones(1, 5000)).all(),
        lambda ids: _image().add_(1).mul_(2).eq(4).all(),
        lambda ids: torch.empty(600, 700).fill_(1).all(),
        lambda ids: torch.where(_image() > 0, _image(), _image(9.0)).eq(1).all(),
        lambda ids: _image()[_image() > 0].shape == (420_000,),
        lambda ids: _image().nonzero().shape == (420_000, 3),
        lambda ids: not _image(0.0).view(torch.int32).any(),
        lambda ids: (_image() * -1e9).masked_fill(_image() > 0, 0.0).eq(0).all(),
        lambda ids: _image().count_nonzero() == 420_000,
        lambda ids: torch.ones(1000, 1000, dtype=torch.uint8).all() == 1,
        lambda ids: _partly(1.0),
    ],
)
def test_a_constant_of_any_size(check: Callable[[torch.Tensor], Any]) -> None:
    _is_simulated(check)


def test_a_constant_larger_than_any_memory() -> None:
    def check(ids: torch.Tensor) -> Any:
        mask = torch.ones(10**6, 10**6, dtype=torch.bool, device=ids.device)
        return mask.all() and not (~mask).any() and mask.nonzero().shape == (10**12, 2)

    assert tg.analyze(_Checks(check), input_data=torch.zeros(2, 8).long()).execution == "simulated"


def test_a_partial_write_drops_a_constant() -> None:
    report = tg.analyze(_Checks(lambda ids: not _partly(0.0)), input_data=torch.zeros(2, 8).long())
    assert report.execution == "real"


def test_a_tensor_written_piece_by_piece() -> None:
    def check(ids: torch.Tensor) -> Any:
        shapes = torch.empty((2, 2), dtype=torch.int64)
        for level in range(2):
            shapes[level, 0] = shapes[level, 1] = level + 1
        return (shapes[:, 0] * shapes[:, 1]).sum() == 5

    _is_simulated(check)


@pytest.mark.parametrize(
    "check",
    [
        lambda ids: torch.equal(_image(), _image()),
        lambda ids: not torch.equal(_image(), _image(2.0)),
        lambda ids: torch.allclose(_image(), _image()),
        lambda ids: torch.equal(ids, ids) and not torch.equal(ids, ids[:1]),
        lambda ids: torch.equal(torch.rand(9), torch.rand(8)) is False,
    ],
)
def test_equality(check: Callable[[torch.Tensor], Any]) -> None:
    _is_simulated(check)


def test_a_mask_of_a_large_batch() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(8, 4)

        def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            if not attention_mask.to(torch.bool).any(1).all():
                raise ValueError("an empty row")
            result: torch.Tensor = self.embedding(ids)
            return result

    sizes = {"ids": (768, 384), "attention_mask": (768, 384)}
    report = tg.analyze(Masked(), sizes)
    assert report.execution == "simulated"
    assert any("made from its size alone" in text for text in report.assumptions)
    padded = (torch.arange(384) < torch.arange(1, 769)[:, None]).long()
    data = {"ids": torch.zeros(768, 384).long(), "attention_mask": padded}
    assert tg.analyze(Masked(), input_data=data).execution == "simulated"


class _Recogniser(nn.Module):
    def __init__(self, lengths: Callable[[int], Any]) -> None:
        super().__init__()
        self.head = nn.Linear(8, 6)
        self.lengths = lengths

    def forward(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        scores = self.head(x).log_softmax(-1)
        return functional.ctc_loss(scores, targets, self.lengths(20), self.lengths(5))


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize(
    "lengths",
    [
        lambda n: torch.full((3,), n),
        lambda n: torch.full((3,), n, dtype=torch.int32),
        lambda n: (n,) * 3,
        lambda n: [n - 1, n, n - 2],
    ],
)
def test_ctc_loss_is_that_of_a_real_run(lengths: Callable[[int], Any], mode: str) -> None:
    model = _Recogniser(lengths)
    inputs = torch.randn(20, 3, 8), torch.randint(1, 6, (3, 5))
    optimizer = {"optimizer": "none"} if mode == "training" else {}
    scenario = tg.Scenario(mode=mode, **optimizer)
    report = tg.analyze(model, input_data=inputs, scenario=scenario)
    request = run_model(model, input_data=inputs, scenario=scenario).request
    assert request is not None
    real = report_of(Session(request, Execution.REAL).run().trace)
    assert report.execution == "simulated"
    assert report.memory.peak_allocated_bytes == real.memory.peak_allocated_bytes
    assert report.outputs[0].tensor.shape == real.outputs[0].tensor.shape


@pytest.mark.parametrize("driver", [None, "gels", "gelsy", "gelsd", "gelss"])
@pytest.mark.parametrize(
    ("matrix", "right"),
    [((10, 6), (10, 2)), ((4, 10, 6), (4, 10, 2)), ((6, 10), (6, 2)), ((4, 10, 6), (4, 10))],
)
def test_shapes_of_lstsq(driver: str | None, matrix: Any, right: Any) -> None:
    from torchgauge.trace.shapes.readers import READER_RULES

    rule = READER_RULES["aten.linalg_lstsq.default"]
    real = torch.ops.aten.linalg_lstsq(torch.randn(matrix), torch.randn(right), driver=driver)
    made = rule((torch.randn(matrix).to("meta"), torch.randn(right).to("meta")), {"driver": driver})
    for ours, theirs in zip(made, real, strict=True):
        assert (ours.shape, ours.stride(), ours.dtype) == (
            theirs.shape, theirs.stride(), theirs.dtype,
        )  # fmt: skip
        assert ours.untyped_storage().nbytes() == theirs.untyped_storage().nbytes()


class _ReadsMask(nn.Module):
    """Decides on a mask of the size of an image after it was resized to that of the features."""

    def __init__(self, resize: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.resize, self.layer = resize, nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return x if bool(self.resize(mask).bool().all()) else self.layer(x[:, :3])


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize(
    "resize",
    [
        lambda mask: functional.interpolate(mask.float(), size=(8, 8)),
        lambda mask: functional.interpolate(mask[:, 0].float()[None], scale_factor=1 / 32).to(bool),
        lambda mask: functional.max_pool2d(mask.float(), 32),
        lambda mask: mask.to(torch.float64)[:, :, ::32, ::32],
    ],
)
def test_a_mask_that_is_resized_keeps_its_values(
    resize: Callable[[torch.Tensor], torch.Tensor], is_padded: bool, dtype: torch.dtype
) -> None:
    mask = torch.ones(2, 1, 256, 256, dtype=dtype)
    if is_padded:
        mask[1, :, 160:] = 0
    data = (torch.zeros(2, 3, 256, 256), mask)
    report = tg.analyze(_ReadsMask(resize), input_data=data)
    assert report.execution == "simulated"
    one, two = 2 * 254**2 * 4 * 27, 2 * 252**2 * 4 * 27
    assert report.totals.forward_macs == one + (two if is_padded else 0)
