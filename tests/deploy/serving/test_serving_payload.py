"""Tensors in JSON and back; everything that does not fit the signature is told why."""

from __future__ import annotations

import base64
import json
import struct
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgauge.deploy.export.signature import Signature, SizeRange, TensorSignature
from torchgauge.deploy.serving.budget import _DECODING_FACTOR
from torchgauge.deploy.serving.failures import BadBody, BadInput, RequestFailure
from torchgauge.deploy.serving.http.payload import decode_request, encode_response


def signature(*inputs):
    return Signature(
        inputs=inputs,
        outputs=(TensorSignature(name="y", shape=("batch", 2), dtype="float32"),),
        dimensions={"batch": SizeRange(), "sequence": SizeRange(maximum=8)},
    )


def tensor(name="x", shape=("batch", 2), dtype="float32", **bounds):
    return TensorSignature(name=name, shape=shape, dtype=dtype, **bounds)


IDS = tensor("ids", ("batch", "sequence"), "int64", minimum=0, maximum=49)


def decode(inputs, *tensors, allow_nan=False, **rest):
    body = json.dumps({"inputs": inputs, **rest}).encode()
    return decode_request(body, signature(*(tensors or (tensor(),))), allow_nan=allow_nan)


def as_bytes(values, form, shape, dtype):
    data = base64.b64encode(struct.pack(form, *values)).decode()
    return {"dtype": dtype, "shape": shape, "data": data}


def test_lists_and_bytes_are_the_same_tensor():
    by_list = decode({"x": [[1.5, -2.0], [3.0, 4.0]]})
    by_bytes = decode({"x": as_bytes((1.5, -2.0, 3.0, 4.0), "<4f", [2, 2], "float32")})
    assert torch.equal(by_list.tensors[0], by_bytes.tensors[0])
    assert by_list.tensors[0].dtype is torch.float32
    assert by_list.sizes == by_bytes.sizes == {"batch": 2}
    assert by_list.encoding == "list"


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32", "uint8"])
def test_whole_numbers_become_the_dtype_wanted(dtype):
    x = decode({"x": [[1, 2]]}, tensor(dtype=dtype)).tensors[0]
    assert x.dtype is getattr(torch, dtype)
    assert x.tolist() == [[1, 2]]


def test_doubles_keep_their_digits():
    x = decode({"x": [[0.1, 1e300]]}, tensor(dtype="float64")).tensors[0]
    assert x.tolist() == [[0.1, 1e300]]


