"""What an operator costs: closed forms of every formula family, from records made by hand."""

from __future__ import annotations

import itertools

import pytest

from torchgauge.devices.tables import rows_beside
from torchgauge.estimate.compute import elementwise as counts
from torchgauge.estimate.compute.flops import OpCost, not_counted_reason, op_cost
from torchgauge.estimate.compute.registry import (
    find_flop_formula,
    register_flop_formula,
    unregister_flop_formula,
)
from torchgauge.facts.trace import OpRecord, Phase, TensorSpec


def tensor(*shape):
    return TensorSpec(shape=shape, dtype="float32", device="meta", nbytes=0)


def record(name, args, *outputs, is_view=False, **kwargs):
    return OpRecord(
        index=0,
        name=name,
        args=tuple(tensor(*arg) if isinstance(arg, list) else arg for arg in args),
        kwargs=tuple(kwargs.items()),
        outputs=tuple(tensor(*output) for output in outputs),
        call=-1,
        phase=Phase.FORWARD,
        is_view=is_view,
    )


def flops(name, args, *outputs, **kwargs):
    cost = op_cost(record(name, args, *outputs, **kwargs))
    assert cost is not None, f"{name} is not counted"
    return cost.flops


def elementwise(name, args, *outputs, **kwargs):
    cost = op_cost(record(name, args, *outputs, **kwargs))
    assert cost is not None, f"{name} is not counted"
    assert cost.flops == 0
    return cost.elementwise


# ------------------------------------------------------------------------ matrix products


@pytest.mark.parametrize(
    ("name", "args", "output", "macs"),
    [
        ("aten.mm.default", ([2, 3], [3, 5]), [2, 5], 2 * 3 * 5),
        ("aten.mm.out", ([2, 3], [3, 5]), [2, 5], 2 * 3 * 5),
        ("aten.bmm.default", ([7, 2, 3], [7, 3, 5]), [7, 2, 5], 7 * 2 * 3 * 5),
        ("aten.mv.default", ([2, 3], [3]), [2], 2 * 3),
        ("aten.dot.default", ([9], [9]), [], 9),
        ("aten.addmm.default", ([5], [2, 3], [3, 5]), [2, 5], 2 * 3 * 5),
        ("aten.addmm_.default", ([2, 5], [2, 3], [3, 5]), [2, 5], 2 * 3 * 5),
        ("aten.baddbmm.default", ([5], [7, 2, 3], [7, 3, 5]), [7, 2, 5], 7 * 2 * 3 * 5),
        ("aten.addbmm.default", ([2, 5], [7, 2, 3], [7, 3, 5]), [2, 5], 7 * 2 * 3 * 5),
        ("aten.addmv.default", ([2], [2, 3], [3]), [2], 2 * 3),
        ("aten.linear.default", ([4, 2, 3], [5, 3], [5]), [4, 2, 5], 4 * 2 * 3 * 5),
        ("aten.linear.default", ([4, 3], [3], None), [4], 4 * 3),
        ("aten.matmul.default", ([6, 1, 2, 3], [7, 3, 5]), [6, 7, 2, 5], 42 * 2 * 3 * 5),
        ("aten.matmul.default", ([3], [3]), [], 3),
        ("aten.inner.default", ([2, 3], [4, 3]), [2, 4], 2 * 3 * 4),
        ("aten._int_mm.default", ([32, 16], [16, 8]), [32, 8], 32 * 16 * 8),
        ("aten._scaled_mm.default", ([32, 16], [16, 8], [], []), [32, 8], 32 * 16 * 8),
        # int4: eight values to a packed row, so only the output knows the width
        (
            "aten._weight_int4pack_mm.default",
            ([4, 64], [4, 2, 32, 4], 32, [2, 32, 2]),
            [4, 32],
            4 * 64 * 32,
        ),
        ("aten._weight_int8pack_mm.default", ([4, 64], [32, 64], [32]), [4, 32], 4 * 64 * 32),
        ("quantized.linear_dynamic.default", ([4, 64], "<packed>"), [4, 32], 4 * 64 * 32),
        ("aten.tensordot.default", ([2, 3, 4], [3, 4, 5], (1, 2), (0, 1)), [2, 5], 2 * 12 * 5),
        ("aten.bilinear.default", ([9, 3], [9, 4], [5, 3, 4], None), [9, 5], 9 * 5 * (12 + 4)),
        (  # nn.Bilinear(3, 4, 5) on a batch of 9, as torch calls it
            "aten._trilinear.default",
            ([9, 3], [5, 3, 4], [9, 4], (1, 3), (0,), (1, 2), (2, 3)),
            [9, 5],
            9 * 5 * (12 + 4),
        ),
    ],
)
def test_products(name, args, output, macs):
    assert flops(name, args, output) == 2 * macs


