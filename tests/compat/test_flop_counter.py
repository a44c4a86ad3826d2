"""``FlopCounterMode``: true totals of real runs, its table, every argument and method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import flop_counter as original
from torch.utils.checkpoint import checkpoint

from torchgauge.compat.flop_counter import FlopCounterMode, register_flop_formula

Golden = Callable[[str, str], None]
Printed = pytest.CaptureFixture[str]
aten = torch.ops.aten


class Attention(nn.Module):
    """Projections and PyTorch's own attention: 4,194,304 MACs on [1, 128, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(64, 192), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, 4, 16).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, length, 64))


class Bare(nn.Module):
    """A parameter that no layer owns."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: torch.Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)


def count(run: Callable[[], Any], **settings: Any) -> FlopCounterMode:
    with FlopCounterMode(display=False, **settings) as counter:
        run()
    return counter


TOKENS = torch.zeros(1, 128, 64)
TRUE_MACS = {
    "attention": (Attention, TOKENS, 4_194_304),
    "multi-head": (lambda: SelfAttention(64, 4, batch_first=True), TOKENS, 4_194_304),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), TOKENS, 8_388_608,
    ),
    "lstm": (lambda: nn.LSTM(64, 128, 2, batch_first=True), TOKENS, 29_360_128),
    "transposed": (
        lambda: nn.ConvTranspose2d(3, 8, 4, 2, 1), torch.zeros(1, 3, 224, 224), 19_267_584,
    ),
    "bare parameter": (Bare, torch.zeros(1, 64), 4_096),
}  # fmt: skip
"""True figures of the survey of peers: closed forms of products and convolutions."""


# ------------------------------------------------------------------------ totals


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("case", TRUE_MACS)
def test_true_totals_in_every_grad_mode(case: str, mode: Any) -> None:
    build, x, macs = TRUE_MACS[case]
    model = build().eval()
    with mode():
        assert count(lambda: model(x)).get_total_flops() == 2 * macs


@pytest.mark.parametrize("case", ["attention", "multi-head", "encoder layer", "lstm"])
def test_the_original_misses_these(case: str) -> None:
    """Were it to count them one day, this page and the docs would have to say so."""
    build, x, macs = TRUE_MACS[case]
    model = build().eval()
    with torch.no_grad(), original.FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() < 2 * macs


def test_closed_forms_of_operators() -> None:
    """torch 2.13, test/test_flop_counter.py: variety, op and backward tests."""
    linear = nn.Linear(9, 10)

    def variety() -> None:
        torch.mm(torch.zeros(4, 5), torch.zeros(5, 6))
        torch.addmm(torch.zeros(4, 6), torch.zeros(4, 5), torch.zeros(5, 6), beta=0.5, alpha=0.5)
        torch.matmul(torch.zeros(5, 6), torch.zeros(6, 7))
        torch.einsum("ab,bc->ac", torch.zeros(6, 7), torch.zeros(7, 8))
        linear(torch.zeros(8, 9))

    assert count(variety).get_total_flops() == 240 + 240 + 420 + 672 + 1440
    batch = count(lambda: torch.bmm(torch.zeros(3, 4, 5), torch.zeros(3, 5, 6)))
    assert batch.get_total_flops() == 720
    image, weight = torch.zeros(2, 3, 6, 6), torch.zeros(6, 3, 4, 4)
    assert count(lambda: F.conv2d(image, weight, padding=1)).get_total_flops() == 28_800


def test_forward_and_backward() -> None:
    model = nn.Linear(4, 3)
    counter = count(lambda: model(torch.ones(2, 4)).sum().backward())
    assert counter.get_flop_counts() == {
        "Global": {aten.addmm: 48, aten.mm: 48},
        "Linear": {aten.addmm: 48, aten.mm: 48},
    }


def test_a_grouped_convolution_counts_its_own_weight_gradient() -> None:
    """PyTorch's formula multiplies all input with all output channels."""
    model = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    x = torch.zeros(1, 8, 6, 6)
    counts = count(lambda: model(x).sum().backward()).get_flop_counts()["Global"]
    assert counts == {aten.convolution: 2 * 8 * 9 * 16, aten.convolution_backward: 2 * 8 * 9 * 16}


