"""What is said when a step cannot be traced: the cause, where it is, and what to do."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import torchgauge as tg
from torchgauge.errors import InputError, ModelError, ScenarioError
from torchgauge.facts.guess import guesses
from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.failures.hints import explain

TRAINING = tg.Scenario(mode="training")


# ---------------------------------------------------------------------------- optimizers


class Sharpness(torch.optim.SGD):
    """Steps twice, with a gradient at another place in between (as SAM does)."""

    def step(self, closure=None):
        assert closure is not None, "this optimizer needs a closure"


class TwoArguments(torch.optim.SGD):
    def step(self, loss, *, scale):
        raise NotImplementedError


def optimizer(name):
    return tg.Scenario(mode="training", optimizer=name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim:LBFGS", "torch.optim:LBFGS takes a closure: its step evaluates the model"),
        (f"{__name__}:TwoArguments", r"TwoArguments takes arguments .* not known: loss, scale"),
    ],
)
def test_an_optimizer_whose_step_takes_arguments_is_refused_before_anything_runs(name, message):
    ran = []
    model = nn.Linear(4, 4)
    model.register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(ScenarioError, match=message) as raised:
        tg.analyze(model, (2, 4), scenario=optimizer(name))
    assert "optimizer='none' gives forward and backward" in raised.value.hint
    assert not ran


@pytest.mark.parametrize(
    ("name", "sparse", "message", "hint"),
    [
        (f"{__name__}:Sharpness", False, "Sharpness failed in optimizer: AssertionError",
         "called without a closure; optimizer='none' gives forward and backward"),
        ("torch.optim:SparseAdam", False, "SparseAdam failed in optimizer: RuntimeError",
         "gradients of nn.Embedding"),
        ("adam", True, "adam failed in optimizer: RuntimeError", "use torch.optim:SparseAdam"),
    ],
)  # fmt: skip
def test_an_optimizer_that_fails_is_named_and_not_a_layer(name, sparse, message, hint):
    model = nn.Embedding(10, 4, sparse=sparse)
    with pytest.raises(ModelError, match=message) as raised:
        tg.analyze(model, (2, 3), dtypes="int64", scenario=optimizer(name))
    assert hint in raised.value.hint
    assert "it got" not in str(raised.value)
    kind = name.rpartition(":")[2]
    failure = raised.value.report.failure
    assert (failure.module_type, failure.phase) == (kind, "optimizer")


# ---------------------------------------------------------------------------- checkpoints


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 8)

    def forward(self, x):
        return checkpoint(self.body, x, use_reentrant=True)


class WithHead(Checkpointed):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 8)

    def forward(self, x):
        return self.head(super().forward(x))


class InLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))

    def forward(self, x):
        x = checkpoint_sequential(self.layers[:2], 2, x, use_reentrant=True)
        return checkpoint_sequential(self.layers[2:], 2, x, use_reentrant=True)


class ByKeyword(Checkpointed):
    """What a checkpoint cannot see as an input."""

    def forward(self, x):
        x = self.body(x)
        return checkpoint(lambda: self.body(x), use_reentrant=True)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)

    def forward(self, ids):
        return checkpoint(self.embedding, ids, use_reentrant=True)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", [Checkpointed, ByKeyword, Tokens], ids=lambda kind: kind.__name__)
def test_a_reentrant_checkpoint_without_a_gradient_is_named(kind):
    given = {"dtypes": "int64"} if kind is Tokens else {}
    with pytest.raises(ScenarioError, match="no output depends on a trainable") as raised:
        tg.analyze(kind(), (2, 8), scenario=TRAINING, **given)
    assert re.match(r"in the model itself at \S*test_step_messages.py:\d+: ", raised.value.hint)
    assert "no input of this reentrant checkpoint requires a gradient" in raised.value.hint
    assert "use_reentrant=False" in raised.value.hint
    assert "requires_grad_()" in raised.value.hint


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_it_is_named_where_the_loss_is_the_users_own():
    with pytest.raises(ModelError, match="in backward") as raised:
        tg.analyze(Checkpointed(), (2, 8), scenario=TRAINING, loss=lambda output: output.sum())
    assert "no input of this reentrant checkpoint" in raised.value.hint


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", [WithHead, InLayers], ids=lambda kind: kind.__name__)
def test_a_step_that_trains_the_rest_warns_of_it(kind):
    report = tg.analyze(kind(), (2, 8), scenario=TRAINING)
    (warning,) = report.warnings
    assert "no input of this reentrant checkpoint requires a gradient" in warning


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_checkpointing_of_the_scenario_is_explained_likewise():
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(2)))
    with pytest.raises(ScenarioError) as raised:
        tg.analyze(blocks, (2, 8), scenario=tg.Scenario(mode="training", checkpointing="reentrant"))
    assert "no input of this reentrant checkpoint" in raised.value.hint


def test_a_checkpoint_with_a_gradient_is_not_warned_of():
    class Fine(WithHead):
        def forward(self, x):
            return checkpoint(self.head, self.body(x), use_reentrant=True)

    assert tg.analyze(Fine(), (2, 8), scenario=TRAINING).warnings == ()


def test_pytorchs_own_warning_still_comes():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tg.analyze(WithHead(), (2, 8), scenario=TRAINING)
    assert any("None of the inputs have requires_grad" in str(w.message) for w in caught)


# ---------------------------------------------------------------------------- inputs by size


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, 8, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.rnn(packed)[1]


class Chosen(nn.Module):
    def forward(self, x, count):
        return x[:, : int(count[0])].amax(1)


@pytest.mark.parametrize("dtypes", [["float32", "int64"], None], ids=["integers", "a guess"])
def test_lengths_by_size_are_those_of_the_batch_and_that_is_said(dtypes):
    report = tg.analyze(Packed(), [(2, 5, 8), (2,)], dtypes=dtypes)
    real = tg.analyze(Packed(), input_data=(torch.randn(2, 5, 8), torch.tensor([5, 5])))
    assert report.totals.forward_macs == real.totals.forward_macs > 0
    (said,) = guesses(report.assumptions)
    assert said.startswith("the length of packed sequences (5 steps each) was decided on an input")


def test_lengths_of_zero_say_what_to_pass():
    with pytest.raises(ModelError, match="Length of all samples") as raised:
        tg.analyze(Packed(), input_data=(torch.randn(2, 5, 8), torch.tensor([0, 0])))
    assert "holds zeros; pass tensors: input_data=(x, torch.tensor(" in raised.value.hint


def test_a_failure_after_a_value_that_was_made_up_says_so():
    with pytest.raises(ModelError) as raised:
        tg.analyze(Chosen(), [(2, 5), (2,)], dtypes=["float32", "int64"])
    assert ".item() read an input that was made from its size alone" in raised.value.hint
    assert "input_data" in raised.value.hint


@pytest.mark.parametrize("batch", [2**53, 10**18, 2**63, 10**30])
def test_a_batch_beyond_64_bits_is_refused_in_words(batch):
    with pytest.raises(InputError, match=r"input input of shape .* larger than 2\^63 bytes"):
        tg.analyze(nn.Linear(256, 2), (256,), batch_size=batch)


def test_a_tensor_inside_that_is_too_large_names_its_layer():
    model = nn.Sequential(nn.Conv2d(3, 64, 3))
    with pytest.raises(ModelError, match=r"0 \(Conv2d\) failed in forward") as raised:
        tg.analyze(model, (3, 32, 32), batch_size=5 * 10**14)
    assert "a tensor would be larger than 2^63 bytes" in raised.value.hint


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "8"])
def test_a_batch_that_is_no_positive_number_is_refused_in_words(batch):
    with pytest.raises(InputError, match="batch_size="):
        tg.analyze(nn.Linear(4, 2), (4,), batch_size=batch)


@pytest.mark.parametrize("batch", [10**9, 10**12])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_billion_samples_are_weighed_and_do_not_fit(batch, mode):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 6 * 6, 2))
    scenario = tg.Scenario(mode=mode, optimizer="adamw" if mode == "training" else None)
    report = tg.fits(model, (3, 8, 8), batch_size=batch, device="RTX 3060 12GB", scenario=scenario)
    assert not report.fits


# ---------------------------------------------------------------------------- values


def test_a_decision_on_values_without_a_real_run_says_where_and_what_to_do():
    def forward():
        raise DataDependentError("nonzero needs the values of a bool tensor of shape (4, 2)")

    with pytest.raises(DataDependentError) as raised:
        forward()
    hint = explain(nn.Linear(4, 2), (), raised.value)
    line = forward.__code__.co_firstlineno + 1
    assert f"test_step_messages.py:{line} decides on values that a simulated run" in hint
    assert "free some memory" in hint and "input_data" in hint


class Own(torch.optim.SGD):
    """An optimizer of the user's."""


