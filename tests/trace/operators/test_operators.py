"""Operators of every family through the whole trace, against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import ModelError
from torchgauge.estimate.compute.registry import unregister_flop_formula

L, E, H = 128, 64, 4


class Call(nn.Module):
    """A module around a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


def macs(model: nn.Module, *sizes: tuple[int, ...], **options: Any) -> int:
    report = tg.analyze(model, list(sizes), **options)
    assert report.execution == "simulated" and report.not_counted == ()
    return report.totals.forward_macs


CASES: list[tuple[str, Callable[[], nn.Module], list[tuple[int, ...]], int]] = [
    ("conv1d", lambda: nn.Conv1d(4, 8, 3), [(2, 4, 10)], 2 * 8 * 8 * 4 * 3),
    ("conv3d", lambda: nn.Conv3d(2, 4, 3), [(1, 2, 5, 5, 5)], 27 * 4 * 2 * 27),
    ("grouped", lambda: nn.Conv2d(8, 8, 3, groups=4), [(1, 8, 6, 6)], 16 * 8 * 2 * 9),
    ("depthwise", lambda: nn.Conv2d(8, 8, 3, groups=8), [(1, 8, 6, 6)], 16 * 8 * 9),
    ("dilated", lambda: nn.Conv2d(3, 4, 3, dilation=2), [(1, 3, 9, 9)], 25 * 4 * 27),
    ("transposed, grouped", lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2), [(1, 4, 5, 5)],
     25 * 4 * 3 * 9),
    ("rnn", lambda: nn.RNN(8, 16, batch_first=True), [(2, 10, 8)], 20 * 16 * 24),
    ("gru", lambda: nn.GRU(8, 16, batch_first=True), [(2, 10, 8)], 20 * 3 * 16 * 24),
    ("bidirectional lstm with projection",
     lambda: nn.LSTM(8, 16, 2, bidirectional=True, proj_size=4), [(5, 1, 8)],
     5 * 2 * (64 * (8 + 4) + 16 * 4) + 5 * 2 * (64 * (8 + 4) + 16 * 4)),
    ("lstm cell", lambda: nn.LSTMCell(8, 16), [(3, 8)], 3 * 4 * 16 * 24),
    ("gru cell", lambda: nn.GRUCell(8, 16), [(3, 8)], 3 * 3 * 16 * 24),
    ("einsum", lambda: Call(lambda a, b: torch.einsum("bij,bjk->bik", a, b)),
     [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    ("baddbmm", lambda: Call(lambda a, b: torch.baddbmm(a @ b, a, b)), [(2, 3, 4), (2, 4, 5)],
     2 * 2 * 3 * 4 * 5),
    ("embedding", lambda: nn.Embedding(10, 4), [(2, 3)], 0),
    ("embedding bag", lambda: nn.EmbeddingBag(10, 4), [(2, 3)], 0),
]  # fmt: skip


@pytest.mark.parametrize(("build", "sizes", "expected"), [case[1:] for case in CASES],
                         ids=[case[0] for case in CASES])  # fmt: skip
def test_closed_forms(
    build: Callable[[], nn.Module], sizes: list[tuple[int, ...]], expected: int
) -> None:
    assert macs(build(), *sizes) == expected


def split_heads(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return x.view(1, L, 3, H, E // H).permute(2, 0, 3, 1, 4).unbind(0)


class Flex(nn.Module):
    def __init__(self, *, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.qkv = nn.Linear(E, 3 * E)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        options: dict[str, Any] = {}
        if self.masked:
            options["block_mask"] = create_block_mask(
                lambda b, h, i, j: i >= j, 1, H, L, L, device=x.device.type
            )
        return flex_attention(*split_heads(self.qkv(x)), **options)  # type: ignore[return-value]


UNFUSED = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@UNFUSED
@pytest.mark.parametrize("masked", [False, True])
def test_flex_attention(masked: bool) -> None:
    projection, products = L * E * 3 * E, 2 * L * L * E
    assert macs(Flex(masked=masked), (1, L, E)) == projection + products


@UNFUSED
def test_flex_attention_trains_as_one_operator_each_way() -> None:
    report = tg.analyze(
        Flex(masked=False), (1, L, E), scenario=tg.Scenario(mode="training"), batch_dim=None
    )
    weight_gradient, five_products = 2 * L * E * 3 * E, 5 * 2 * L * L * E
    assert report.totals.backward_flops == weight_gradient + five_products
    assert report.not_counted == ()


@UNFUSED
def test_flex_attention_in_a_real_run_is_counted_and_not_differentiated() -> None:
    class Reading(Flex):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            return y * 2 if y.sum() > 0 else y

    model = Reading(masked=False)
    report = tg.analyze(model, (1, L, E), batch_dim=None)
    assert report.execution == "real"
    assert report.totals.forward_macs == L * E * 3 * E + 2 * L * L * E
    # Watched by a dispatch mode, torch 2.6 ends the process; 2.13 refuses by itself on the CPU.
    with pytest.raises(ModelError, match="FlexAttention"):
        tg.analyze(model, (1, L, E), scenario=tg.Scenario(mode="training"), batch_dim=None)


def test_attention_with_grouped_queries() -> None:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    sizes = [(2, 8, 16, 32), (2, 2, 16, 32), (2, 2, 16, 32)]
    assert macs(Call(attend), *sizes) == 2 * 2 * 8 * 16 * 16 * 32


def test_causal_masked_and_dropped_attention_count_the_same() -> None:
    sizes = [(1, 2, 16, 8)] * 3
    expected = 2 * 2 * 16 * 16 * 8
    sdpa = nn.functional.scaled_dot_product_attention
    assert macs(Call(lambda q, k, v: sdpa(q, k, v, is_causal=True)), *sizes) == expected
    assert macs(Call(lambda q, k, v: sdpa(q, k, v, dropout_p=0.1)), *sizes) == expected
    mask = torch.ones(16, 16, dtype=torch.bool).tril()
    assert macs(Call(lambda q, k, v: sdpa(q, k, v, attn_mask=mask)), *sizes) == expected


def test_padded_encoder_counts_every_layer() -> None:
    layer = nn.TransformerEncoderLayer(E, H, 128, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    padding = torch.zeros(2, 10, dtype=torch.bool)
    padding[:, 8:] = True
    data = {"src": torch.zeros(2, 10, E), "src_key_padding_mask": padding}
    report = tg.analyze(model, input_data=data)
    per_layer = 2 * (10 * 4 * E * E + 2 * 10 * 10 * E + 2 * 10 * E * 128)
    assert report.totals.forward_macs == 2 * per_layer
    assert report.execution == "simulated"


class Experts(nn.Module):
    """A mixture of experts that routes by value."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2)
        output = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            token, position = torch.where(chosen == index)
            output.index_add_(0, token, expert(x[token]) * weights[token, position, None])
        return output


def test_experts_that_are_chosen_by_value_are_split_evenly() -> None:
    report = tg.analyze(Experts(), (16, 8))
    assert report.execution == "simulated"
    assert any("an even split over 4 choices" in text for text in report.assumptions)
    assert report.totals.forward_macs == 16 * 8 * 4 + 2 * 16 * 8 * 8


def test_custom_operators_are_listed_until_they_have_a_formula() -> None:
    @torch.library.custom_op("torchgauge_tests::cube", mutates_args=())
    def cube(x: torch.Tensor) -> torch.Tensor:
        return x @ x @ x

    model = Call(lambda x: torch.ops.torchgauge_tests.cube(x))
    real = tg.analyze(model, (4, 4))  # without a fake kernel it can only run for real
    assert real.execution == "real"
    cube.register_fake(torch.empty_like)
    report = tg.analyze(model, (4, 4))
    assert report.execution == "simulated"
    assert [(gap.op, gap.calls) for gap in report.not_counted] == [
        ("torchgauge_tests.cube.default", 1)
    ]

    @tg.register_flop_formula("torchgauge_tests.cube")
    def formula(op: Any) -> int:
        return 2 * 2 * op.args[0].shape[0] ** 3

    try:
        assert macs(model, (4, 4)) == 2 * 4**3
    finally:
        unregister_flop_formula("torchgauge_tests.cube")


@pytest.mark.models
def test_graph_networks() -> None:
    geometric = pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch, Data
    from torch_geometric.nn import GCNConv

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(16, 32)

        def forward(self, data: Any) -> torch.Tensor:
            return self.conv(data.x, data.edge_index)

    assert geometric
    graph = Data(x=torch.randn(10, 16), edge_index=torch.randint(0, 10, (2, 40)))
    report = tg.analyze(Graph(), input_data=[Batch.from_data_list([graph, graph])])
    assert report.execution == "simulated"
    assert report.totals.forward_macs == 20 * 16 * 32
    shapes = {value.name: value.tensor.shape for value in report.inputs if value.tensor}
    assert shapes["data.x"] == (20, 16) and shapes["data.edge_index"] == (2, 80)


def test_modules_inside_function_transforms() -> None:
    """``vmap`` and ``grad`` hand wrapped tensors to modules."""

    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state, _ = torch.func.stack_module_state(list(self.members))
            first = self.members[0]
            call = lambda one, x: torch.func.functional_call(first, one, (x,))  # noqa: E731
            return torch.vmap(call, in_dims=(0, None))(state, x)

    class Sensitivity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.vmap(torch.func.grad(lambda row: self.layer(row).square().sum()))(x)

    report = tg.analyze(Ensemble(), (2, 4))
    assert report.totals.forward_macs == 3 * 2 * 4 * 4
    assert [call.outputs[0].tensor.shape for call in report.modules["members.0"].calls] == [(2, 4)]
    # The product itself and its gradient with respect to the input.
    assert tg.analyze(Sensitivity(), (2, 4)).totals.forward_macs == 2 * 2 * 4 * 4


def test_sharded_models_count_whole() -> None:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    try:
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
        fully_shard(model[0])
        fully_shard(model)
        report = tg.analyze(model, (2, 64))
        assert fully_shard.state(model)._is_root is None  # type: ignore[attr-defined]
    finally:
        dist.destroy_process_group()
    assert report.totals.params == 2 * (64 * 64 + 64)
    assert report.totals.forward_macs == 2 * 2 * 64 * 64
