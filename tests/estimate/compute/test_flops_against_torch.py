"""Our formulas against ``torch.utils.flop_counter``, op by op, on operators that really run.

Where the two disagree, ``TORCH_IS_WRONG`` says why, and the test pins both numbers.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from torchgauge.estimate.compute.elementwise import find_element_count
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.estimate.compute.registry import find_flop_formula
from torchgauge.facts.trace import OpRecord, Phase, TensorSpec

aten = torch.ops.aten
IS_CURRENT = torch.__version__ >= torch.torch_version.TorchVersion("2.13.0.dev0")


def spec(value):
    if isinstance(value, torch.Tensor):
        shape = tuple(value.shape)
        return TensorSpec(shape=shape, dtype=str(value.dtype), device=str(value.device), nbytes=0)
    if isinstance(value, (list, tuple)):
        return tuple(spec(item) for item in value)
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def record(func, args, kwargs, result):
    outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    return OpRecord(
        index=0,
        name=str(func),
        args=spec(args),
        kwargs=tuple((key, spec(value)) for key, value in kwargs.items()),
        outputs=spec(outputs),
        call=-1,
        phase=Phase.FORWARD,
    )


class Recorder(TorchDispatchMode):
    """Keeps every op with our FLOPs and torch's (``None`` where torch has no formula)."""

    def __init__(self):
        super().__init__()
        self.ops = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        torchs = flop_registry.get(func.overloadpacket)
        cost = op_cost(record(func, args, kwargs, result))
        packet = str(func.overloadpacket)
        try:
            theirs = torchs(*args, **kwargs, out_val=result) if torchs else None
        except (AssertionError, NotImplementedError):
            if IS_CURRENT:
                raise
            theirs = None  # only what BEFORE_2_13 lists may end here
        self.ops.append((packet, cost and cost.flops, theirs))
        return result


def run(case):
    """Record a case, forward and backward; return ``(op, ours, torch's)`` of the matmul-like."""
    recorder = Recorder()
    with recorder:
        result = case()
        result = result[0] if isinstance(result, tuple) else result
        if result.requires_grad:
            result.sum().backward()
    return [op for op in recorder.ops if op[2] is not None or op[1]]


def meta(*shape, dtype=torch.float32, grad=True):
    return torch.empty(*shape, device="meta", dtype=dtype, requires_grad=grad)


def half(*shape):
    return meta(*shape, dtype=torch.float16)


def float8(rows, columns):
    return meta(rows, columns, grad=False).to(torch.float8_e4m3fn)


def scale():
    return torch.ones((), device="meta")


Q, K, V = (2, 8, 10, 16), (2, 8, 12, 16), (2, 8, 12, 16)
LENGTHS = {"cum_seq_q": None, "cum_seq_k": None, "max_q": 10, "max_k": 12}


def jagged(tokens, heads=8):
    return half(tokens, heads, 16)


def offsets(*values):
    return torch.tensor(values, dtype=torch.int32).to("meta")