def test_attention_backward() -> None:
    q = torch.zeros(1, 2, 8, 4, requires_grad=True)
    counter = count(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward())
    product = 2 * 2 * 8 * 8 * 4
    assert counter.get_total_flops() == (2 + 5) * product


def test_what_runs_is_what_would_run() -> None:
    torch.manual_seed(0)
    model, x = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.rand(2, 5, 16)
    for training in (True, False):
        model.train(training)
        torch.manual_seed(1)
        alone = model(x)
        torch.manual_seed(1)
        with FlopCounterMode(display=False):
            counted = model(x)
        assert torch.equal(alone, counted)


# ------------------------------------------------------------------------ modules


class Branches(nn.Module):
    """Two layers that read the same input, which needs no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.left(x) + self.right(x)


def test_a_backward_belongs_to_the_layer_whose_forward_it_is() -> None:
    model = Branches()
    counts = count(lambda: model(torch.ones(2, 4)).sum().backward()).get_flop_counts()
    assert sum(counts["Branches"].values()) == 4 * 64
    assert counts["Branches.left"] == counts["Branches.right"] == {aten.addmm: 64, aten.mm: 64}


def test_recomputed_blocks_count_again_where_they_belong() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.inner, self.first(x), use_reentrant=False)

    model = Checkpointed()
    counts = count(lambda: model(torch.ones(2, 4)).sum().backward()).get_flop_counts()
    assert counts["Checkpointed.inner"] == {aten.addmm: 2 * 64, aten.mm: 2 * 64}
    assert counts["Checkpointed.first"] == {aten.addmm: 64, aten.mm: 64}
    assert counts["Checkpointed"] == counts["Global"]


def test_a_failed_forward_is_left() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(3, 3))

    def run() -> None:
        with pytest.raises(RuntimeError):
            model(torch.ones(2, 4))
        torch.ones(2, 4) @ torch.ones(4, 4)

    counts = count(run).get_flop_counts()
    assert counts["Sequential"] == {aten.addmm: 64}
    assert counts["Global"] == {aten.addmm: 64, aten.mm: 64}


def test_nothing_stays_when_the_block_raises() -> None:
    model = nn.Linear(4, 4)
    before = dict(model.__dict__)
    with pytest.raises(RuntimeError), FlopCounterMode(display=False) as counter:
        model(torch.ones(2, 3))
    assert model.__dict__ == before  # hooks and modes: the fixture of all tests looks at those
    assert counter.get_total_flops() == 0


def test_a_second_block_starts_anew() -> None:
    model, counter = nn.Linear(4, 4), FlopCounterMode(display=False)
    for _ in range(2):
        with counter:
            model(torch.ones(2, 4))
    assert counter.get_total_flops() == 64


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_rows_of_one_level_sum_to_the_row_above(depth: int) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4)), nn.Linear(4, 2))
    counts = count(lambda: model(torch.ones(3, 4)).sum().backward()).get_flop_counts()
    totals = {name: sum(found.values()) for name, found in counts.items()}
    for name, total in totals.items():
        below = [v for n, v in totals.items() if n.rpartition(".")[0] == name]
        assert not below or sum(below) == total
    assert totals["Global"] == totals["Sequential"]


# ------------------------------------------------------------------------ arguments


def example() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(8192, 10))
    )


def test_mods_is_not_needed() -> None:
    with pytest.warns(UserWarning, match="mods argument is not needed anymore"):
        FlopCounterMode(mods=example(), display=False)


@pytest.mark.parametrize("shown", [True, False])
def test_display(shown: bool, capsys: Printed) -> None:
    model = nn.Linear(4, 4)
    with FlopCounterMode(display=shown) as counter:
        model(torch.ones(2, 4))
    assert capsys.readouterr().out == (counter.get_table() + "\n" if shown else "")


def test_depth_of_the_table(golden: Golden) -> None:
    model = example()
    counter = count(lambda: model(torch.zeros(2, 3, 32, 32)).sum().backward(), depth=1)
    assert counter.get_table() == counter.get_table(1)
    assert "Sequential.0" not in counter.get_table(1)
    assert "Sequential.2.1" not in counter.get_table(2)
    counter.depth = None
    assert counter.get_table() == counter.get_table(3)
    golden("compat/flop_counter_depth3.txt", counter.get_table(3))
    golden("compat/flop_counter_depth1.txt", counter.get_table(1))


def test_work_outside_of_modules_brings_the_global_row(golden: Golden) -> None:
    model = nn.Linear(4, 4)
    table = count(lambda: model(torch.ones(2, 4)) @ torch.ones(4, 4)).get_table()
    golden("compat/flop_counter_global.txt", table)
    golden("compat/flop_counter_empty.txt", count(lambda: torch.ones(2) + 1).get_table())


def test_the_default_depth_is_two() -> None:
    model = example()
    counter = count(lambda: model(torch.zeros(2, 3, 32, 32)))
    assert counter.get_table() == counter.get_table(2)


def test_custom_mapping_gets_shapes() -> None:
    seen: list[Any] = []

    def add(left: Any, right: Any, *, out_shape: Any = None, **kwargs: Any) -> int:
        seen.append((left, right, out_shape))
        return 7

    counter = count(lambda: torch.ones(2, 3) + torch.ones(3), custom_mapping={aten.add: add})
    assert counter.get_flop_counts() == {"Global": {aten.add: 7}}
    assert seen == [((2, 3), (3,), (2, 3))]


def test_custom_mapping_gets_tensors_when_it_asks_for_them() -> None:
    def mm(left: torch.Tensor, right: torch.Tensor, *, out_val: Any = None, **kwargs: Any) -> int:
        assert isinstance(left, torch.Tensor)
        assert isinstance(out_val, torch.Tensor)
        return 11

    mm._get_raw = True  # type: ignore[attr-defined]  # PyTorch's own mark
    counter = count(lambda: torch.ones(2, 3) @ torch.ones(3, 4), custom_mapping={aten.mm: mm})
    assert counter.get_total_flops() == 11


@pytest.fixture
def operator() -> Iterator[Any]:
    with torch.library._scoped_library("torchgauge_test", "DEF") as library:
        library.define("double(Tensor x) -> Tensor")
        library.impl("double", lambda x: 2 * x, "CPU")
        yield torch.ops.torchgauge_test.double


def test_what_has_no_formula_is_listed(operator: Any) -> None:
    counter = count(lambda: operator(torch.ones(3)))
    assert counter.get_total_flops() == 0
    assert [(entry.op, entry.calls) for entry in counter.not_counted] == [
        ("torchgauge_test.double.default", 1)
    ]


def test_formulas_registered_with_pytorch_count(operator: Any) -> None:
    @register_flop_formula(operator)
    def double(x: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return x[0]

    try:
        counter = count(lambda: operator(torch.ones(3)))
    finally:
        del original.flop_registry[operator]
    assert counter.get_flop_counts() == {"Global": {operator: 3}}
    assert counter.not_counted == ()


def test_a_branch_that_is_not_taken_does_not_count() -> None:
    """PyTorch's counter takes the larger of both branches of ``cond``, whichever runs."""
    from torch._higher_order_ops.cond import cond_op  # no public name for what torch.cond compiles

    small, large = torch.ones(2, 2), torch.ones(8, 8)
    for taken, flops in ((True, 16), (False, 1024)):
        counter = count(
            lambda taken=taken: cond_op(
                torch.tensor(taken), lambda a, b: a @ a, lambda a, b: (b @ b)[:2, :2],
                (small, large),
            )
        )  # fmt: skip
        assert counter.get_total_flops() == flops


# ------------------------------------------------------------------------ as documented


def test_the_example_of_the_documentation() -> None:
    """torch/utils/flop_counter.py, docstring: a module given, a backward inside."""
    mod = nn.Linear(4, 4)
    with (
        pytest.warns(UserWarning, match="not needed"),
        FlopCounterMode(mod, display=False) as flop_counter,
    ):
        mod(torch.ones(2, 4)).sum().backward()
    assert flop_counter.get_total_flops() == 2 * 64