WEIGHT = [nn.Parameter(torch.zeros(2))]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (torch.optim.SparseAdam, "torch.optim:SparseAdam"),
        (torch.optim.SparseAdam(WEIGHT), "torch.optim:SparseAdam"),
        (Own, f"{__name__}:Own"),
        (Own(WEIGHT, lr=0.1), f"{__name__}:Own"),
    ],
)
def test_an_optimizer_that_is_given_itself_is_named(given, named):
    for ask in (
        optimizer,
        lambda it: tg.analyze(nn.Linear(4, 4), (2, 4), mode="training", optimizer=it),
    ):
        with pytest.raises(ScenarioError, match=r"unknown optimizer (SparseAdam|Own)") as raised:
            ask(given)
        assert raised.value.hint == f"a class is named package.module:Class: {named}"


@pytest.mark.parametrize("given", [lambda p: torch.optim.SGD(p), ["adamw"], 3, {"name": "adamw"}])
def test_what_is_no_optimizer_is_refused(given):
    with pytest.raises(ScenarioError, match="unknown optimizer") as raised:
        optimizer(given)
    assert "its arguments go into optimizer_options" in raised.value.hint


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(), nn.MSELoss(), lambda output, target: output]
)
def test_a_loss_that_wants_a_target(loss):
    with pytest.raises((ModelError, ScenarioError)) as raised:
        tg.analyze(nn.Linear(4, 4), (2, 4), mode="training", loss=loss)
    assert "loss=lambda output: criterion(output, target)" in raised.value.hint


@pytest.mark.parametrize("net", [nn.Linear(4, 4), nn.Sequential(nn.Flatten(), nn.Linear(4, 4))])
@pytest.mark.parametrize("is_loader", [False, True])
def test_a_whole_data_set_is_no_input(net, is_loader):
    data = torch.utils.data.TensorDataset(torch.zeros(8, 4), torch.zeros(8))
    given = torch.utils.data.DataLoader(data) if is_loader else data
    with pytest.raises(ModelError) as raised:
        tg.analyze(net, input_data=given)
    assert "input_data=next(iter(loader))[0]" in raised.value.hint