CASES = {
    "mm": lambda: meta(2, 3) @ meta(3, 5),
    "bmm": lambda: meta(7, 2, 3) @ meta(7, 3, 5),
    "addmm": lambda: F.linear(meta(2, 3), meta(5, 3), meta(5)),
    "baddbmm": lambda: torch.baddbmm(meta(1, 2, 5), meta(7, 2, 3), meta(7, 3, 5)),
    "linear of three dimensions": lambda: F.linear(meta(4, 2, 3), meta(5, 3), meta(5)),
    "einsum": lambda: torch.einsum("bij,bjk,bkl->bil", meta(2, 3, 4), meta(2, 4, 5), meta(2, 5, 6)),
    "_scaled_mm": lambda: torch._scaled_mm(float8(32, 16), float8(32, 16).t(), scale(), scale()),
    "conv1d": lambda: F.conv1d(meta(2, 3, 9), meta(6, 3, 3), meta(6)),
    "conv2d": lambda: F.conv2d(meta(2, 3, 9, 8), meta(6, 3, 3, 2), meta(6), stride=2, padding=1),
    "conv3d": lambda: F.conv3d(meta(2, 3, 7, 9, 8), meta(6, 3, 1, 3, 2), dilation=2),
    "conv_transpose1d": lambda: F.conv_transpose1d(meta(2, 3, 9), meta(3, 6, 3), stride=2),
    "conv_transpose2d": lambda: F.conv_transpose2d(meta(2, 3, 9, 8), meta(3, 6, 3, 2), meta(6)),
    "conv_transpose3d": lambda: F.conv_transpose3d(meta(2, 3, 4, 5, 6), meta(3, 6, 3, 2, 1)),
    "frozen convolution": lambda: F.conv2d(meta(2, 3, 9, 8), meta(6, 3, 3, 2, grad=False)),
    "first convolution": lambda: F.conv2d(meta(2, 3, 9, 8, grad=False), meta(6, 3, 3, 2)),
    "grouped forward": lambda: F.conv2d(
        meta(2, 8, 9, 8, grad=False), meta(4, 2, 3, 3, grad=False), groups=4
    ),
    # Not on meta tensors, for which torch 2.6 has no kernel of it.
    "_convolution": lambda: aten._convolution(
        torch.rand(2, 3, 9, 8), torch.rand(6, 3, 3, 2), None,
        [1, 1], [0, 0], [1, 1], False, [0, 0], 1, False, False, False, False,
    ),
    "_scaled_dot_product_flash_attention": lambda: aten._scaled_dot_product_flash_attention(
        half(*Q), half(*K), half(*V)
    ),
    "grouped queries": lambda: aten._scaled_dot_product_flash_attention(
        half(*Q), half(2, 4, 12, 16), half(2, 4, 12, 16)
    ),
    "_scaled_dot_product_efficient_attention": lambda: (
        aten._scaled_dot_product_efficient_attention(
            half(*Q), half(*K), half(2, 8, 12, 24), None, True
        )
    ),
    "_scaled_dot_product_cudnn_attention": lambda: aten._scaled_dot_product_cudnn_attention(
        half(*Q), half(*K), half(*V), None, True
    ),
    "math attention": lambda: aten._scaled_dot_product_attention_math(
        half(*Q), half(*K), half(*V)
    ),
    "_flash_attention_forward, jagged": lambda: aten._flash_attention_forward(
        jagged(15), jagged(20), jagged(20), offsets(0, 5, 15), offsets(0, 8, 20), 10, 12,
        0.0, False, False,
    ),
    "_efficient_attention_forward, jagged": lambda: aten._efficient_attention_forward(
        jagged(15)[None], jagged(20)[None], jagged(20)[None], None,
        offsets(0, 5, 15), offsets(0, 8, 20), 10, 12, 0.0, 0, True,
    ),
}  # fmt: skip


LENGTHS_ON_META = "reads the lengths of the sequences, which meta tensors do not have"
BEFORE_2_13 = {
    "_scaled_mm": ([32768], "not in the registry"),
    "grouped queries": ([122880, 307200], "asserts as many heads in keys as in queries"),
    "_flash_attention_forward, jagged": ([122880, 307200], LENGTHS_ON_META),
    "_efficient_attention_forward, jagged": ([122880, 307200], LENGTHS_ON_META),
}
"""What the counter of torch 2.6 cannot count: the FLOPs that torch 2.13 counts, and why."""


@pytest.mark.parametrize("case", CASES)
def test_same_as_torch(case):
    ops = run(CASES[case])
    assert ops
    if case in BEFORE_2_13:
        assert [ours for _, ours, _ in ops] == BEFORE_2_13[case][0]
        if not IS_CURRENT:
            ops = [op for op in ops if op[2] is not None]
    for name, ours, theirs in ops:
        assert ours == theirs, name


# ------------------------------------------------------------------------ where torch is wrong

TORCH_IS_WRONG = {
    "groups": "conv_backward_flop multiplies all input with all output channels for the weight's "
    "gradient, as if there were one group: g times too many. One convolution per group, which is "
    "the same computation, shows who is right.",
    "layout": "_flash_attention_forward and _efficient_attention_forward take [b, tokens, h, e]; "
    "the counter reads [b, h, tokens, e] where no offsets are given, and refuses or miscounts.",
    "positions": "One formula, with the argument order of convolution, serves ops with another: "
    "cudnn_convolution's benchmark is taken for transposed, and _slow_conv2d_forward raises.",
    "complete": "No formula for the CPU's flash attention, RNN kernels, the fused fast paths of "
    "nn.MultiheadAttention and nn.TransformerEncoderLayer, or _trilinear: counted as nothing.",
}


def torch_says(theirs, wrong, why):
    """Pin torch's number where it was seen; other releases may be right."""
    if torch.__version__.startswith("2.13."):
        assert theirs == wrong, TORCH_IS_WRONG[why]


def totals(case):
    ours = theirs = 0
    for _, our_flops, their_flops in run(case):
        ours += our_flops
        theirs += their_flops or 0
    return ours, theirs


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [2, 4, 8])
def test_groups(groups, transposed):
    convolve = F.conv_transpose2d if transposed else F.conv2d
    per_group = 8 // groups

    def grouped():
        return convolve(meta(2, 8, 9, 8), meta(8, per_group, 3, 3), groups=groups)

    def one_by_one():
        pairs = [(meta(2, per_group, 9, 8), meta(per_group, per_group, 3, 3))] * groups
        return torch.cat([convolve(x, weight) for x, weight in pairs], dim=1)

    ours, theirs = totals(grouped)
    assert (ours, ours) == totals(one_by_one)
    forward = ours // 3
    torch_says(theirs, forward + forward + groups * forward, "groups")


