"""The page of `make accuracy`: it counts what there is, and says what is absent."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import accuracy, cpu_time  # noqa: E402
from benchmarks.gpu_truth import compare  # noqa: E402
from benchmarks.gpu_truth.compare import Comparison  # noqa: E402
from benchmarks.gpu_truth.schema import (  # noqa: E402
    Environment,
    PhaseMemory,
    Record,
    Status,
    count,
    read_all,
)

from torchgauge.compare.streams import StreamComparison  # noqa: E402

GPT2 = "| model | params |\n|---|--:|\n| GPT-2 124M | {} |\n| No Such Model | 1,000 |\n"


def comparison(peak: int, predicted: int) -> Comparison:
    environment = Environment(
        torch="2.11.0", python="3.12", device="cuda", device_name="a GPU", properties={}
    )
    phase = PhaseMemory(
        step=0, phase="backward", allocated_bytes=1, reserved_bytes=1, peak_allocated_bytes=peak,
        peak_reserved_bytes=2 * peak, peak_requested_bytes=peak, device_bytes=None,
    )  # fmt: skip
    record = Record(
        case={"id": f"case-{peak}", "kind": "model"}, status=Status.OK, environment=environment,
        phases=(phase,),
    )  # fmt: skip
    streams = StreamComparison(real_ops=10, simulated_ops=10, equal_ops=10, differences=())
    return Comparison(record=record, peak_bytes=predicted, streams=streams)


def test_a_prediction_for_a_gpu_says_whose_kernels_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "HAS_CUDA_KERNELS", False)
    assert comparison(100, 90).note == compare.CPU_KERNELS
    with_records(monkeypatch, [comparison(100, 90)])
    assert f"Note: {compare.CPU_KERNELS}." in accuracy.page(tmp_path, tmp_path)[1]
    monkeypatch.setattr(compare, "HAS_CUDA_KERNELS", True)
    assert comparison(100, 90).note == ""


def with_records(monkeypatch, comparisons: list[Comparison]) -> None:
    monkeypatch.setattr(accuracy, "read_all", lambda folder: comparisons)
    monkeypatch.setattr(accuracy, "compare_record", lambda record: record)


def test_without_anything_the_page_says_so(tmp_path):
    text = "\n".join(accuracy.page(tmp_path, tmp_path))
    first = text.splitlines()[0]
    assert first == "# How accurate: no GPU records yet"
    assert "There are no records of steps on a GPU yet." in text
    assert "0 present, 18 absent (`torchvision_params_gmacs.csv`," in text
    assert "Skipped: `torchvision_params_gmacs.csv` is not beside the repository" in text
    assert "Skipped: `published_memory.md` is not beside the repository" in text
    assert "Skipped: `gpu_memory_timm_a100.csv` is not beside the repository" in text


def test_the_command_says_when_the_data_is_absent(tmp_path, capsys):
    page = tmp_path / "page.md"
    nowhere = str(tmp_path / "nowhere")
    assert (
        accuracy.main(
            [
                "--data",
                nowhere,
                "--records",
                nowhere,
                "--output",
                str(page),
                "--no-cpu",
                "--no-public",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith("skipped: ../shared/data is not beside")
    assert page.read_text().startswith("# How accurate: no GPU records yet\n")
    tables = tmp_path / "accuracy-tables.md"
    assert tables.read_text().startswith("# How accurate: every table\n")


def test_records_are_counted_and_their_peaks_compared(tmp_path, monkeypatch):
    failed = comparison(7, 7)
    failed = Comparison(
        record=replace(failed.record, status=Status.OUT_OF_MEMORY), why_not="ended as out_of_memory"
    )
    with_records(monkeypatch, [comparison(100, 90), comparison(200, 200), failed])
    text = "\n".join(accuracy.page(tmp_path, tmp_path))
    assert text.splitlines()[0] == "# How accurate: 3 GPU records"
    assert "3 records: 2 ok, 1 out_of_memory." in text
    assert "| peak of allocated bytes | 2 | 1 | 0.000% | 10.000% | -10.000% case-100 |" in text
    assert "Op streams: 2 of 2 identical, 20 of 20 ops equal." in text
    assert "- 1 records: ended as out_of_memory" in text


@pytest.mark.parametrize("published, exact", [("124,439,808", 1), ("124,439,000", 0)])
def test_parameter_counts_are_checked(tmp_path, published, exact):
    (tmp_path / "published_memory.md").write_text(GPT2.format(published))
    text = "\n".join(accuracy.page(tmp_path, tmp_path))
    assert f"| language models: exact parameter counts | 1 | {exact} |" in text
    assert "- No Such Model: no configuration is written down for it" in text


def test_torchvision_figures_are_checked(tmp_path):
    (tmp_path / "torchvision_params_gmacs.csv").write_text(
        "model,weights,num_params,ops_gmacs\n"
        "resnet18,ResNet18_Weights.IMAGENET1K_V1,11689512,1.814\n"
        "alexnet,AlexNet_Weights.IMAGENET1K_V1,61100840,0.8\n"
        "no_such_model,No_Weights.V1,1,1.0\n"
    )
    text = "\n".join(accuracy.page(tmp_path, tmp_path))
    assert "| torchvision: parameters | 2 | 2 | 0.000% | 0.000% | – |" in text
    assert "- alexnet-IMAGENET1K_V1, GMACs: -10.7" in text
    assert "- no_such_model-V1: the installed torchvision does not have it" in text


def test_percentiles_are_values_that_occur():
    assert accuracy.percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert accuracy.percentile([1.0, 2.0, 3.0, 4.0], 0.9) == 4.0
    assert accuracy.percentile([5.0], 0.5) == 5.0


def test_a_recorded_time_replaces_its_own_row_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "cpu_time.csv"
    monkeypatch.setattr(cpu_time, "RECORD", path)

    def row(name, predicted_ms):
        return cpu_time.Row(
            name=name,
            predicted_ms=predicted_ms,
            measured_ms=2.0,
            stated_error=0.1,
            predicted_top=("a",),
            measured_top=("a",),
            agrees=True,
        )

    cpu_time.record("inference", [row("one", 1.0), row("two", 2.0)])
    cpu_time.record("training", [row("one", 3.0)])
    cpu_time.record("inference", [row("one", 4.0)])
    lines = path.read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in lines] == [
        ["one", "inference"], ["two", "inference"], ["one", "training"],
    ]  # fmt: skip
    page = "\n".join(cpu_time.section())
    assert "| one | inference | 2.0 ms | 2.00 |" in page
    assert "| two | inference | 2.0 ms | 1.00 |" in page


def test_the_page_in_the_repository_counts_the_records_in_the_repository():
    first = accuracy.PAGE.read_text(encoding="utf-8").splitlines()[0]
    recorded = count(accuracy.RECORDS)
    if recorded:
        recorded = sum(r.environment.device == "cuda" for r in read_all(accuracy.RECORDS))
    said = f"{recorded} GPU records" if recorded else "no GPU records yet"
    assert first == f"# How accurate: {said}"