@pytest.mark.parametrize(
    ("a", "b", "output", "macs"),
    [
        ([10, 3], [4, 3, 5], [10, 5], 10 * 3 * 5),
        ([4, 2, 3], [3, 20], [2, 20], 2 * 3 * 20),
        ([2, 12], [12, 5], [4, 2, 5], 2 * 12 * 5),
        ([4, 2, 3], [4, 3, 5], [4, 2, 5], 4 * 2 * 3 * 5),
    ],
)
def test_grouped_products(a, b, output, macs):
    for name in ("aten._grouped_mm.default", "aten._scaled_grouped_mm.default"):
        assert flops(name, (a, b), output) == 2 * macs


@pytest.mark.parametrize(("wanted", "passes"), [((1, 1, 1), 2), ((0, 1, 0), 1), ((0, 0, 1), 0)])
def test_linear_backward_pays_only_for_what_was_asked(wanted, passes):
    args = ([4, 3], [4, 5], [5, 3], tuple(map(bool, wanted)))
    cost = op_cost(record("aten.linear_backward.default", args, [4, 3]))
    assert cost == OpCost(flops=passes * 2 * 4 * 3 * 5, elementwise=20 * wanted[2])


def test_semi_structured_sparsity_halves_the_products():
    name = "aten._sparse_semi_structured_linear.default"
    assert flops(name, ([32, 64], [16, 32], [16, 4]), [32, 16]) == 32 * 64 * 16
    assert flops("aten._cslt_sparse_mm.default", ([999], [64, 32]), [16, 32]) == 16 * 64 * 32


def test_foreach_products_add_up():
    left, right = (tensor(2, 3), tensor(4, 5)), (tensor(3, 7), tensor(5, 6))
    assert flops("aten._foreach_mm.default", (left, right)) == 2 * (2 * 3 * 7 + 4 * 5 * 6)


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("ij,jk->ik", ([2, 3], [3, 5]), 30),
        ("ij,jk", ([2, 3], [3, 5]), 30),
        ("...ij,...jk->...ik", ([2, 3, 4], [2, 4, 5]), 120),
        ("bij,bjk,bkl->bil", ([2, 3, 4], [2, 4, 5], [2, 5, 6]), 120 + 180),
        ("ij,jk,ik->i", ([3, 4], [4, 5], [3, 5]), 60 + 15),
        ("ij,j->", ([3, 4], [4]), 4),  # i is summed before the product
        ("i,i->i", ([7], [7]), 0),  # element-wise
        ("ij,k->ik", ([3, 4], [5]), 0),  # j is summed, then element-wise
        ("ij->j", ([3, 4],), 0),
    ],
)
def test_einsum(equation, shapes, macs):
    operands = tuple(tensor(*shape) for shape in shapes)
    assert flops("aten.einsum.default", (equation, operands), [1]) == 2 * macs


def test_einsum_follows_a_given_path():
    operands = (tensor(2, 30), tensor(30, 4), tensor(4, 50))
    call = ("ij,jk,kl->il", operands)
    assert flops("aten.einsum.default", call, [2, 50]) == 2 * (2 * 30 * 4 + 2 * 4 * 50)
    right_first = flops("aten.einsum.default", call, [2, 50], path=(1, 2, 0, 1))
    assert right_first == 2 * (30 * 4 * 50 + 2 * 30 * 50)