def test_layout():
    tokens_first = (half(2, 10, 8, 16), half(2, 10, 8, 16), half(2, 10, 8, 16))
    right, _ = totals(CASES["_scaled_dot_product_flash_attention"])
    right = right * 10 // 12  # ten keys here, twelve there

    def flash():
        return aten._flash_attention_forward(*tokens_first, None, None, 10, 10, 0.0, False, False)

    def efficient():
        lengths = (None, None, 10, 10)
        return aten._efficient_attention_forward(*tokens_first, None, *lengths, 0.0, 0, True)

    for case in (flash, efficient):
        ours, theirs = totals(case)
        assert ours == right
        torch_says(theirs, right * 8 // 10, "layout")


def test_positions():
    x, weight, out = meta(2, 3, 9, 8), meta(6, 3, 3, 2), meta(2, 6, 7, 7)
    right, wrong = 2 * out.numel() * 18, 2 * 2 * 72 * 6 * 18

    def both(op, *args):
        ours = op_cost(record(op.default, (x, weight, *args), {}, out)).flops
        torchs = flop_registry.get(op)  # torch 2.6 counts neither of the two below
        return ours, torchs(x, weight, *args, out_val=out) if torchs else None

    cudnn = (aten.cudnn_convolution, [0, 0], [1, 1], [1, 1], 1)
    ours, theirs = both(*cudnn, False, False, False)
    assert ours == right
    assert theirs == right or (theirs is None and not IS_CURRENT)  # 2.9 counts it, 2.6 does not
    ours, theirs = both(*cudnn, True, False, False)
    assert ours == right
    torch_says(theirs, wrong, "positions")
    overrideable = (aten.convolution_overrideable, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    ours, theirs = both(*overrideable)
    assert ours == right
    assert theirs in (None, right)


def test_flex_attention():
    q, k, v = meta(2, 8, 10, 16), meta(2, 4, 12, 16), meta(2, 4, 12, 24)
    out, sums = meta(2, 8, 10, 24), meta(2, 8, 10)
    for op, args in (
        (torch.ops.higher_order.flex_attention, (q, k, v)),
        (torch.ops.higher_order.flex_attention_backward, (q, k, v, out, sums, out)),
    ):
        ours = op_cost(record(op, args, {}, out)).flops
        if op in flop_registry:
            assert ours == flop_registry[op](*args, out_val=out)


def test_attention_on_the_cpu():
    def attention():
        shapes = ((2, 8, 10, 16), (2, 8, 12, 16), (2, 8, 12, 16))
        return F.scaled_dot_product_attention(*(torch.rand(s, requires_grad=True) for s in shapes))

    scores = 2 * 8 * 10 * 12
    flash, theirs = totals(attention)
    assert flash == 2 * scores * 16 * (2 + 5)
    torch_says(theirs, 0, "complete")


# ------------------------------------------------------------------------ fused against unfused


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_fused_recurrent_networks_cost_what_their_steps_cost(kind, options):
    def case(device):
        def network():
            model = getattr(torch.nn, kind)(6, 4, **options).to(device)
            depth = model.num_layers * (2 if model.bidirectional else 1)
            x = torch.rand(5, 3, 6, device=device, requires_grad=True)
            state = torch.rand(depth, 3, 4, device=device, requires_grad=True)
            return model(x, (state, state.clone()) if kind == "LSTM" else state)

        return network

    fused, _ = totals(case("cpu"))
    steps, theirs = totals(case("meta"))
    assert fused == steps == theirs


@pytest.mark.parametrize("inference", [torch.no_grad, torch.inference_mode])
def test_undecomposed_networks_cost_what_their_steps_cost(inference):
    model = torch.nn.LSTM(6, 4, num_layers=2, bidirectional=True)
    x = torch.rand(5, 3, 6)
    with inference():
        fused, _ = totals(lambda: model(x))
    parameters = [p for p in model.parameters() if p.ndim == 2]
    assert fused == 2 * 15 * sum(p.numel() for p in parameters)


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (lambda: torch.nn.TransformerEncoderLayer(64, 4, 256, 0.0, batch_first=True), 1),
        (lambda: torch.nn.MultiheadAttention(64, 4, batch_first=True), 3),
    ],
)
def test_fast_paths_cost_what_the_slow_ones_cost(make, inputs):
    model, x = make().eval(), torch.rand(2, 128, 64)
    with torch.no_grad():
        fast = run(lambda: model(*[x] * inputs))
    assert len(fast) == 1, "not the fast path"
    torch_says(fast[0][2], None, "complete")
    model.train()
    recorder = Recorder()
    with recorder:
        model(*[x.clone().requires_grad_()] * inputs)
    assert fast[0][1] == sum(ours or 0 for _, ours, _ in recorder.ops)


