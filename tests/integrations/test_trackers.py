"""Each tracker with its local back-end: what it stored is read back and equals the report."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kept import check_kept, library
from torch import nn

import torchgauge as tg
from torchgauge.errors import MissingExtraError, UsageError
from torchgauge.integrations.optional import optional
from torchgauge.integrations.trackers import log
from torchgauge.integrations.trackers.record import scalars

of_libraries = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def report() -> tg.Report:
    model = nn.Sequential(nn.Linear(4096, 5000), nn.ReLU(), nn.Linear(5000, 10))
    options = {"mode": "training", "optimizer": "adamw", "device": "T4"}
    return tg.analyze(model, (4, 4096), **options)


def read_tensorboard(folder: Any) -> tuple[dict[str, float], str]:
    """Return the scalars of an event file and the JSON beside it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    kept = {}
    for tag in events.Tags()["tensors"]:
        if tag.startswith("torchgauge/") and not tag.endswith("text_summary"):
            kept[tag] = make_ndarray(events.Tensors(tag)[-1].tensor_proto).item()
    return kept, Path(folder, "torchgauge.json").read_text(encoding="utf-8")


def read_mlflow(client: Any, run_id: str, folder: Path) -> tuple[dict[str, float], str]:
    """Return the metrics of a run and its JSON artifact."""
    metrics = client.get_run(run_id).data.metrics
    path = client.download_artifacts(run_id, "torchgauge.json", str(folder))
    return metrics, Path(path).read_text(encoding="utf-8")


@of_libraries
def test_tensorboard(report, tmp_path):
    library("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        log(report, to=writer)
    kept, text = read_tensorboard(tmp_path)
    assert scalars(report)["torchgauge/params"] > 2**24  # not exact in 32 bits
    check_kept(report, kept, text)


@of_libraries
def test_mlflow(report, tmp_path):
    mlflow = library("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = mlflow.create_experiment("gauge", (tmp_path / "artifacts").as_uri())
    with pytest.raises(UsageError, match="mlflow has no active run"):
        log(report, to=mlflow)
    with mlflow.start_run(experiment_id=experiment) as run:
        log(report, to=mlflow, step=7)
    client = mlflow.MlflowClient()
    check_kept(report, *read_mlflow(client, run.info.run_id, tmp_path))
    (point,) = client.get_metric_history(run.info.run_id, "torchgauge/params")
    assert point.step == 7
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert names == {"torchgauge.txt", "torchgauge.html", "torchgauge.json"}


@of_libraries
def test_wandb_offline(report, tmp_path, monkeypatch):
    wandb = library("wandb")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=str(tmp_path), project="gauge") as run:
        log(report, to=run, step=3)
    wandb.teardown()  # its service has written all when it has ended
    kept = read_wandb(Path(run.dir).parent)
    assert kept["torchgauge/step"] == 3
    staged = (tmp_path / "data" / "artifacts" / "staging").iterdir()  # waits to be synchronised
    (text,) = [text for path in staged if (text := path.read_text("utf-8")).startswith("{")]
    check_kept(report, kept, text)


def read_wandb(folder: Path) -> dict[str, Any]:
    """Return the summary that the log file of an offline run holds."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("*.wandb")
    kept: dict[str, Any] = {}
    for data in wandb_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.summary.update:
            kept[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return kept


def wandb_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a log of LevelDB: blocks of 32 KiB, parts with 7 bytes before each."""
    place, whole = 7, b""  # wandb's own header counts as part of the first block
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


@of_libraries
def test_aim(report, tmp_path):
    aim = library("aim")
    run = aim.Run(repo=str(tmp_path), system_tracking_interval=None)
    log(report, to=run)
    run_hash = run.hash
    run.close()
    again = aim.Run(run_hash, repo=str(tmp_path), system_tracking_interval=None)
    kept = {metric.name: metric.values.last()[1] for metric in again.metrics()}
    text = json.dumps(again["torchgauge"])
    again.close()
    check_kept(report, kept, text)


def test_a_tracker_of_ones_own_and_several(report):
    class Own:
        def __init__(self) -> None:
            self.kept: list[Any] = []

        def store(self, record: Any, step: int) -> None:
            self.kept.append((record, step))

    one, other = Own(), Own()
    log(report, to=[one, other], step=5)
    ((record, step),) = one.kept
    assert step == 5
    assert other.kept[0][0] is record
    check_kept(report, record.scalars, record.json)
    assert record.html.startswith("<!doctype html>") or record.html.startswith("<!DOCTYPE html>")
    assert "Sequential" in record.text


def test_what_is_no_tracker_is_refused(report):
    with pytest.raises(UsageError, match="a dict is not a tracker") as caught:
        log(report, to={})
    assert "SummaryWriter" in caught.value.hint


def test_names_hold_units_and_nothing_is_made_up():
    found = scalars(tg.analyze(torch.nn.Linear(8, 4)))
    assert found["torchgauge/params"] == 36
    assert not any("peak" in name or name.endswith("_ms") for name in found)  # nothing ran


@pytest.mark.parametrize(
    ("module", "extra"), [("aim", "aim"), ("mlflow", "mlflow"), ("lightning.pytorch", "lightning")]
)
def test_a_missing_library_is_named_with_its_install_line(module, extra, monkeypatch):
    monkeypatch.setattr("sys.modules", {**sys.modules, module: None, module.split(".")[0]: None})
    with pytest.raises(MissingExtraError) as caught:
        optional(module)
    assert caught.value.message.startswith(module.split(".")[0])
    assert caught.value.hint == f'pip install "torchgauge[{extra}]"'


def test_a_library_that_cannot_be_imported_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text("raise RuntimeError('of another build')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(MissingExtraError, match="cannot be imported: of another build") as caught:
        optional("wandb")
    assert 'python -c "import wandb"' in caught.value.hint