# ------------------------------------------------------------------------ convolutions

ONES, ZEROS = (1, 1), (0, 0)


def convolution(x, weight, output, *, transposed=False, groups=1):
    args = (x, weight, None, ONES, ZEROS, ONES, transposed, ZEROS, groups)
    return flops("aten.convolution.default", args, output)


def test_convolutions():
    assert convolution([2, 3, 8, 8], [6, 3, 3, 3], [2, 6, 6, 6]) == 2 * (2 * 6 * 36) * 27
    assert convolution([2, 3, 8], [6, 3, 3], [2, 6, 6]) == 2 * (2 * 6 * 6) * 9
    assert convolution([1, 2, 4, 4, 4], [5, 2, 2, 2, 2], [1, 5, 3, 3, 3]) == 2 * 5 * 27 * 16


def test_groups_divide_the_work():
    assert convolution([1, 8, 8, 8], [8, 1, 3, 3], [1, 8, 6, 6], groups=8) == 2 * 8 * 36 * 9
    assert convolution([1, 8, 8, 8], [4, 2, 3, 3], [1, 4, 6, 6], groups=4) == 2 * 4 * 36 * 18


def test_transposed_convolution_counts_from_its_input():
    # ConvTranspose2d(3, 8, 4, stride=2) on 224 × 224
    cost = convolution([1, 3, 224, 224], [3, 8, 4, 4], [1, 8, 450, 450], transposed=True)
    assert cost == 2 * 19_267_584
    args = ([1, 3, 224, 224], [3, 8, 4, 4], None)
    assert flops("aten.conv_transpose2d.input", args, [1, 8, 450, 450]) == cost


def test_convolution_without_a_batch():
    assert flops("aten.conv2d.default", ([3, 8, 8], [6, 3, 3, 3]), [6, 6, 6]) == 2 * 6 * 36 * 27


@pytest.mark.parametrize("name", ["cudnn_convolution", "mkldnn_convolution", "conv2d.padding"])
def test_backend_convolutions_cost_the_same(name):
    name = name if "." in name else f"{name}.default"
    assert flops(f"aten.{name}", ([2, 3, 8, 8], [6, 3, 3, 3]), [2, 6, 6, 6]) == 2 * 432 * 27


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize(
    ("grad", "x", "weight", "transposed", "forward"),
    [
        ([2, 6, 6, 6], [2, 3, 8, 8], [6, 3, 3, 3], False, 2 * 432 * 27),
        ([2, 6, 6, 6], [2, 4, 8, 8], [6, 2, 3, 3], False, 2 * 432 * 18),  # two groups
        ([2, 6, 10, 10], [2, 3, 8, 8], [3, 6, 3, 3], True, 2 * 384 * 54),
    ],
)
def test_convolution_backward(grad, x, weight, transposed, forward, wanted):
    args = (grad, x, weight, (6,), ONES, ZEROS, ONES, transposed, ZEROS, 1, wanted)
    cost = op_cost(record("aten.convolution_backward.default", args, x))
    bias = wanted[2] * tensor(*grad).numel
    assert cost == OpCost(flops=(wanted[0] + wanted[1]) * forward, elementwise=bias)


def test_other_convolutions():
    tbc = flops("aten.conv_tbc.default", ([10, 2, 3], [4, 3, 5], [5], 0), [7, 2, 5])
    assert tbc == 2 * (7 * 2 * 5) * 4 * 3
    deformed = ([2, 3, 8, 8], [6, 3, 3, 3], [2, 18, 6, 6], [2, 9, 6, 6], [6])
    assert flops("torchvision.deform_conv2d.default", deformed, [2, 6, 6, 6]) == 2 * 432 * 27
    fused = ([1, 3, 8, 8], [1, 6, 6, 6], [6, 3, 3, 3])
    assert flops("mkldnn._convolution_pointwise.binary", fused, [1, 6, 6, 6]) == 2 * 216 * 27


# ------------------------------------------------------------------------ attention