def test_bilinear_runs_as_trilinear():
    def macs(*shapes):
        return totals(lambda: F.bilinear(*(meta(*shape, grad=False) for shape in shapes)))[0] // 2

    assert macs((9, 3), (9, 4), (5, 3, 4)) == 9 * 5 * (3 * 4 + 4)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 5)]),
        ("ij,kl->ijkl", [(2, 3), (4, 5)]),
        ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 6)]),
        ("ij,jk,ik->i", [(3, 4), (4, 5), (3, 5)]),
        ("ij,j->", [(3, 4), (4,)]),
        ("ij,k->ik", [(3, 4), (5,)]),
        ("...ij,...jk->...ik", [(7, 1, 3, 4), (2, 4, 5)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("ijk,jk", [(3, 4, 5), (4, 5)]),
    ],
)
def test_einsum_costs_what_it_decomposes_to(equation, shapes):
    operands = [torch.rand(shape) for shape in shapes]
    decomposed, _ = totals(lambda: torch.einsum(equation, *operands))
    with torch.inference_mode():  # composite operators arrive whole
        whole = run(lambda: torch.einsum(equation, *operands))
    assert sum(ours for name, ours, _ in whole) == decomposed
    assert {name for name, _, _ in whole} <= {"aten.einsum"}


# ------------------------------------------------------------------------ nothing was forgotten


def names(text):
    return set(text.split())


# iterations or sparsity that the shapes do not show
NOT_COUNTED = names(
    """
    _compute_linear_combination _cslt_sparse_mm_search _sparse_addmm _sparse_mm
    _sparse_mm_reduce_impl _sparse_mm_reduce_impl_backward _sparse_semi_structured_apply
    _sparse_semi_structured_apply_dense _sparse_sparse_matmul _spsolve hspmm linalg_cond
    linalg_matrix_norm linalg_matrix_rank linalg_norm matrix_exp_backward nuclear_norm smm
    sparse_sampled_addmm sspaddmm
    """
)
# rare, or composite and therefore seen whole in inference mode only
NOT_COUNTED |= names(
    """
    _convolution_double_backward chain_matmul corrcoef cov fft_fft fft_fft2 fft_fftn fft_hfft
    fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft
    fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn istft linalg_matrix_power linalg_multi_dot
    linalg_tensorinv linalg_tensorsolve matrix_power stft
    """
)
NOT_COUNTED.add("_foobar")  # a test of torch's own


def aten_overloads():
    for name in torch._C._dispatch_get_all_op_names():
        if name.startswith("aten::"):
            packet, _, overload = name.removeprefix("aten::").partition(".")
            try:
                yield getattr(getattr(aten, packet), overload or "default")
            except AttributeError:
                continue  # takes no tensor and lives in TorchScript only


def is_known(overload):
    return bool(find_flop_formula(str(overload)) or find_element_count(str(overload)))


def takes_or_returns_tensors(overload):
    return "Tensor" in str(overload._schema)


def test_every_pointwise_op_is_known():
    pointwise = [op for op in aten_overloads() if torch.Tag.pointwise in op.tags]
    assert len(pointwise) > 300
    assert not [str(op) for op in pointwise if not is_known(op)]


def test_every_aten_op_is_known_or_left_out_on_purpose():
    unknown = {
        op.overloadpacket.__name__
        for op in aten_overloads()
        if takes_or_returns_tensors(op) and not is_known(op)
    }
    unknown = {name for name in unknown if not name.startswith("_test_")}
    forgotten = sorted(unknown - NOT_COUNTED)
    if torch.__version__ >= torch.torch_version.TorchVersion("2.14.0.dev0"):
        pytest.skip(f"newer than the tables; new here: {forgotten}")
    assert not forgotten


def test_everything_that_torch_counts_was_compared():
    compared = {
        name
        for case, build in CASES.items()
        for name, _, theirs in run(build)
        if theirs or case in BEFORE_2_13
    }
    by_hand = {
        "aten.cudnn_convolution",
        "aten.convolution_overrideable",
        "aten._slow_conv2d_forward",
        "flex_attention",
        "flex_attention_backward",
    }
    assert {str(target) for target in flop_registry} <= compared | by_hand
