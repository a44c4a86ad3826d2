"""A real run in place of a simulated one: when it starts, when not, and what is said."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import ModelError
from torchgauge.trace.run import runs


class _Decides(nn.Module):
    """Asks for a value that nobody knows; ``copies`` of its output are what it takes."""

    def __init__(self, copies: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.copies = copies

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if not (self.linear(x[:1]) > -1e9).all():
            return [x]
        y = self.linear(x)
        return [y + index for index in range(self.copies)]


def test_a_real_run_is_announced() -> None:
    said: list[str] = []
    report = tg.analyze(_Decides(), (3, 16), on_progress=said.append)
    assert report.execution == "real"
    assert any(text.startswith("real run on the CPU") and ".item()" in text for text in said)
    assert any("run for real on the CPU" in text for text in report.assumptions)


def test_a_real_run_can_be_refused() -> None:
    with pytest.raises(ModelError) as caught:
        tg.analyze(_Decides(), (3, 16), real_run=False)
    message = str(caught.value)
    assert "_Decides failed in forward: DataDependentError: .item() needs the values" in message
    assert "test_real_run.py:" in message
    assert "a real run would know it, but is not allowed" in message
    assert "input_data=" in message


@pytest.mark.parametrize("copies", [1, 1 << 10])
def test_a_real_run_must_fit_with_its_activations(copies: int) -> None:
    rows = 1 << 31 if copies == 1 else 1 << 22
    with pytest.raises(ModelError) as caught:
        tg.analyze(_Decides(copies), (rows, 16))
    assert "a real run would need about " in str(caught.value)
    assert "use a smaller batch or input" in str(caught.value)


def test_a_real_run_is_stopped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            if (self.linear(x) == 1).all():  # where a simulation with ones goes
                return [x]
            return [x.repeat(10, 10) for _ in range(10)]

    monkeypatch.setattr(runs, "allowed_bytes", lambda: 200_000)
    model = Grows()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError, match="the real run was stopped at") as caught:
        tg.analyze(model, (16, 16))
    assert caught.value.report is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_loop_on_an_unknown_value_does_not_keep_the_estimate_busy() -> None:
    class Loops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.steps = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while (self.linear(x).sum().abs() >= 0).item():
                self.steps += 1
                if not x.is_meta and self.steps > 3:
                    break
            return x

    assert tg.analyze(Loops(), (2, 4)).execution == "real"


def test_stand_ins_for_weights_are_named() -> None:
    with tg.meta_construction():
        model = nn.Sequential(_Decides())
    report = tg.analyze(model, (3, 16))
    assert report.execution == "real"
    (text,) = [text for text in report.assumptions if "stand-ins" in text]
    assert "may differ from a trained model's (here: 0: .item() needs the values" in text
    report = tg.analyze(nn.Sequential(_Decides()), (3, 16))
    assert not any("stand-ins" in text for text in report.assumptions)


_SOURCE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = self.linear(x)
        return y * 2 if (y > 0).any() else y
"""


def test_the_command_line(tmp_path, capsys) -> None:
    path = tmp_path / "net.py"
    path.write_text(_SOURCE)
    arguments = ["summary", f"{path}:Net", "--input-size", "3,4"]
    assert main(arguments) == 0
    assert "note: real run on the CPU" in capsys.readouterr().err
    assert main([*arguments, "--quiet"]) == 0
    assert "real run" not in capsys.readouterr().err
    assert main([*arguments, "--no-real-run"]) == 3
    captured = capsys.readouterr()
    assert "a real run would know it, but is not allowed" in captured.err
    fit = ["fit", f"{path}:Net", "--input-size", "3,4", "--device", "T4", "--no-search"]
    assert main([*fit, "--no-alternatives", "--no-real-run"]) == 3
    assert "is not allowed" in capsys.readouterr().err