Q, K, V = [2, 8, 10, 16], [2, 4, 12, 16], [2, 4, 12, 20]  # grouped queries, wider values
SCORES = 2 * 8 * 10 * 12
FORWARD = 2 * SCORES * (16 + 20)
BACKWARD = 2 * SCORES * (3 * 16 + 2 * 20)
DENSE = [
    "aten.scaled_dot_product_attention.default",
    "aten._scaled_dot_product_attention_math.default",
    "aten._scaled_dot_product_cudnn_attention.default",
    "aten._scaled_dot_product_efficient_attention.default",
    "aten._scaled_dot_product_flash_attention.default",
    "aten._scaled_dot_product_flash_attention.quantized",
    "aten._scaled_dot_product_flash_attention_for_cpu.default",
    "aten._scaled_dot_product_fused_attention_overrideable.default",
]


@pytest.mark.parametrize("name", DENSE)
def test_attention(name):
    assert flops(name, (Q, K, V), [2, 8, 10, 20]) == FORWARD


@pytest.mark.parametrize("name", DENSE[2:5] + DENSE[6:])
def test_attention_backward(name):
    name = name.replace(".default", "_backward.default").replace(".quantized", "_backward")
    assert flops(name, ([2, 8, 10, 20], Q, K, V), Q, K, V) == BACKWARD


def test_causal_attention_counts_dense():
    assert flops(DENSE[4], (Q, K, V, 0.0, True), [2, 8, 10, 20]) == FORWARD


def test_flex_attention_has_no_namespace():
    assert flops("flex_attention", (Q, K, V, None, None), [2, 8, 10, 20]) == FORWARD
    args = (Q, K, V, [2, 8, 10, 20], [2, 8, 10])
    assert flops("flex_attention_backward", args, Q, K, V) == BACKWARD


def test_raw_kernels_take_tokens_before_heads():
    q, k, v = ([s[0], s[2], s[1], s[3]] for s in (Q, K, V))
    dense = (None, None, 10, 12)
    out = [2, 10, 8, 20]
    assert flops("aten._flash_attention_forward.default", (q, k, v, *dense), out) == FORWARD
    name = "aten._efficient_attention_forward.default"
    assert flops(name, (q, k, v, None, *dense), out) == FORWARD
    back = (out, q, k, v, out, [2, 8, 10], *dense)
    assert flops("aten._flash_attention_backward.default", back, q, k, v) == BACKWARD
    back = (out, q, k, v, None, out, *dense)
    assert flops("aten._efficient_attention_backward.default", back, q, k, v) == BACKWARD


def test_jagged_attention_counts_every_sequence_as_the_longest():
    q, k, v = [15, 8, 16], [20, 4, 16], [20, 4, 20]  # two sequences, at most 10 and 12 tokens
    lengths = ([3], [3], 10, 12)
    args = (q, k, v, *lengths)
    assert flops("aten._flash_attention_forward.default", args, [15, 8, 20]) == FORWARD
    q, k, v = [1, *q], [1, *k], [1, *v]
    args = (q, k, v, None, *lengths)
    assert flops("aten._efficient_attention_forward.default", args, [1, 15, 8, 20]) == FORWARD


def test_cudnn_attention_takes_heads_before_tokens():
    args = (Q, K, V, None, None, None, 10, 12)
    assert flops("aten._cudnn_attention_forward.default", args, [2, 8, 10, 20]) == FORWARD
    args = ([2, 8, 10, 20], Q, K, V)
    assert flops("aten._cudnn_attention_backward.default", args, Q, K, V) == BACKWARD
    jagged = ([15, 8, 20], [15, 8, 16], [20, 4, 16], [20, 4, 20], *[None] * 5, [3], [3], 10, 12)
    assert flops("aten._cudnn_attention_backward.default", jagged, [15, 8, 16]) == BACKWARD