def test_booleans():
    assert decode({"x": [[True, False]]}, tensor(dtype="bool")).tensors[0].tolist() == [
        [True, False]
    ]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the input x is missing"),
        ({"x": [[1, 2]], "y": 1}, "there is no input 'y', only x"),
        ({"x": [[1, 2, 3]]}, r"x has size 3 in dimension 1, the model takes 2 of \[batch, 2\]"),
        ({"x": [1, 2]}, r"x has 1 dimension, \[2\]; the model takes 2, \[batch, 2\]"),
        ({"x": 1}, r"x has 0 dimensions, \[\]; the model takes 2, \[batch, 2\]"),
        (
            {"x": [[1, 2], [3]]},
            r"x is not a rectangular list of numbers: x\[1\] has 1 item, x\[0\] has 2; "
            r"the model takes \[batch, 2\] of float32",
        ),
        ({"x": [["a", "b"]]}, r"rectangular list of numbers: x\[0\]\[0\] is a text; the model"),
        ({"x": [[1, None]]}, r"rectangular list of numbers: x\[0\]\[1\] is null; the model"),
        ({"x": [[1, 2], 3]}, r"rectangular list of numbers: x\[1\] is a number, x\[0\] is a list"),
        ({"x": [[1, [2]]]}, r"rectangular .*: x\[0\]\[1\] is a list, x\[0\]\[0\] is a number"),
        ({"x": [[1, eval("[" * 90 + "]" * 90)]]}, r"x\[0\]\[1\] is a list, x\[0\]\[0\] is a n"),
        ({"x": [[{}, 1]]}, r"rectangular list of numbers: x\[0\]\[0\] is an object"),
        (
            {"x": eval("[" * 90 + "1" + "]" * 90)},
            r"x has 90 dimensions; the model takes 2, \[batch, 2\]",
        ),
        ({"x": [[10**400, 1]]}, "x holds a number that float32 cannot"),
        ({"x": [[True, False]]}, "x is float32, the numbers sent are booleans"),
        ({"x": [[1, False]]}, "x is float32, and has booleans among its numbers"),
        ({"x": []}, r"x has 1 dimension, \[0\]"),
        ({"x": [[]]}, "x has size 0 in dimension 1"),
        ({"x": "text"}, r'x is "text"; it may be a nested list, \[batch, 2\] of float32, or'),
        ({"x": [[1e39, 0]]}, "x holds a number that is not finite in float32"),
        ({"x": {"dtype": "float32"}}, 'and nothing else, or a nested list; this one has "dtype"'),
        ({"x": {}}, "this one has nothing"),
        ({"x": {"dtype": "int64", "shape": [1], "data": ""}}, "x is float32, not int64"),
        ({"x": {"dtype": "float32", "shape": [1, -1], "data": ""}}, "not a list of sizes"),
        (
            {"x": {"dtype": "float32", "shape": [1, True], "data": ""}},
            r"the shape of x is \[1, true\], not",
        ),
        ({"x": {"dtype": "float32", "shape": [1] * 20, "data": ""}}, "not a list of sizes"),
        ({"x": {"dtype": "float32", "shape": [1, 2], "data": 5}}, "the data of x is 5, not a text"),
        ({"x": {"dtype": "float32", "shape": [1, 2], "data": "!!"}}, "is not base64"),
        (
            {"x": {"dtype": "float32", "shape": [1, 2], "data": "AA=="}},
            r"x: 1 byte sent, \[1, 2\] of float32 takes 8; the model takes \[batch, 2\]",
        ),
        ({"x": {"dtype": "float32", "shape": [2**30, 2**30, 2**30], "data": ""}}, "0 bytes sent"),
        ({"x": as_bytes((float("nan"), 1.0), "<2f", [1, 2], "float32")}, "not finite"),
    ],
)
def test_what_does_not_fit(inputs, message):
    with pytest.raises(BadInput, match=message):
        decode(inputs)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.5]], "ids is int64, the numbers sent are no whole numbers"),
        ([[50]], "ids holds numbers from 50 to 50, the model takes 0 to 49"),
        ([[-1]], "the model takes 0 to 49"),
        ([[2**70]], "ids holds a number that int64 cannot"),
        ([[0] * 9], r"ids has size 9 in dimension 1 \(sequence\), the model takes 1…8"),
    ],
)
def test_token_ids_that_the_embedding_does_not_have(value, message):
    with pytest.raises(BadInput, match=message):
        decode({"ids": value}, IDS)


def test_a_number_that_the_dtype_cannot_hold():
    with pytest.raises(BadInput, match="holds a number that uint8 cannot"):
        decode({"x": [[1, 300]]}, tensor(dtype="uint8"))


