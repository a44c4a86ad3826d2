"""PyTorch's own suite of modules, whole: ``torch.testing._internal.common_modules.module_db``.

Every module with the inputs that PyTorch tests it with, in evaluation and training: the analysis
runs; parameters, output shapes and dtypes are those of a real run. The peaks on the CPU are equal
to the byte, except for what ``benchmarks/module_db.csv`` lists with its reason.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("expecttest")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cpu_memory import one_thread
from benchmarks.module_db import ALL, COLUMNS, Sample, differences, figures, names, samples

from torchgauge.errors import ModelError
from torchgauge.trace.inspect.describe import tensors_in

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore"),  # the suite tries what PyTorch deprecates
]
EQUAL = 0.97
"""Of the peaks that can be compared."""


def real_output(sample: Sample) -> Any:
    """Run a sample for real; ``None`` where PyTorch refuses it."""
    torch.manual_seed(0)
    try:
        with torch.set_grad_enabled(sample.training):
            return sample.module(*sample.args, **sample.kwargs)
    except RuntimeError:
        return None


def described(value: Any) -> list[tuple[tuple[int, ...], str]]:
    """Return shape and dtype of each tensor."""
    return [(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in tensors_in(value)]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", names())
def test_a_module_is_described_as_it_runs(name: str, training: bool) -> None:
    count = 0
    with one_thread():
        for sample in samples(name, training=training):
            output = real_output(sample)
            if output is None:
                with pytest.raises(ModelError):
                    report_of(sample)
                continue
            count += 1
            report = report_of(sample)
            assert report.totals.params == sum(p.numel() for p in sample.module.parameters())
            found = [(out.tensor.shape, out.tensor.dtype) for out in report.outputs if out.tensor]
            assert found == described(output), (name, count)
    assert count


def report_of(sample: Sample) -> Any:
    """Analyse the forward; one without a gradient cannot be trained."""
    trains = sample.training and any(p.requires_grad for p in sample.module.parameters())
    return sample.analyze() if trains else inference(sample)


def inference(sample: Sample) -> Any:
    """Analyse the forward alone, in the mode of the scenario."""
    forward = Sample(module=sample.module, args=sample.args, kwargs=sample.kwargs, training=False)
    return forward.analyze()


AVX512 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="the scratch memory of oneDNN's kernels is known for AVX-512 alone",
)


@AVX512
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", names())
def test_the_peak_is_the_real_one(name: str, training: bool) -> None:
    listed = differences().get((name, "training" if training else "inference"))
    found = figures(name, training=training)
    off = [figure for figure in found if figure.error]
    if listed is None:
        assert not off
        return
    assert len(off) <= int(listed["off"]) and len(found) == int(listed["compared"])
    worst = abs(int(listed["predicted_bytes"]) / int(listed["real_bytes"]) - 1)
    assert all(abs(figure.error) <= worst + 1e-9 for figure in off), off


def test_nearly_all_are_exact_and_the_rest_has_its_reason() -> None:
    *rows, total = differences().values()
    assert total["module"] == ALL and int(total["compared"]) > 1000
    assert sum(int(row["off"]) for row in rows) == int(total["off"])
    assert int(total["off"]) <= (1 - EQUAL) * int(total["compared"])
    assert all(set(row) == set(COLUMNS) and row["reason"] for row in rows)