def test_fused_transformer_fast_paths():
    x = [1, 128, 64]
    attention = ([192, 64], [192], [64, 64], [64])
    # nn.MultiheadAttention(64, 4): published 4,194,304 MACs
    args = (x, x, x, 64, 4, *attention)
    assert flops("aten._native_multi_head_attention.default", args, x) == 2 * 4_194_304
    # nn.TransformerEncoderLayer(64, 4, 256): 8,388,608 MACs
    norms = ([64], [64], [64], [64])
    feed_forward = ([256, 64], [256], [64, 256], [64])
    args = (x, 64, 4, *attention, True, False, 1e-5, *norms, *feed_forward)
    assert flops("aten._transformer_encoder_layer_fwd.default", args, x) == 2 * 8_388_608


# ------------------------------------------------------------------------ recurrent networks


def lstm_weights(layers=2, inputs=64, hidden=128):
    for layer in range(layers):
        yield tensor(4 * hidden, inputs if layer == 0 else hidden)
        yield tensor(4 * hidden, hidden)
        yield tensor(4 * hidden)
        yield tensor(4 * hidden)


LSTM_MACS = 29_360_128  # 64 → 128, two layers, 128 tokens
X, H = [128, 1, 64], [2, 1, 128]


def test_recurrent_networks():
    weights = tuple(lstm_weights())
    hidden = (tensor(2, 1, 128),) * 2
    assert flops("aten.lstm.input", (X, hidden, weights), [128, 1, 128]) == 2 * LSTM_MACS
    packed = ([128, 64], [5], hidden, weights)
    assert flops("aten.lstm.data", packed, [128, 128]) == 2 * LSTM_MACS
    assert flops("aten._cudnn_rnn.default", (X, weights, 4), [128, 1, 128]) == 2 * LSTM_MACS
    assert flops("aten.miopen_rnn.default", (X, weights, 4), [128, 1, 128]) == 2 * LSTM_MACS


@pytest.mark.parametrize(("weights_wanted", "passes"), [(True, 2), (False, 1)])
def test_recurrent_backward_of_frozen_weights(weights_wanted, passes):
    weights = tuple(lstm_weights())
    output_mask = (True, False, False, weights_wanted)
    cudnn = (X, weights, *[None] * 19, output_mask)
    assert flops("aten._cudnn_rnn_backward.default", cudnn, X) == passes * 2 * LSTM_MACS
    miopen = (X, weights, *[None] * 18, output_mask)
    assert flops("aten.miopen_rnn_backward.default", miopen, X) == passes * 2 * LSTM_MACS


def test_one_layer_of_onednn_and_one_cell():
    matrices = ([512, 64], [512, 128])
    macs = 512 * (64 + 128)
    layer = (X, *matrices, [512], [512])
    assert flops("aten.mkldnn_rnn_layer.default", layer, [128, 1, 128]) == 2 * 128 * macs
    assert flops("aten.mkldnn_rnn_layer_backward.default", layer, X) == 4 * 128 * macs
    cell = ([3, 64], (tensor(3, 128),), *matrices)
    assert flops("aten.lstm_cell.default", cell, [3, 128]) == 2 * 3 * macs


def test_projections_count_and_gates_do_not():
    weights = (tensor(512, 64), tensor(512, 32), tensor(512), tensor(512), tensor(32, 128))
    macs = 128 * (512 * 64 + 512 * 32 + 32 * 128)
    assert flops("aten._cudnn_rnn.default", (X, weights, 5), [128, 1, 32]) == 2 * macs
    gates = ([3, 512], [3, 512], [3, 128])
    assert elementwise("aten._thnn_fused_lstm_cell.default", gates, [3, 128]) == 3 * 512


# ------------------------------------------------------------------------ distances, linear algebra


