"""What torch says when a tensor on the meta device is asked for data, and what only sounds so."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import ModelError, ModelSpecError
from torchgauge.models.build import construct
from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.failures.missing_data import needs_values
from torchgauge.units import parse_bytes

META = torch.empty(3, 4, device="meta")
SCALAR = torch.empty((), device="meta")
MASK = META > 0
INDEX = torch.empty(3, dtype=torch.int64, device="meta")
REAL = torch.ones(3, 4)

ACCESSES: dict[str, Callable[[], Any]] = {
    "item": SCALAR.item,
    "float": lambda: float(SCALAR),
    "bool": lambda: bool(MASK.any()),
    "index of a list": lambda: [1, 2][INDEX[0]],
    "slice": lambda: REAL[: INDEX[0]],
    "range": lambda: range(INDEX[0]),
    "in": lambda: 1 in META,
    "tensor of scalars": lambda: torch.tensor([SCALAR, SCALAR]),
    "size": lambda: torch.arange(SCALAR),
    "tolist": META.tolist,
    "numpy": META.numpy,
    "asarray": lambda: np.asarray(META),
    "dlpack": META.__dlpack__,
    "cpu": META.cpu,
    "to": lambda: META.to("cpu", torch.float64),
    "copy_": lambda: REAL.clone().copy_(META),
    "storage": lambda: META.untyped_storage().tolist(),
    "module.to": lambda: nn.Linear(2, 2, device="meta").to("cpu"),
    "pin_memory": META.pin_memory,
    "nonzero": META.nonzero,
    "mask": lambda: META[MASK],
    "masked_select": lambda: META.masked_select(MASK),
    "unique": lambda: torch.unique(INDEX),
    "bincount": lambda: torch.bincount(INDEX),
    "repeat_interleave": lambda: torch.repeat_interleave(INDEX),
    "equal": lambda: torch.equal(META, META.clone()),
    "allclose": lambda: torch.allclose(META, META.clone()),
    "tensor_split": lambda: torch.tensor_split(META, INDEX),
    "least squares": lambda: torch.linalg.lstsq(META, META),
    "ctc loss": lambda: nn.functional.ctc_loss(
        torch.empty(5, 2, 4, device="meta"), INDEX[:2, None], INDEX[:2], INDEX[:2]
    ),
    "to_sparse": META.to_sparse,
    "lengths": lambda: nn.utils.rnn.pack_padded_sequence(META[:, None], INDEX),
    "set_": lambda: REAL.clone().set_(META),
}
"""Ways to read a tensor; what torch says to each differs from release to release."""


@pytest.mark.parametrize("access", ACCESSES.values(), ids=ACCESSES)
def test_every_way_to_read_a_tensor_without_data_is_known(access: Callable[[], Any]) -> None:
    with pytest.raises(Exception) as caught:
        access()
    assert needs_values(caught.value), str(caught.value)


SAID = [
    # What torch says elsewhere: other releases, other builds, operators that are not at hand.
    NotImplementedError("Cannot copy out of meta tensor; no data!"),
    NotImplementedError("Could not run 'custom::op' with arguments from the 'Meta' backend."),
    NotImplementedError("Could not run 'aten::mm' with arguments from the 'SparseMeta' backend."),
    RuntimeError("Cannot access data pointer of Tensor (e.g. FakeTensor, FunctionalTensor)."),
    RuntimeError("The tensor has a non-zero number of elements, but its data is not allocated "
                 "yet."),
    RuntimeError("Attempted to access the data pointer on an invalid python storage: unallocated "
                 "storage"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                 "meta and cpu!"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                 "cpu and meta!"),
    RuntimeError("Expected all tensors to be on the same device, but got weight is on meta, "
                 "different from other tensors on cpu"),
    RuntimeError("Tensor on device cpu is not on the expected device meta!"),
    RuntimeError("There was no fake impl registered for <CustomOpDef(mylib::f)>."),
    RuntimeError("xformers: meta device is not supported"),
    DataDependentError(".item() needs the values of a float32 tensor of shape ()"),
]  # fmt: skip


@pytest.mark.parametrize("error", SAID, ids=str)
def test_what_torch_says_in_other_places(error: Exception) -> None:
    assert needs_values(error)


def test_the_error_that_led_to_another_counts() -> None:
    try:
        try:
            META.tolist()
        except NotImplementedError:
            raise KeyError("layer 3") from None
    except KeyError as error:
        assert needs_values(error)


# ------------------------------------------------------------------ ordinary errors

ORDINARY = [
    KeyError("meta"),
    AttributeError("'Config' object has no attribute 'meta'"),
    RuntimeError("the metadata is missing"),
    RuntimeError("Metadata of 'meta' has no data pointer"),
    RuntimeError("no data loaded"),
    TypeError("field 'meta' must be a dict"),
    ValueError("meta tensors must have two dimensions in this episode"),
    ValueError("depends on meta information"),
    ValueError("Meta-Llama has 32 layers"),
    RuntimeError("MetaFormer: unknown mixer"),
    ValueError(f"five channels were wanted, got {META!r}"),
    NotImplementedError("this mixer is not written yet"),
    NotImplementedError(),
    RuntimeError("shape '[2, 3]' is invalid for input of size 5"),
]


class Raises(nn.Module):
    """Raises an error, in its forward or when it is made."""

    made = 0
    ran_for_real = 0

    def __init__(self, error: Exception, *, at_once: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.error = [error]
        type(self).made += 1
        if at_once:
            raise error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        type(self).ran_for_real += not x.is_meta
        raise self.error[0]


@pytest.fixture(autouse=True)
def _from_zero() -> Iterator[None]:
    Raises.made = Raises.ran_for_real = 0
    yield


@pytest.mark.parametrize("error", ORDINARY, ids=repr)
def test_an_ordinary_error_in_the_forward_starts_no_real_run(error: Exception) -> None:
    with pytest.raises(ModelError):
        tg.analyze(Raises(error), (2, 4))
    assert Raises.ran_for_real == 0


@pytest.mark.parametrize("error", ORDINARY, ids=repr)
def test_an_ordinary_error_in_a_constructor_is_met_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        construct(lambda: Raises(error, at_once=True), "model")
    assert Raises.made == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: torch.empty(None, 2, 4),  # "empty() takes 1 positional argument but 3 were given"
        lambda: nn.Linear(4, "8"),
        lambda: nn.Linear(4, 4).forward(torch.ones(2, 5)),
        lambda: nn.Module()(1),
        lambda: nn.functional.pad(torch.ones(2, 2), (1, 1, 1, 1, 1, 1), mode="reflect"),
        lambda: {"relu": nn.ReLU}["meta"],
    ],
    ids=["size", "width", "shape", "no forward", "padding", "key"],
)
def test_a_wrong_setting_is_not_tried_again(wrong: Callable[[], Any]) -> None:
    times = 0

    def factory() -> Any:
        nonlocal times
        times += 1
        return wrong()

    with pytest.raises((TypeError, RuntimeError, KeyError, NotImplementedError)):
        construct(factory, "model")
    assert times == 1


# ------------------------------------------------------------------ construction for real


class ReadsItsWeights(nn.Module):
    """Needs the values of the weights that it has just made."""

    read: Callable[[torch.Tensor], Any]

    def __init__(self, width: int, read: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)
        with contextlib.suppress(ZeroDivisionError):
            read(self.layer.weight)
        self.last = nn.Linear(width, 2)


READS: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda weight: weight.abs().max().item(),
    "numpy": lambda weight: weight.detach().numpy(),
    "tolist": lambda weight: weight.tolist(),
    "nonzero": lambda weight: (weight > 0).nonzero(),
    "branch": lambda weight: None if weight.sum() > 0 else weight.mul(2),
    "equal": lambda weight: torch.equal(weight, weight + 1),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_constructor_that_reads_weights_is_run_for_real(read: Callable[[Any], Any]) -> None:
    model, warnings = construct(lambda: ReadsItsWeights(100, read), "net.py:Net")
    assert not model.layer.weight.is_meta
    (line,) = warnings
    assert line.startswith("net.py:Net could not be built without memory (")
    assert "so it was built for real" in line


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_one_that_does_not_fit_is_refused_before_it_takes_memory(
    read: Callable[[Any], Any],
) -> None:
    with pytest.raises(ModelSpecError) as caught:
        construct(lambda: ReadsItsWeights(3_000_000, read), "net.py:Net")
    assert "cannot be built without memory" in caught.value.message
    found = re.search(r"for real it takes at least ([\d.]+ TiB); .* are free", caught.value.message)
    # The weight, and in some cases what is made of it to be read.
    assert 0.999 * 3_000_000**2 * 4 <= parse_bytes(found[1]) <= 2.001 * 3_000_000**2 * 4
    assert "make it smaller with --set" in caught.value.hint


# ------------------------------------------------------------------ factories

FORMS: dict[str, Callable[[Callable[..., torch.Tensor]], torch.Tensor]] = {
    "one after the other": lambda make: make(2, 3, 4),
    "tuple": lambda make: make((2, 3, 4)),
    "torch.Size": lambda make: make(torch.Size((2, 3, 4))),
    "by name": lambda make: make(size=(2, 3, 4)),
    "dtype": lambda make: make(2, 3, 4, dtype=torch.float64),
    "device": lambda make: make((2, 3, 4), device=torch.device("cpu")),
    "device as text": lambda make: make(2, 3, 4, device="cpu"),
    "out": lambda make: make((2, 3, 4), out=torch.empty(0)),
    "gradient": lambda make: make(2, 3, 4, requires_grad=True),
    "scalar": lambda make: make(()),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", ["empty", "zeros", "ones", "rand", "randn"])
def test_factories_take_every_form_of_size(name: str, form: Callable[..., torch.Tensor]) -> None:
    make = getattr(torch, name)
    real = form(make)
    with tg.meta_construction():
        made = form(make)
    assert made.is_meta
    assert (made.shape, made.dtype, made.requires_grad) == (
        real.shape, real.dtype, real.requires_grad,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["tuple", "torch.Size", "dtype", "out", "gradient"])
def test_full_takes_them_as_well(form: str) -> None:
    def make(*size: Any, **options: Any) -> torch.Tensor:
        whole = size[0] if isinstance(size[0], tuple) else size
        return torch.full(whole, 7.0, **options)

    real = FORMS[form](make)
    with tg.meta_construction():
        made = FORMS[form](make)
    assert made.is_meta
    assert (made.shape, made.dtype) == (real.shape, real.dtype)