@pytest.mark.parametrize("item", [b"[1],", b"{},", b"[],", b'"ab",', b"1.5,"])
def test_json_takes_no_more_memory_than_is_kept_for_it(item):
    text = b'{"inputs":[' + item * (200_000 // len(item)) + b"0]}"
    tracemalloc.start()
    try:
        with pytest.raises(BadBody):
            decode_request(text, signature(tensor()), allow_nan=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < _DECODING_FACTOR * len(text)


def test_whole_numbers_beyond_int64_are_numbers_for_a_float():
    assert decode({"x": [[10**30, 1]]}).tensors[0].tolist() == [[pytest.approx(1e30), 1.0]]


def test_a_size_that_follows_from_another_is_checked():
    pairs = tensor("pairs", ("2*batch", 2))
    given = {"x": [[1, 2], [3, 4]], "pairs": [[1, 2]] * 3}
    message = r"pairs has size 3 in dimension 0, the model takes 2\*batch = 4"
    for order in ((tensor(), pairs), (pairs, tensor())):
        with pytest.raises(BadInput, match=message):
            decode(given, *order)
    decode({**given, "pairs": [[1, 2]] * 4}, tensor(), pairs)


def test_two_inputs_have_one_batch():
    with pytest.raises(BadInput, match="b has batch = 1, an earlier input has 2"):
        decode({"a": [[1, 2], [1, 2]], "b": [[1, 2]]}, tensor("a"), tensor("b"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", 'the body is an object with "inputs"'),
        (b"{}", '"inputs" is an object with x'),
        (b'{"inputs": {"x": [[1, 2]]}, "more": 1}', "'more' is not understood"),
        (
            b'{"inputs": {"x": [[1, 2]]}, "encoding": "gzip"}',
            'encoding is "gzip", it may be list or',
        ),
        (
            b'{"inputs": {"x": 1}, "encoding": ' + b"[" * 400 + b"]" * 400 + b"}",
            r"is \[\[.*\.\.\., it may",
        ),
        (b'{"inputs": {"x": ' + b"1" * 5000 + b"}}", "the body is not JSON"),
        (b'{"inputs": {"x": [[1, 2]], "x": [[3, 4]]}}', "'x' occurs twice in one object"),
    ],
)
def test_bodies_that_are_none(body, message):
    with pytest.raises(BadBody, match=message):
        decode_request(body, signature(tensor()), allow_nan=False)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_nan_is_refused_unless_allowed(text):
    body = f'{{"inputs": {{"x": [[{text}, 1]]}}}}'.encode()
    with pytest.raises(BadInput, match="is not accepted here"):
        decode_request(body, signature(tensor()), allow_nan=False)
    (x,) = decode_request(body, signature(tensor()), allow_nan=True).tensors
    assert not x.isfinite().all()


def encoded(*arguments):
    return b"".join(encode_response(*arguments))


@pytest.mark.parametrize(
    "shape", [(40_000,), (2, 20_000), (3, 7, 5000), (5000, 2, 3), (1, 1, 1, 50_000), (16_385, 1)]
)
def test_large_outputs_come_in_pieces_that_make_the_same(shape):
    y = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    y.flatten()[-1] = float("inf")
    for encoding in ("list", "base64"):
        pieces = list(encode_response(signature(tensor()), [y], encoding))
        assert len(pieces) > 3
        assert max(map(len, pieces)) < 600_000
        value = json.loads(b"".join(pieces))["outputs"]["y"]
        if encoding == "base64":
            data = base64.b64decode(value["data"], validate=True)
            assert value["shape"] == list(shape)
            assert torch.equal(torch.frombuffer(bytearray(data), dtype=y.dtype), y.flatten())
            continue
        got = torch.tensor(json.loads(json.dumps(value).replace("null", "Infinity")))
        assert torch.equal(got, y)


def test_outputs_as_lists_and_bytes():
    y = torch.tensor([[1.5, -2.0]])
    assert json.loads(encoded(signature(tensor()), [y], "list")) == {
        "outputs": {"y": [[1.5, -2.0]]}
    }
    data = json.loads(encoded(signature(tensor()), [y], "base64"))["outputs"]["y"]
    assert data == as_bytes((1.5, -2.0), "<2f", [1, 2], "float32")


def test_outputs_that_are_not_finite_are_null_in_json():
    y = torch.tensor([[float("nan"), float("-inf")]])
    text = encoded(signature(tensor()), [y], "list")
    assert json.loads(text, parse_constant=pytest.fail) == {"outputs": {"y": [[None, None]]}}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_tensor_or_a_refusal(value):
    for name, spec in (("x", tensor()), ("ids", IDS)):
        body = json.dumps({"inputs": {name: value}}).encode()
        try:
            made = decode_request(body, signature(spec), allow_nan=False).tensors[0]
        except RequestFailure as failure:
            assert 400 <= failure.status < 500
        else:
            assert made.dim() == 2
            assert bool(made.isfinite().all())
