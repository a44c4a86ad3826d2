"""From a message to the answer: Python, the command line, a running loop."""

from __future__ import annotations

import io
import json
import sys

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import UsageError
from torchgauge.estimate.memory.allocator import replay
from torchgauge.estimate.memory.device import loop_of
from torchgauge.facts.loop.oom import OomExplanation
from torchgauge.integrations.oom import explaining
from torchgauge.target import target_of

DEVICE = "A100 SXM4 40GB"
MIB = 1 << 20


class Net(nn.Module):
    """Two convolutions over images that weigh something."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.act = nn.ReLU()
        self.second = nn.Conv2d(64, 96, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.act(self.first(x)))


SIZE = (8, 3, 224, 224)
OPTIONS = {"mode": "training", "optimizer": "adamw", "device": DEVICE}


def message_of(model, size, share, others=0, **options):
    """Return the message of a step on a GPU with a share of the memory that it needs."""
    report = tg.analyze(model, size, **options)
    gpu = target_of(report.scenario).gpu
    loop = loop_of(report.trace, gpu)
    capacity = int(report.memory.minimum_bytes * share)
    out = replay(loop.events, gpu.settings, capacity).out_of_memory
    total = capacity + gpu.contexts[1] + others
    return (
        f"CUDA out of memory. Tried to allocate {out.segment_bytes / MIB:.2f} MiB. GPU 0 has a "
        f"total capacity of {total / MIB:.2f} MiB of which "
        f"{(capacity - out.reserved_bytes) / MIB:.2f} MiB is free. Of the allocated memory "
        f"{out.allocated_bytes / MIB:.2f} MiB is allocated by PyTorch, and "
        f"{(out.reserved_bytes - out.allocated_bytes) / MIB:.2f} MiB is reserved by PyTorch but "
        "unallocated."
    )


@pytest.fixture(scope="module")
def text():
    return message_of(Net(), SIZE, 0.8, **OPTIONS)


@pytest.fixture(scope="module")
def explained(text):
    return tg.explain_oom(text, Net(), SIZE, **OPTIONS)


def test_the_layer_and_what_was_alive_are_named(explained):
    assert explained.matches
    found = explained.found
    assert found.is_exact
    assert found.module in ("first", "act", "second")
    assert found.step == 1
    assert sum(explained.at_failure.values()) == found.allocated_bytes
    assert explained.alive[0].nbytes >= explained.alive[-1].nbytes


def test_what_was_missing_is_the_step_less_what_could_be_had(explained):
    wanted = explained.minimum_bytes - explained.available_bytes
    assert explained.missing_bytes == wanted > 0
    assert explained.available_bytes == pytest.approx(0.8 * explained.minimum_bytes, rel=0.01)


def test_changes_that_avoid_it_run_in_what_could_be_had(explained):
    helping = [item for item in explained.remedies if item.avoids]
    assert any("batch of 4" in item.text for item in helping)
    assert all(item.minimum_bytes <= explained.available_bytes for item in helping)
    assert list(explained.remedies)[: len(helping)] == helping


def test_a_change_named_as_enough_is_enough(explained):
    report = tg.analyze(Net(), (4, *SIZE[1:]), **OPTIONS)
    batch = next(item for item in explained.remedies if "batch of 4" in item.text)
    assert report.memory.minimum_bytes == batch.minimum_bytes


def test_other_programs_are_seen_and_ending_them_is_proposed():
    text = message_of(Net(), SIZE, 0.8, others=2 << 30, **OPTIONS)
    explained = tg.explain_oom(text, Net(), SIZE, **OPTIONS)
    assert explained.outside.other_programs_bytes == pytest.approx(2 << 30, rel=0.01)
    assert explained.remedies[0].text.startswith("end the other programs")
    assert explained.remedies[0].avoids


def test_without_other_programs_none_are_reported(explained):
    assert explained.outside.other_programs_bytes <= MIB


def test_another_configuration_is_refused_and_the_right_one_named(text):
    explained = tg.explain_oom(text, Net(), (16, *SIZE[1:]), **OPTIONS)
    assert not explained.matches
    assert explained.reason
    assert explained.others[0] == "batch size 8"  # in bfloat16 the sizes are the same as well


def test_a_gpu_has_to_be_named(text):
    with pytest.raises(UsageError, match="the scenario runs on the CPU") as caught:
        tg.explain_oom(text, Net(), SIZE, mode="training")
    assert "--device" in caught.value.hint


def test_another_gpu_than_the_message_says_is_a_warning(explained):
    assert any("the device that was named has" in item for item in explained.warnings)


def test_the_answer_is_saved_and_printed_in_every_format(explained):
    kept = json.loads(explained.to_json())
    assert kept["matches"] is True
    assert kept["found"]["module"] == explained.found.module
    from torchgauge.render import get_format
    from torchgauge.render.pages import page_of

    for name in ("text", "markdown", "html", "csv", "latex"):
        assert explained.found.module in get_format(name).render(page_of(explained)), name


# ---------------------------------------------------------------------------- a running loop


def test_the_error_of_a_loop_is_explained_and_goes_on(text):
    seen: list[OomExplanation] = []
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        explaining(Net(), SIZE, to=seen.append, changes=False, **OPTIONS),
    ):
        raise torch.OutOfMemoryError(text)
    assert [item.matches for item in seen] == [True]


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="shape") as caught, explaining(Net(), SIZE, **OPTIONS):
        raise RuntimeError("shape mismatch")
    assert not getattr(caught.value, "__notes__", [])


def test_what_cannot_be_explained_becomes_a_note(text):
    with pytest.raises(RuntimeError) as caught, explaining(Net(), SIZE, device="cpu"):
        raise RuntimeError(text)
    assert "torchgauge cannot explain it" in caught.value.__notes__[0]


# ---------------------------------------------------------------------------- command line

COMMAND = [
    "explain-oom", "torchvision:resnet18", "--input-size", "3,64,64", "--batch-size", "64",
    "--mode", "training", "--device", DEVICE, "--no-changes", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def resnet_text():
    options = {"mode": "training", "device": DEVICE}
    return message_of("torchvision:resnet18", (64, 3, 64, 64), 0.8, **options)


def test_status_0_and_the_place_for_a_message_in_a_file(resnet_text, tmp_path, capsys):
    path = tmp_path / "log.txt"
    path.write_text(resnet_text)
    assert main([*COMMAND, "--message", str(path)]) == 0
    out = capsys.readouterr().out
    assert " Place " in out
    assert " Try " not in out  # no change was tried


def test_status_1_for_another_step(resnet_text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(resnet_text.replace("allocate ", "allocate 9")))
    assert main(COMMAND) == 1
    out, err = capsys.readouterr()
    assert "this step did not raise that error" in out
    assert "the error is not of this step" in err


def test_status_2_for_a_text_without_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("all is well"))
    assert main(COMMAND) == 2
    assert "holds no out-of-memory error" in capsys.readouterr().err


def test_status_2_for_a_file_that_is_not_there(tmp_path, capsys):
    assert main([*COMMAND, "--message", str(tmp_path / "no.txt")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_status_2_where_the_standard_input_is_a_terminal(monkeypatch, capsys):
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(COMMAND) == 2
    assert "no message was given" in capsys.readouterr().err
