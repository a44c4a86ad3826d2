"""The published measurements of GPU memory as cases: what needs no data file."""

from functools import partial
from pathlib import Path

import pytest
from benchmarks.memory_sets import run, schedtune, xmem
from benchmarks.memory_sets.cases import Measured, MemoryCase, image, tokens
from benchmarks.memory_sets.language_models import MODELS, language_model
from benchmarks.memory_sets.run import Result, best_constant, sample, table
from benchmarks.memory_sets.vision import torchvision_model

import torchgauge as tg
from torchgauge.facts.scenario import Scenario
from torchgauge.models.torchvision_operators import define_missing_operators

define_missing_operators()
pytest.importorskip("torchvision")


def _case(name: str, measured: int, *, implausible: bool = False) -> MemoryCase:
    return MemoryCase(
        id=name,
        set="test",
        family="test",
        build=partial(torchvision_model, "resnet18"),
        inputs=image(2, 64),
        scenario=Scenario(mode="training", optimizer="sgd"),
        gpu="L40S",
        measured=Measured.RESERVED,
        measured_bytes=measured,
        implausible=implausible,
    )


def test_a_sample_is_spread_over_the_whole_list() -> None:
    cases = [_case(str(number), 1) for number in range(10)]
    assert [case.id for case in sample(cases, 3)] == ["0", "3", "6"]
    assert len(sample(cases, None)) == len(sample(cases, 99)) == 10


def test_the_best_constant_moves_most_predictions_onto_their_figures() -> None:
    found = [
        Result(case=_case(str(number), 100 * number + 7), predicted_bytes=100 * number)
        for number in range(1, 5)
    ]
    found.append(Result(case=_case("odd", 100), predicted_bytes=1))
    assert best_constant(found) == 7
    assert found[0].error(7) == 0


def test_rows_that_cannot_be_true_are_told_apart_and_still_counted() -> None:
    found = [
        Result(case=_case("a", 100), predicted_bytes=100),
        Result(case=_case("b", 10, implausible=True), predicted_bytes=100),
    ]
    lines = [line.split() for line in table(found)]
    assert ["all", "2"] in [line[:2] for line in lines]
    assert ["without", "implausible", "rows", "1"] in [line[:4] for line in lines]


def test_a_set_whose_file_is_absent_is_skipped_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"skipped: {tmp_path / xmem.FILE} is not there" in said
    assert said.count("skipped: ") == len(run.SETS)


def test_a_case_is_predicted_through_the_allocator(tmp_path: Path) -> None:
    case = _case("resnet18", 1)
    (result,) = run.results([case], tmp_path, quiet=True)
    assert result.predicted_bytes % (2 << 20) == 0  # segments are of whole 2 MiB
    assert result.predicted_bytes > 2 * 11_689_512 * 4  # parameters and gradients
    assert len(list(tmp_path.iterdir())) == 1
    assert run.results([case], tmp_path, quiet=True) == [result]


def test_winograd_kernels_of_pytorch_1_meet_a_published_figure_to_the_mib(tmp_path: Path) -> None:
    columns = "model,batchsize,SM count,peak mem usage"
    (tmp_path / schedtune.FILE).write_text(f"{columns}\nvgg16,32,40,7912.0\n")
    (case,) = schedtune.cases(tmp_path)  # SchedTune, a T4; context of the set included
    assert run.predict(case, run.trace_of(case)).predicted_bytes == case.measured_bytes


def test_only_the_first_sequence_of_a_batch_is_full() -> None:
    mask = next(spec for spec in tokens(3, 8) if spec.name == "attention_mask").make()
    assert mask.sum(dim=1).tolist() == [8, 7, 7]


@pytest.mark.parametrize("name", ["distilbert/distilgpt2", "facebook/opt-350m", "Qwen/Qwen3-0.6B"])
def test_language_models_have_the_published_number_of_parameters(name: str) -> None:
    pytest.importorskip("transformers")
    with tg.meta_construction():
        model = language_model(name)
    assert sum(p.numel() for p in model.parameters()) == MODELS[name].parameters