def test_distances_that_run_as_a_product():
    assert flops("aten._euclidean_dist.default", ([30, 3], [4, 3]), [30, 4]) == 2 * 120 * 5
    assert flops("aten._cdist_forward.default", ([30, 3], [4, 3], 2.0, None), [30, 4]) == 1200
    assert elementwise("aten._cdist_forward.default", ([9, 3], [4, 3], 2.0, None), [9, 4]) == 324
    assert elementwise("aten._cdist_forward.default", ([30, 3], [4, 3], 1.0, None), [30, 4]) == 1080
    assert flops("aten._cdist_forward.default", ([9, 3], [4, 3], 2.0, 1), [9, 4]) == 2 * 36 * 5


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("linalg_cholesky_ex", ([2, 6, 6],), 2 * 6**3 / 3),
        ("linalg_lu_factor_ex", ([6, 6],), 2 * 6**3 / 3),
        ("linalg_lu_factor_ex", ([9, 6],), 9 * 36 - 6**3 / 3),
        ("linalg_inv_ex", ([6, 6],), 2 * 6**3),
        ("_linalg_solve_ex", ([6, 6], [6, 4]), 2 * 6**3 / 3 + 2 * 36 * 4),
        ("_linalg_solve_ex", ([5, 6, 6], [5, 6]), 5 * (2 * 6**3 / 3 + 2 * 36)),
        ("linalg_solve_triangular", ([6, 6], [6, 4]), 36 * 4),
        ("cholesky_solve", ([6, 4], [6, 6]), 2 * 36 * 4),
        ("linalg_lu_solve", ([6, 6], [6], [6, 4]), 2 * 36 * 4),
        ("linalg_qr", ([9, 6],), 2 * 2 * 36 * (9 - 2)),
        ("linalg_qr", ([9, 6], "r"), 2 * 36 * (9 - 2)),
        ("linalg_qr", ([9, 6], "complete"), 504 + 4 * (81 * 6 - 9 * 36 + 72)),
        ("_linalg_eigh", ([6, 6], "L", True), 9 * 6**3),
        ("_linalg_eigh", ([6, 6], "L", False), 4 * 6**3 / 3),
        ("_linalg_svd", ([9, 6],), 14 * 9 * 36 + 8 * 6**3),
        ("_linalg_svd", ([9, 6], True), 4 * 81 * 6 + 8 * 9 * 36 + 9 * 6**3),
        ("_linalg_svd", ([9, 6], False, False), 4 * 9 * 36 - 4 * 6**3 / 3),
        ("linalg_eig", ([2, 6, 6],), 2 * 25 * 6**3),
        ("_linalg_eigvals", ([6, 6],), 10 * 6**3),
        ("linalg_ldl_factor_ex", ([3, 6, 6],), 3 * 6**3 / 3),
        ("linalg_ldl_solve", ([6, 6], [6], [6, 4]), 2 * 36 * 4),
        # The reflectors of a square matrix give all of Q: 4 n³ / 3.
        ("linalg_householder_product", ([6, 6], [6]), 4 * 6**3 / 3),
        ("linalg_householder_product", ([9, 6], [6]), 2 * 36 * (9 - 2)),  # as much as R
        ("ormqr", ([9, 6], [6], [9, 4]), 4 * 9 * 4 * 6 - 2 * 4 * 36),
        ("ormqr", ([9, 6], [6], [4, 9], False), 4 * 9 * 4 * 6 - 2 * 4 * 36),
        ("linalg_lstsq", ([9, 6], [9, 4]), 2 * 36 * (9 - 2) + 4 * 9 * 6 * 4 - 36 * 4),
        ("linalg_lstsq", ([2, 6, 9], [2, 6]), 2 * (2 * 36 * (9 - 2) + 4 * 9 * 6 - 36)),
        ("linalg_lstsq", ([9, 6], [9, 4], None, "gelsd"), 4 * 9 * 36 + 8 * 6**3 + 2 * 15 * 6 * 4),
        ("linalg_pinv", ([9, 6],), 14 * 9 * 36 + 8 * 6**3 + 2 * 9 * 36),
        ("linalg_pinv", ([6, 6], 1e-3, True), 9 * 6**3 + 2 * 6**3),
        ("linalg_matrix_exp", ([3, 1, 1],), 0),
    ],
)
def test_linear_algebra(name, args, expected):
    assert flops(f"aten.{name}.default", args, [1]) == expected


# ------------------------------------------------------------------------ element-wise work


