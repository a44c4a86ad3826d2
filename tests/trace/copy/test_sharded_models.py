"""FSDP2, FSDP1, DTensor and DDP on one and on two ranks: never a crash, the model that was wrapped.

The models are those of ``sharded_models.py``, in processes of their own: one that dies is a failed
test. The figures are closed forms of the unwrapped model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import torchgauge

PROGRAM = Path(__file__).parents[2] / "sharded_models.py"
PARAMS, MACS = 16 * 32 + 32 + 32 * 4 + 4, 4 * (16 * 32 + 32 * 4)
BACKWARD = 2 * (2 * MACS) - 2 * 4 * 16 * 32  # weights and inputs, the model's own input excepted
NAMES = {"0.weight": [32, 16], "0.bias": [32], "2.weight": [4, 32], "2.bias": [4]}
PLAIN = (
    "FSDP2", "FSDP2 after a step", "FSDP2 of a part", "FSDP2 unsharded, in half", "FSDP2 compiled",
    "FSDP1", "FSDP1 after a step", "FSDP1, own parameters", "FSDP1 nested", "FSDP1 in half",
    "tensor parallel", "tensor parallel and FSDP2", "DTensor replicas", "DDP", "DDP hooked",
    "DDP after a step", "DDP of a compiled one", "FSDPSequential without its group",
    "FullyShardedDataParallel without its group", "DistributedDataParallel without its group",
)  # fmt: skip
BRANCHING = ("FSDP2 branching", "FSDP1 branching", "tensor parallel branching", "DDP branching")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What each rank printed, by the number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    source = str(Path(torchgauge.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    started = {
        ranks: [
            subprocess.Popen(
                [sys.executable, str(PROGRAM), str(rank), str(ranks), str(folder / str(ranks))],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            )
            for rank in range(ranks)
        ]
        for ranks in (1, 2)
    }  # fmt: skip
    try:
        return {ranks: [_result(one) for one in all_] for ranks, all_ in started.items()}
    finally:
        for one in (one for all_ in started.values() for one in all_):
            one.kill()


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors[-3000:]
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", PLAIN)
def test_the_unwrapped_model_is_counted(name: str, ranks: int, found: Any) -> None:
    peaks = set()
    for rank in found[ranks]:
        one = rank[name]
        assert one["params"] == one["trainable"] == [PARAMS] * 3
        assert (one["bytes"], one["macs"], one["backward"]) == (4 * PARAMS, MACS, BACKWARD)
        assert one["names"] == NAMES and one["execution"] == "simulated" and one["kept"]
        peaks |= {one["peak"], rank["DDP"]["peak"]}
    assert len(peaks) == 1  # the same model, the same memory


@pytest.mark.parametrize("name", BRANCHING)
def test_a_real_run_has_values(name: str, found: Any) -> None:
    for rank in (*found[1], *found[2]):
        one = rank[name]
        assert (one["params"], one["macs"], one["backward"]) == ([PARAMS] * 3, MACS, BACKWARD)
        assert one["execution"] == "real" and one["kept"]


@pytest.mark.parametrize(
    ("name", "by"),
    [("FSDP2", "sharded over 2 ranks by FSDP2"), ("FSDP1", "sharded over 2 ranks by FSDP1"),
     ("tensor parallel", "distributed over 2 ranks (DTensor)"),
     ("DDP", "replicated over 2 ranks by DistributedDataParallel")],
)  # fmt: skip
def test_more_than_one_rank_is_said(name: str, by: str, found: Any) -> None:
    for structure, training in (rank[name]["said"] for rank in found[2]):
        assert any(by in text for text in structure) and any(by in text for text in training)
    for structure, training in (rank[name]["said"] for rank in found[1]):
        assert not any("ranks" in text for text in (*structure, *training))


def test_what_is_not_modelled_is_said(found: Any) -> None:
    for name in ("FSDP2 unsharded, in half", "FSDP1 in half"):
        for said in found[1][0][name]["said"]:
            assert any("mixed precision policy" in text for text in said)
    assert any("gradient buckets" in text for text in found[1][0]["DDP"]["said"][0])
    assert any("SyncBatchNorm" in text for text in found[1][0]["SyncBatchNorm"]["said"][1])


@pytest.mark.parametrize("name", ["FSDP2 tied", "FSDP1 tied"])
def test_tied_parameters_count_once(name: str, found: Any) -> None:
    for rank in (*found[1], *found[2]):
        assert rank[name]["params"] == rank[name]["trainable"] == [20 * 16] * 3
        assert rank[name]["macs"] == 28 * 16 * 20


def test_frozen_parameters_stay_frozen(found: Any) -> None:
    for rank in (*found[1], *found[2]):
        assert rank["FSDP1 frozen"]["trainable"] == [PARAMS - 16 * 32] * 3
        assert rank["FSDP1 frozen"]["backward"] == 2 * (2 * 4 * 32 * 4)


@pytest.mark.parametrize("name", ["DDP inside", "FSDP1 inside"])
def test_code_that_reaches_through_a_wrapper(name: str, found: Any) -> None:
    for rank in (*found[1], *found[2]):
        assert rank[name]["params"] == [PARAMS + 20] * 3
        assert set(rank[name]["names"]) == {f"part.{n}" for n in NAMES} | {
            "head.weight", "head.bias"
        }  # fmt: skip


def test_dtensors_in_the_forward(found: Any) -> None:
    for rank in (*found[1], *found[2]):
        for name in ("DTensor methods", "DTensor made inside", "communicating"):
            assert rank[name]["macs"] == 4 * 16 * 32
            assert rank[name]["backward"] == 2 * 4 * 16 * 32
        assert any("DTensors in the" in text for text in rank["DTensor made inside"]["said"][1])


def test_nothing_is_sent(found: Any) -> None:
    """One rank alone gets its answer: a real collective would wait for the others."""
    alone = found[2][0]["alone"]
    assert alone["macs"] == 4 * 16 * 32 and alone["execution"] == "simulated"
    said = "collectives in the forward: what they send is not counted"
    assert all(said in assumptions for assumptions in alone["said"][1:])


def test_a_forward_of_shares_is_refused_with_the_reason(found: Any) -> None:
    assert found[1][0]["tensor parallel heads"]["macs"] == 10 * 2 * 16 * 32
    for rank in found[2]:
        refused = rank["tensor parallel heads"]
        assert "invalid for input of size 320" in refused["refused"] and refused["kept"]
        assert "the copy that ran is the unsharded model" in refused["hint"]
