"""Transformers, Accelerate and Keras, in real fits on the CPU."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from kept import library
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries; ours are asked for by name
NEARLY_ALL = int(14.74 * 2**30)
"""Of a T4, for other programs."""


# ------------------------------------------------------------------ transformers


class Tokens(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = (torch.arange(12) + index) % 100
        return {"input_ids": ids, "labels": ids}


@pytest.fixture
def transformers() -> Any:
    library("accelerate")
    found = library("transformers")
    try:
        found.Trainer  # noqa: B018
    except (ImportError, RuntimeError) as error:  # a torchvision of another build of torch
        pytest.skip(f"transformers' Trainer cannot be imported: {error}")
    return found


def train(transformers: Any, tmp_path: Any, *callbacks: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=100, n_positions=32, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0,
        embd_pdrop=0, attn_pdrop=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True, **options,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=Tokens(), callbacks=list(callbacks)
    )
    trainer.train()
    return trainer


def test_transformers(transformers, tmp_path, capsys):
    from torchgauge.integrations.transformers import GaugeCallback

    callback = GaugeCallback()
    trainer = train(transformers, tmp_path, callback, gradient_accumulation_steps=2)
    report, model = callback.report, trainer.model
    assert report.totals.params == sum(p.numel() for p in model.parameters())
    assert report.inputs[0].tensor.shape == (4, 12)
    assert (report.scenario.accumulation, report.scenario.gradient_clipping) == (2, True)
    assert report.scenario.optimizer == "adamw"
    assert "loss: the one that the model returns" in report.assumptions
    assert not model._forward_pre_hooks
    assert "GPT2LMHeadModel" in capsys.readouterr().out


def test_transformers_trains_the_same_with_it(transformers, tmp_path):
    from torchgauge.integrations.transformers import GaugeCallback

    weights = [
        nn.utils.parameters_to_vector(train(transformers, tmp_path, *callbacks).model.parameters())
        for callbacks in ((), (GaugeCallback(depth=0),))
    ]
    assert torch.equal(*weights)


def test_transformers_warns_before_the_first_step(transformers, tmp_path):
    from torchgauge.integrations.transformers import GaugeCallback

    callback = GaugeCallback(device="T4", depth=0, other_programs_bytes=NEARLY_ALL)
    with pytest.warns(UserWarning, match=r"the training step will not fit: .*; T4 has 14.75 GiB"):
        train(transformers, tmp_path, callback, bf16=True)
    assert callback.report.scenario.precision == "bf16-autocast"


# ------------------------------------------------------------------ Accelerate


def test_accelerate(tmp_path):
    accelerate = library("accelerate")
    library("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from torchgauge.integrations.accelerate import gauge
    from torchgauge.integrations.trackers.record import scalars

    accelerator = accelerate.Accelerator(
        cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2, log_with="tensorboard",
        project_dir=str(tmp_path),
    )  # fmt: skip
    accelerator.init_trackers("gauge")
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    data = torch.utils.data.DataLoader(torch.randn(24, 16), batch_size=8)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)
    found = gauge(accelerator, model, optimizer, loss=lambda output: output.mean(), depth=0)
    for batch in data:
        with accelerator.accumulate(model):
            accelerator.backward(model(batch).mean())
            optimizer.step()
            optimizer.zero_grad()
    accelerator.end_training()
    report = found.report
    assert report.totals.params == 16 * 32 + 32 + 32 * 4 + 4
    assert report.scenario.precision == "bf16-autocast"
    assert report.scenario.accumulation == 2
    assert (report.scenario.optimizer, report.scenario.options) == ("adam", {"amsgrad": True})
    events = EventAccumulator(str(tmp_path / "gauge"))
    events.Reload()
    kept = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    for name, value in scalars(report).items():
        assert kept[name] == pytest.approx(value, rel=1e-6), name  # Accelerate keeps 32 bits


# ------------------------------------------------------------------ Keras


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    return library("keras")


def fitted(keras: Any, *callbacks: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, name="edges"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="head"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3), loss=loss)
    x, y = torch.rand(32, 8, 8, 3).numpy(), torch.randint(0, 10, (32,)).numpy()
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=list(callbacks))
    return model


def test_keras(keras, capsys):
    from torchgauge.integrations.keras import GaugeCallback

    callback = GaugeCallback()
    model = fitted(keras, callback)
    report = callback.report
    assert report.totals.params == model.count_params()
    assert report.totals.forward_macs == 16 * (6 * 6 * 4 * 27 + 144 * 10)
    assert report.memory.optimizer_bytes == pytest.approx(8 * model.count_params(), abs=64)
    assert report.scenario.optimizer == "adamw"
    rows = {module.type: module for module in report.modules.values()}
    assert rows["Conv2D"].params == 4 * 27 + 4
    assert rows["Conv2D"].macs == 16 * 6 * 6 * 4 * 27
    assert rows["Dense"].macs == 16 * 144 * 10
    assert "Dense" in capsys.readouterr().out


def test_keras_trains_the_same_with_it(keras):
    from torchgauge.integrations.keras import GaugeCallback

    weights = [
        torch.cat([torch.as_tensor(w).flatten() for w in fitted(keras, *callbacks).get_weights()])
        for callbacks in ((), (GaugeCallback(depth=0),))
    ]
    assert torch.equal(*weights)


def test_keras_warns_before_the_first_batch(keras):
    from torchgauge.integrations.keras import GaugeCallback

    callback = GaugeCallback(device="T4", depth=0, other_programs_bytes=NEARLY_ALL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted(keras, callback)
    told = [str(w.message) for w in caught if "training step" in str(w.message)]
    assert len(told) == 1
    assert "T4 has 14.75 GiB" in told[0]
