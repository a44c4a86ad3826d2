"""Public out-of-memory messages: the file, and the runs that take a moment."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from benchmarks.memory_sets.cases import Measured
from benchmarks.memory_sets.messages.cases import MODELS, PublicRun, left_out, runs, size_of
from benchmarks.memory_sets.messages.judge import Judged, judge, printed
from benchmarks.memory_sets.messages.models import GPT2, Gpt, early_softmax

import torchgauge as tg
from torchgauge.devices import find_device
from torchgauge.facts.fit import Verdict

RUNS = {run.case.id: run for run in runs()}


def judged(name: str) -> Judged:
    return judge(RUNS[name])


def test_each_run_names_its_source_its_model_and_what_happened() -> None:
    found = list(runs())
    assert len(found) == len(RUNS) == 36
    assert Counter(run.case.out_of_memory for run in found) == {True: 18, False: 18}
    for run in found:
        assert run.source.startswith("github.com/")
        assert find_device(run.case.gpu).name == run.case.gpu
        assert (run.message is not None) == run.case.out_of_memory
        assert not (run.peaks and run.case.out_of_memory)


def test_every_model_is_used_and_every_text_left_out_has_a_reason() -> None:
    families = {name.partition(" ")[0] for name in MODELS}
    assert {run.case.family for run in RUNS.values()} == families
    assert all(one.why for one in left_out())


@pytest.mark.parametrize(("text", "nbytes"), [
    ("786.00 MiB", 786 * 2**20), ("14.73 GiB", 15_816_217_068), ("12.874233344 GB", 12_874_233_344),
    ("", None),
])  # fmt: skip
def test_numbers_are_read_as_messages_print_them(text: str, nbytes: int | None) -> None:
    assert size_of(text) == nbytes


def test_sizes_are_printed_as_the_allocator_prints_them() -> None:
    assert printed(786 * 2**20) == "786.00 MiB"
    assert printed(2**30) == "1024.00 MiB"
    assert printed(2**30 + 2**29) == "1.50 GiB"


def test_a_volume_that_cudnn_takes_is_met_to_the_last_figure() -> None:
    one = judged("Conv3d 64-32 depth 361 A100")
    assert one.verdict is Verdict.FITS
    assert one.errors() == pytest.approx({Measured.ACTIVE: 0, Measured.RESERVED: 0}, abs=2e-4)


@pytest.mark.parametrize(("name", "error"), [
    ("Conv3d 64-32 depth 362 A100", 0.001),
    ("nanoGPT evaluation b32 V100", 0.01),
    ("RoBERTa b32 K80", 0.002),
])  # fmt: skip
def test_the_allocation_that_failed_is_the_one_that_fails(name: str, error: float) -> None:
    if name.startswith("RoBERTa"):
        pytest.importorskip("transformers", exc_type=ImportError)
    one = judged(name)
    message = one.run.message
    assert message is not None
    assert one.verdict is Verdict.DOES_NOT_FIT
    assert not one.is_wrong
    assert one.tried == message.tried
    assert one.failure_error == pytest.approx(0, abs=error)
    expected = {"RoBERTa b32 K80": "aten._log_softmax.default"}  # as the traceback says
    if one.places is not None:
        assert one.places == (expected.get(name, "aten.convolution.default"),)


def test_a_verdict_is_wrong_only_if_it_is_the_opposite() -> None:
    one = judged("Conv3d 64-32 depth 362 A100")
    ended = RUNS["Conv3d 64-32 depth 361 A100"]

    def with_run(run: PublicRun) -> Judged:
        return Judged(run=run, weight=one.weight, peaks=one.peaks, failure=one.failure, places=None)

    assert not with_run(one.run).is_wrong
    assert with_run(ended).is_wrong


def test_the_early_softmax_is_a_softmax() -> None:
    scores = torch.randn(2, 3, 5, device="cpu", dtype=torch.float64).float().requires_grad_()
    weights = early_softmax(scores)
    assert torch.equal(weights, scores.softmax(-1))
    weights.square().sum().backward()
    expected = scores.detach().clone().requires_grad_()
    expected.softmax(-1).square().sum().backward()
    assert torch.allclose(scores.grad, expected.grad)


def test_gpt2_by_hand_has_the_published_number_of_parameters() -> None:
    with tg.meta_construction():
        model = Gpt(GPT2, "where")
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808