@pytest.mark.parametrize(
    ("name", "args", "output", "expected"),
    [
        ("aten.add.Tensor", ([2, 1], [3]), [2, 3], 6),  # broadcast: the output
        ("aten.relu_.default", ([2, 3],), [2, 3], 6),
        ("aten.sum.dim_IntList", ([2, 3], (1,)), [2], 6),  # reduction: the input
        ("aten.max_pool2d_with_indices.default", ([1, 8, 8], (2, 2)), [1, 4, 4], 64),
        ("aten.upsample_nearest2d.default", ([1, 4, 4], None), [1, 8, 8], 64),
        ("aten._softmax.default", ([2, 3], -1, False), [2, 3], 5 * 6),
        ("aten.native_layer_norm.default", ([2, 3], [3], [3], [3], 1e-5), [2, 3], 5 * 6),
        ("aten.native_batch_norm.default", ([2, 3], [3], [3], [3], [3], True), [2, 3], 5 * 6),
        ("aten.native_batch_norm.default", ([2, 3], [3], [3], [3], [3], False), [2, 3], 2 * 6),
        ("aten.embedding.default", ([1000, 8], [4, 5]), [4, 5, 8], 160),  # not the table
        ("aten.embedding_dense_backward.default", ([4, 5, 8], [4, 5], 1000), [1000, 8], 160),
        ("aten._embedding_bag.default", ([1000, 8], [20], [4]), [4, 8], 160),
        ("aten.index_add.default", ([1000, 8], 0, [20], [20, 8]), [1000, 8], 160),
        ("aten.nll_loss_forward.default", ([4, 1000], [4], None, 1, -100), [], 4),
        ("aten._fft_c2c.default", ([3, 8], (1,), 0, True), [3, 8], 5 * 24 * 3),
        ("aten._fft_r2c.default", ([3, 8], (1,), 0, True), [3, 5], 2.5 * 24 * 3),
        ("aten._fft_c2r.default", ([3, 5], (1,), 0, 8), [3, 8], 2.5 * 24 * 3),
        ("aten.outer.default", ([3], [4]), [3, 4], 12),
        ("aten.normal_.default", ([7],), [7], 7),
        ("torchvision.roi_align.default", ([1, 8, 99, 99], [4, 5]), [4, 8, 7, 7], 1568),
        ("prims.mul.default", ([7], [7]), [7], 7),
    ],
)
def test_elementwise_work(name, args, output, expected):
    assert elementwise(name, args, output) == expected


def test_lists_of_tensors_are_one_operand():
    parameters = (tensor(2, 3), tensor(4))
    both = (parameters, parameters)
    assert elementwise("aten._foreach_add_.List", both) == 10
    assert elementwise("aten._foreach_zero_.default", (parameters,)) == 0
    assert elementwise("aten._fused_adamw_.default", (parameters,) * 4) == 14 * 10
    assert elementwise("aten._foreach_norm.Scalar", (parameters,), [], []) == 10


@pytest.mark.parametrize(
    "name",
    [
        "aten.view.default",
        "aten.view_copy.default",
        "aten.transpose_.default",
        "aten._to_copy.default",
        "aten.copy_.default",
        "aten.empty.memory_format",
        "aten.zeros_like.default",
        "aten.cat.default",
        "aten.detach.default",
        "aten._foreach_copy_.default",
        "prims.convert_element_type.default",
        "_c10d_functional.all_reduce.default",
    ],
)
def test_free_ops(name):
    assert op_cost(record(name, ([2, 3],), [2, 3])) == OpCost(flops=0, elementwise=0)


def test_a_view_is_free_even_if_unknown():
    assert op_cost(record("mylib.my_view.default", ([2, 3],), [6], is_view=True)) is not None
    assert op_cost(record("aten.contiguous.default", ([6],), [6], is_view=True)).elementwise == 0


# ------------------------------------------------------------------------ what is not counted


def test_an_unknown_op_has_no_cost():
    op = record("mylib.myop.default", ([2, 3],), [2, 3])
    assert op_cost(op) is None
    assert not_counted_reason(op) == "no FLOP formula; add one with register_flop_formula"


