"""The Lightning callbacks, in real fits; what the loggers kept is read back."""

from __future__ import annotations

import importlib
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kept import check_kept, library
from torch import nn

PACKAGES = {
    "lightning.pytorch": "torchgauge.integrations.lightning",
    "pytorch_lightning": "torchgauge.integrations.pytorch_lightning",
}
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries; ours are asked for by name


@pytest.fixture(params=PACKAGES)
def lightning(request: pytest.FixtureRequest) -> Any:
    pl = library(request.param)
    gauge = importlib.import_module(PACKAGES[request.param])

    class Net(pl.LightningModule):
        def __init__(self, width: int = 32) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 4))

        def training_step(self, batch: Any, index: int) -> Any:
            x, y = batch
            loss = nn.functional.cross_entropy(self.net(x), y)
            self.log("loss", loss)
            return {"loss": loss}

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    data = torch.utils.data.TensorDataset(torch.randn(32, 16), torch.randint(0, 4, (32,)))
    loader = torch.utils.data.DataLoader(data, batch_size=8)

    def fit(*callbacks: Any, model: Any = None, **options: Any) -> Any:
        trainer = pl.Trainer(
            max_steps=2, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False,
            callbacks=list(callbacks), **{"logger": False, **options},
        )  # fmt: skip
        model = Net() if model is None else model
        trainer.fit(model, loader)
        return trainer, model

    return SimpleNamespace(pl=pl, Net=Net, fit=fit, GaugeCallback=gauge.GaugeCallback)


def test_the_step_is_the_trainers(lightning, capsys):
    callback = lightning.GaugeCallback()
    trainer, model = lightning.fit(callback, accumulate_grad_batches=2, gradient_clip_val=1.0)
    scenario = callback.report.scenario
    assert (scenario.optimizer, scenario.options) == ("sgd", {"momentum": 0.9})
    assert (scenario.accumulation, scenario.gradient_clipping) == (2, True)
    assert callback.report.totals.params == sum(p.numel() for p in model.parameters())
    assert callback.report.totals.forward_macs == 2 * 8 * (16 * 32 + 32 * 4)
    assert callback.report.memory.optimizer_bytes == 4 * callback.report.totals.params
    assert callback.report.inputs[0].tensor.shape == (8, 16)
    assert model.trainer is trainer
    assert callback.report.warnings == ()  # the trainer was not copied with the model
    assert capsys.readouterr().out.count("Net · ") == 1


def test_it_takes_the_place_of_the_model_summary(lightning):
    trainer, _ = lightning.fit(lightning.GaugeCallback(max_depth=0))
    summaries = [c for c in trainer.callbacks if "Summary" in type(c).__name__]
    assert summaries == []


def test_training_is_the_same_with_and_without_it(lightning):
    weights = []
    for callbacks in ((), (lightning.GaugeCallback(),)):
        torch.manual_seed(3)
        _, model = lightning.fit(*callbacks, model=lightning.Net())
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*weights)


def test_a_step_that_will_not_fit_warns_before_the_first_batch(lightning):
    seen = []

    class Net(lightning.Net):
        def training_step(self, batch: Any, index: int) -> Any:
            if not batch[0].is_meta:
                seen.append([str(w.message) for w in caught])
            return super().training_step(batch, index)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback = lightning.GaugeCallback(
            device="T4", max_depth=0, other_programs_bytes=int(14.74 * 2**30)
        )
        lightning.fit(callback, model=Net())
    assert seen
    (told,) = [text for text in seen[0] if "training step" in text]
    assert told.startswith("the training step will not fit: ")
    assert "T4 has 14.75 GiB" in told
    assert "try: tg.fits(" in told


def test_a_step_that_cannot_be_analysed_is_trained_all_the_same(lightning):
    callback = lightning.GaugeCallback(device="T5")
    with pytest.warns(UserWarning, match="could not analyse the training step of Net"):
        trainer, _ = lightning.fit(callback)
    assert trainer.global_step == 2
    assert callback.report is None


def test_loggers_keep_the_report(lightning, tmp_path):
    library("tensorboard")
    from test_trackers import read_tensorboard

    loggers = lightning.pl.loggers
    callback = lightning.GaugeCallback(max_depth=0)
    board = loggers.TensorBoardLogger(tmp_path)
    table = loggers.CSVLogger(tmp_path / "csv")
    lightning.fit(callback, logger=[board, table])
    check_kept(callback.report, *read_tensorboard(board.log_dir))
    written = (tmp_path / "csv").rglob("metrics.csv")
    assert "torchgauge/peak_allocated_bytes" in next(written).read_text()


def test_mlflow_by_lightning(lightning, tmp_path):
    mlflow = library("mlflow")
    from test_trackers import read_mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    client.create_experiment("gauge", artifact_location=(tmp_path / "artifacts").as_uri())
    logger = lightning.pl.loggers.MLFlowLogger(experiment_name="gauge", tracking_uri=uri)
    callback = lightning.GaugeCallback(max_depth=0)
    lightning.fit(callback, logger=logger)
    check_kept(callback.report, *read_mlflow(client, logger.run_id, tmp_path))
