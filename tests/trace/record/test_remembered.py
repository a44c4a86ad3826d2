"""What operators answered before: the report is the same without it; every difference counts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import torchgauge as tg
from torchgauge.facts.codec.wire import to_json
from torchgauge.trace.operators import remembered
from torchgauge.trace.operators.op_facts import facts_of
from torchgauge.trace.operators.remembered import Remembered

aten = torch.ops.aten
META = torch.device("meta")
FACTS = facts_of(aten.addmm.default)


def meta(*shape: int, **options: Any) -> torch.Tensor:
    return torch.empty(shape, device="meta", **options)


class Counting:
    """Stands for an operator that makes a new tensor; counts how often it was asked."""

    def __init__(self, make: Callable[..., Any] | None = None) -> None:
        self.calls = 0
        self._make = make or (lambda *args, **kwargs: meta(2, 3))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self._make(*args, **kwargs)


def asked(*calls: tuple[tuple[Any, ...], dict[str, Any]]) -> int:
    """Return how many of some calls of one operator were computed."""
    known, func = Remembered(), Counting()
    for args, kwargs in calls:
        known.answer(func, FACTS, args, kwargs)
    return func.calls


# ---------------------------------------------------------------------- the key, part by part


def shared() -> tuple[torch.Tensor, torch.Tensor]:
    whole = meta(4, 3)
    return whole[:2], whole[2:]


def apart() -> tuple[torch.Tensor, torch.Tensor]:
    return meta(4, 3)[:2], meta(4, 3)[2:]


def in_inference_mode() -> torch.Tensor:
    with torch.inference_mode():
        return meta(2, 3)


COMPLEX = {"dtype": torch.complex64}
PAIRS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "shape": ((meta(4, 3)[:2],), (meta(4, 3)[:3],)),
    "strides": ((meta(2, 3),), (meta(3, 2).t(),)),
    "dtype": ((meta(2, 3),), (meta(2, 3, dtype=torch.int32),)),
    "offset": ((meta(4, 3)[:2],), (meta(4, 3)[2:],)),
    "bytes of the storage": ((meta(4, 3)[:2],), (meta(2, 3),)),
    "gradients": ((meta(2, 3),), (meta(2, 3, requires_grad=True),)),
    "conjugate": ((meta(2, **COMPLEX),), (meta(2, **COMPLEX).conj(),)),
    "negative": ((meta(4, 2)[:, 1],), (torch.view_as_complex(meta(4, 2)).conj().imag,)),
    "inference": ((meta(2, 3),), (in_inference_mode(),)),
    "one storage or two": (apart(), shared()),
    "which of them share": ((*shared(), meta(4, 3)[:2]), (meta(4, 3)[:2], *reversed(shared()))),
    "bool and int": ((meta(2), True), (meta(2), 1)),
    "int and float": ((meta(2), 1), (meta(2), 1.0)),
    "a number": ((meta(2), 1), (meta(2), 2)),
    "a number in a list": ((meta(2), [1, 2]), (meta(2), [1, 3])),
    "bool in a list": ((meta(2), [1]), (meta(2), [True])),
    "where a list ends": ((meta(2), [1], 2), (meta(2), [1, 2])),
    "None": ((meta(2), None), (meta(2), 0)),
    "a tensor in a list": (([meta(2)],), ([meta(3)],)),
    "a dtype": ((meta(2), torch.float32), (meta(2), torch.float16)),
    "a layout": ((meta(2), torch.channels_last), (meta(2), torch.preserve_format)),
}  # fmt: skip


@pytest.mark.parametrize("what", PAIRS)
def test_calls_that_differ_in_one_thing_are_both_computed(what: str) -> None:
    first, second = PAIRS[what]
    assert asked((first, {}), (second, {})) == 2
    assert asked((first, {}), (first, {})) == asked((second, {}), (second, {})) == 1


def test_names_and_values_of_keywords_are_part_of_the_key() -> None:
    source = (meta(2),)
    assert asked((source, {"a": 1}), (source, {"b": 1})) == 2
    assert asked((source, {"a": 1}), (source, {"a": 2})) == 2
    assert asked((source, {"a": 1}), (source, {"a": 1})) == 1


def test_operators_do_not_answer_for_each_other() -> None:
    known = Remembered()
    first, second = Counting(), Counting()
    known.answer(first, FACTS, (meta(2),), {})
    known.answer(second, FACTS, (meta(2),), {})
    assert (first.calls, second.calls) == (1, 1)


@contextmanager
def setting(change: Callable[[Any], Any], value: Any, before: Any) -> Iterator[None]:
    change(value)
    try:
        yield
    finally:
        change(before)


@contextmanager
def autocast_key_on(dtype: torch.dtype) -> Iterator[None]:
    from torchgauge.trace.torch_internals.autocast import autocast_key

    before = torch.get_autocast_dtype("cpu")
    torch.set_autocast_dtype("cpu", dtype)
    try:
        with autocast_key(dict) as switch:
            switch(True)
            yield
    finally:
        torch.set_autocast_dtype("cpu", before)


STATES: dict[str, Callable[[], Any]] = {
    "default dtype": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "gradients": lambda: torch.no_grad(),
    "inference mode": lambda: torch.inference_mode(),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "oneDNN": lambda: setting(torch._C._set_mkldnn_enabled, False, True),
    "cuDNN": lambda: torch.backends.cudnn.flags(enabled=False),
    "deterministic cuDNN": lambda: torch.backends.cudnn.flags(enabled=True, deterministic=True),
    "a key that is added": lambda: torch._C._IncludeDispatchKeyGuard(
        torch._C.DispatchKey.AutocastCPU
    ),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast of a run": lambda: autocast_key_on(torch.bfloat16),
}


@pytest.mark.parametrize("what", STATES)
def test_the_state_of_the_process_is_part_of_the_key(what: str) -> None:
    known, func, source = Remembered(), Counting(), (meta(2),)
    known.answer(func, FACTS, source, {})
    with STATES[what]():
        known.answer(func, FACTS, source, {})
        assert func.calls == 2
        known.answer(func, FACTS, source, {})
    known.answer(func, FACTS, source, {})
    assert func.calls == 2


def test_the_dtype_of_autocast_is_part_of_the_key() -> None:
    known, func, source = Remembered(), Counting(), (meta(2),)
    for dtype in (torch.bfloat16, torch.float16):
        with autocast_key_on(dtype):
            known.answer(func, FACTS, source, {})
    assert func.calls == 2


# ---------------------------------------------------------------------- what is never kept


class Marked(torch.Tensor):
    pass


class Passing(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def twice(make: Callable[..., Any] | None, *args: Any) -> int:
    known, func = Remembered(), Counting(make)
    first = known.answer(func, FACTS, args, {})
    second = known.answer(func, FACTS, args, {})
    assert type(first) is type(second)
    return func.calls


def two_of_one() -> tuple[torch.Tensor, torch.Tensor]:
    whole = meta(4)
    return whole, whole[:0]


@pytest.mark.parametrize(
    "argument",
    [
        meta(2).as_subclass(Marked),
        torch.sparse_coo_tensor(
            torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (4,), check_invariants=False
        ),
        torch.Generator(),
        slice(2),
        [meta(2).as_subclass(Marked)],
    ],
    ids=["subclass", "sparse", "generator", "unknown", "subclass in a list"],
)
def test_arguments_that_do_not_fit_into_a_key_are_computed_each_time(argument: Any) -> None:
    assert twice(None, argument) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda source: source,
        lambda source: source[1:],
        lambda source: meta(4)[1:3],
        lambda source: two_of_one(),
        lambda source: nn.Parameter(meta(2)),
        lambda source: meta(2).as_subclass(Marked),
        lambda source: torch.empty(2),
        lambda source: meta(2, **COMPLEX).conj(),
        lambda source: 3,
        lambda source: (meta(2), 3),
    ],
    ids=["argument", "view", "part", "two of one", "parameter", "subclass", "CPU", "conjugate",
         "number", "number among tensors"],
)  # fmt: skip
def test_answers_that_are_no_new_tensors_are_computed_each_time(make: Callable[..., Any]) -> None:
    assert twice(make, meta(2)) == 2


@pytest.mark.parametrize("mode", [Passing(), torch.device("meta")], ids=["mode", "default device"])
def test_function_modes_are_asked_each_time(mode: Any) -> None:
    with mode:
        assert twice(None, meta(2)) == 2


def test_what_is_made_again_is_new_and_alike() -> None:
    known = Remembered()
    made = (meta(2, 3).t(), None, meta(4, dtype=torch.int64))
    func = Counting(lambda source: made)
    source = (meta(2),)
    known.answer(func, FACTS, source, {})
    again = known.answer(func, FACTS, source, {})
    assert func.calls == 1 and type(again) is tuple and again[1] is None
    for one, other in ((made[0], again[0]), (made[2], again[2])):
        assert one is not None
        assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)
        assert one.untyped_storage()._cdata != other.untyped_storage()._cdata


@pytest.mark.parametrize(
    "operator",
    [
        aten.t.default, aten.view.default, aten.add_.Tensor, aten.relu_.default,
        aten.native_dropout.default, aten.bernoulli.default, aten.rand_like.default,
        aten.nonzero.default, aten.masked_select.default, aten._local_scalar_dense.default,
        aten.unique_dim.default, aten.lift_fresh.default, aten._unsafe_view.default,
        aten.linear.default, aten.reshape.default, aten.zeros.default, aten.arange.default,
        aten.resize_.default, aten.squeeze_.dim, aten._to_sparse.default, aten.mm.out,
        aten._nested_tensor_from_mask.default, aten.split.Tensor, aten.unbind.int,
    ],
    ids=str,
)  # fmt: skip
def test_operators_that_are_computed_each_time(operator: Any) -> None:
    """Views, in-place, random, data-dependent, composite operators; those without a tensor."""
    assert not facts_of(operator).is_answered_by_specs


def test_operators_of_others_are_computed_each_time() -> None:
    facts = facts_of(torch.ops.prims.convert_element_type.default)
    assert not facts.is_answered_by_specs


@pytest.mark.parametrize(
    "operator",
    [aten.addmm.default, aten.mm.default, aten.sum.dim_IntList, aten.cat.default,
     aten._softmax.default, aten.max_pool2d_with_indices.default],
    ids=str,
)  # fmt: skip
def test_operators_that_are_remembered(operator: Any) -> None:
    assert facts_of(operator).is_answered_by_specs


# ---------------------------------------------------------------------- the same report


class Forgetful(Remembered):
    """Computes every answer."""

    def answer(self, func: Any, facts: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)


def both_ways(monkeypatch: pytest.MonkeyPatch, analyze: Callable[[], Any]) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("torchgauge.trace.values.simulation.Remembered", Forgetful)
        without = analyze()
    made: list[Any] = []
    original = remembered.made_as
    with monkeypatch.context() as patched:
        patched.setattr(remembered, "made_as", lambda spec: made.append(spec) or original(spec))
        found = analyze()
    assert to_json(found) == to_json(without)
    assert made  # something was looked up, else this compares nothing


class Repeated(nn.Module):
    def __init__(self, layer: nn.Module, times: int = 3) -> None:
        super().__init__()
        self.layer = layer
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.times):
            x = self.layer(x)
        return x


class Counted(nn.Module):
    """Branches on known values that pass through operators whose answers are remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.arange(6))
        self.layer = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for limit in (2, 4, 2, 5):
            mask = self.steps.lt(limit)
            count = int(torch.cat([mask, mask]).sum())
            for _ in range(count // 2):
                x = self.layer(x)
            x = torch.where(mask, x, x.double()).float()
        return x


class Mixed(nn.Module):
    """Aliases, in-place operations, other default dtypes, and dtypes that are promoted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            whole = (x.long() / 2) @ x.t().clone().float()
            x = torch.cat([x, whole @ x]).unsqueeze(0).squeeze(0)
            part = x[1:3]
            part.mul_(2).clamp_(min=0)
            x = torch.softmax(x, -1).cumsum(0).flip(0)
        before = torch.get_default_dtype()
        try:
            for dtype in (torch.float64, torch.float32, torch.float64):
                torch.set_default_dtype(dtype)
                x = x + (x.long().sum() / 3).float() + x.long().prod(0, keepdim=True).float().mean()
        finally:
            torch.set_default_dtype(before)
        return x


def convolutions() -> nn.Module:
    block = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.1)
    )
    return nn.Sequential(Repeated(block), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: Repeated(nn.Linear(6, 6)), (2, 6)),
    "convolutions": (convolutions, (2, 4, 8, 8)),
    "encoder": (
        lambda: Repeated(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
        (2, 5, 8),
    ),
    "values": (Counted, (2, 6)),
    "mixed": (Mixed, (3, 4)),
}
SCENARIOS = {
    "inference": tg.Scenario(),
    "training": tg.Scenario(mode="training", optimizer="adam"),
    "autocast": tg.Scenario(mode="training", optimizer="sgd", precision="bf16-autocast"),
    "GPU": tg.Scenario(mode="training", optimizer="adamw", device="RTX 3060 12GB"),
    "channels last": tg.Scenario(channels_last=True),
}


CASES = [
    *((name, "inference") for name in MODELS),
    *((name, scenario) for name in ("linear", "convolutions", "encoder", "values")
      for scenario in ("training", "autocast", "GPU")),
    ("convolutions", "channels last"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "scenario"), CASES)
def test_the_report_is_the_same_without(
    name: str, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, size = MODELS[name]
    model = make()
    both_ways(monkeypatch, lambda: tg.analyze(model, size, scenario=SCENARIOS[scenario]))


STEPS: tuple[Callable[[torch.Tensor, random.Random], torch.Tensor], ...] = (
    lambda x, r: x @ x.t().contiguous() @ x,
    lambda x, r: x + r.choice((1, 1.5, True)),
    lambda x, r: torch.cat([x, x[: r.randint(1, 2)]]) if x.shape[0] < 9 else x[:3],
    lambda x, r: x.t().contiguous().t(),
    lambda x, r: x[::2] if x.shape[0] > 4 else x.repeat(2, 1),
    lambda x, r: x.sum(r.choice((0, 1)), keepdim=True) * x,
    lambda x, r: (x > 0).long().cumsum(0).to(x.dtype) + x,
    lambda x, r: torch.addmm(x[0], x, torch.eye(x.shape[1], dtype=x.dtype, device=x.device)),
    lambda x, r: x.clone().mul_(2).t().relu().t(),
    lambda x, r: torch.stack([x, x]).amax(0),
    lambda x, r: x.double().softmax(-1).float() if r.random() < 0.5 else x.softmax(0),
    lambda x, r: x.index_select(0, torch.arange(x.shape[0], device=x.device).flip(0)),
    lambda x, r: torch.where(x > r.random(), x, x.detach()),
    lambda x, r: x.view(-1).view_as(x) if x.is_contiguous() else x.contiguous(),
)


class Program(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        draw = random.Random(self.seed)
        steps = [draw.choice(STEPS) for _ in range(6)]
        for step in (*steps, *steps):  # again, so that answers are there
            x = step(self.layer(x), draw)
        return x


@pytest.mark.parametrize("seed", range(16))
def test_the_report_of_a_random_program_is_the_same_without(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Program(seed)
    scenario = SCENARIOS["training" if seed % 2 else "inference"]
    both_ways(monkeypatch, lambda: tg.analyze(model, (4, 4), scenario=scenario))


def test_a_layer_that_is_called_again_is_not_decomposed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[Any] = []
    original = remembered._kept
    monkeypatch.setattr(
        remembered, "_kept", lambda out, seen: kept.append(out) or original(out, seen)
    )
    tg.analyze(Repeated(nn.Linear(6, 6), times=50), (2, 6))
    few = len(kept)
    tg.analyze(nn.Sequential(*(nn.Linear(6, 6) for _ in range(20))), (2, 6))
    assert few == 1 and len(kept) == 2  # a run knows nothing of the one before