@pytest.mark.parametrize("name", ["_sparse_mm", "linalg_matrix_exp", "hspmm"])
def test_work_that_the_shapes_do_not_show_is_not_counted(name):
    assert op_cost(record(f"aten.{name}.default", ([6, 6], [6, 6]), [6, 6])) is None


def test_packed_weights_are_not_counted_and_the_reason_says_so():
    packed = ("<CellParamsBase>",) * 2
    op = record("aten.quantized_lstm.input", (X, (tensor(2, 1, 128),), packed), [128, 1, 128])
    assert op_cost(op) is None
    assert not_counted_reason(op) == (
        "a shape is not visible: argument 2 of aten.quantized_lstm.input holds packed objects"
    )
    assert op_cost(record("quantized.conv2d.new", (X, "<packed>"), X)) is None


# ------------------------------------------------------------------------ the registry


@pytest.fixture
def registered():
    names = []

    def add(name, value, **options):
        register_flop_formula(name, **options)(lambda op: value)
        names.append(str(name))

    yield add
    for name in dict.fromkeys(names):
        unregister_flop_formula(name)


def cost_of(name):
    cost = op_cost(record(name, ([2, 3],), [2, 3]))
    return cost and cost.flops


def test_a_formula_for_a_packet_serves_every_overload_and_the_inplace_variant(registered):
    assert cost_of("mylib.myop.default") is None
    registered("mylib::myop", 7)
    assert [cost_of(f"mylib.{n}") for n in ("myop.default", "myop.out", "myop_.default")] == [7] * 3
    assert cost_of("mylib.myop2.default") is None


def test_the_most_exact_name_wins(registered):
    registered("mylib.myop", 7)
    registered("mylib.myop.special", 8)
    assert cost_of("mylib.myop.special") == 8
    assert cost_of("mylib.myop.default") == 7


def test_unregistering_takes_effect_at_once():
    register_flop_formula("mylib.myop")(lambda op: 7)
    assert cost_of("mylib.myop.default") == 7
    unregister_flop_formula("mylib.myop")
    assert cost_of("mylib.myop.default") is None
    with pytest.raises(ValueError, match=r"mylib\.myop has no FLOP formula to unregister"):
        unregister_flop_formula("mylib.myop")


def test_a_second_formula_must_say_that_it_replaces(registered):
    registered("mylib.myop", 7)
    with pytest.raises(ValueError, match=r"mylib\.myop already has a FLOP formula; pass replace"):
        register_flop_formula("mylib.myop")(lambda op: 8)
    assert cost_of("mylib.myop.default") == 7
    registered("mylib.myop", 8, replace=True)
    assert cost_of("mylib.myop.default") == 8


def test_a_formula_on_an_elementwise_op_adds_to_it(registered):
    registered("aten.relu", 7)
    assert op_cost(record("aten.relu.default", ([6],), [6])) == OpCost(flops=7, elementwise=6)


def test_a_formula_counts_even_where_the_op_looks_like_a_view(registered):
    registered("mylib.myop", 7)
    op = record("mylib.myop.default", ([6],), [6], is_view=True)
    assert op_cost(op) == OpCost(flops=7, elementwise=0)


def test_names_that_are_none():
    with pytest.raises(ValueError, match=r"names no operator; pass its name \('mylib\.myop'\)"):
        register_flop_formula(len)
    with pytest.raises(ValueError, match="at least one operator"):
        register_flop_formula()


def test_an_error_in_a_formula_is_not_hidden():
    def broken(op):
        raise TypeError("the formula's own mistake")

    register_flop_formula("mylib.myop")(broken)
    try:
        with pytest.raises(TypeError, match="own mistake"):
            cost_of("mylib.myop.default")
    finally:
        unregister_flop_formula("mylib.myop")


# ------------------------------------------------------------------------ the tables


def test_no_op_of_the_element_wise_table_has_a_formula():
    names = [
        row["operator"]
        for row in rows_beside(counts.__file__)
        # or a product, as the sizes are; the bias beside a product
        if not row["operations"].startswith(("pairs_of_rows", "bias"))
    ]
    assert not [name for name in names if find_flop_formula(f"{name}.default")]
