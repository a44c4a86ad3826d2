"""Models in any state: meta, half, lazy, frozen, compiled, scripted, exported, packed, hooked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import UsageError


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


PARAMS, MACS = 4 * 8 + 8 + 8 * 2 + 2, 3 * (4 * 8 + 8 * 2)


def in_half() -> nn.Module:
    return plain().half()


def on_meta() -> nn.Module:
    with tg.meta_construction():
        return plain()


def compiled() -> Any:
    return torch.compile(plain())


def compiled_in_place() -> nn.Module:
    model = plain()
    model.compile()
    return model


def exported() -> nn.Module:
    return torch.export.export(plain(), (torch.zeros(3, 4),)).module()


def scripted() -> nn.Module:
    return torch.jit.script(plain())  # type: ignore[no-any-return]


def data_parallel() -> nn.Module:
    return nn.DataParallel(plain())


@pytest.mark.parametrize(
    "build", [plain, in_half, on_meta, compiled, compiled_in_place, exported, scripted,
              data_parallel], ids=lambda build: build.__name__
)  # fmt: skip
def test_counts_are_the_same_in_every_state(build: Callable[[], nn.Module]) -> None:
    report = tg.analyze(build(), (3, 4))
    assert (report.totals.params, report.totals.forward_macs) == (PARAMS, MACS)
    assert report.not_counted == () == report.warnings


def test_half_precision_shows_in_dtype_and_bytes() -> None:
    for report in (
        tg.analyze(in_half(), (3, 4)),
        tg.analyze(plain(), (3, 4), scenario=tg.Scenario(precision="fp16")),
    ):
        assert report.totals.param_bytes == 2 * PARAMS
        assert report.outputs[0].tensor is not None
        assert report.outputs[0].tensor.dtype == report.inputs[0].tensor.dtype == "float16"  # type: ignore[union-attr]


def test_scripted_modules_are_listed_and_it_is_said() -> None:
    report = tg.analyze(scripted(), (3, 4))
    assert report.modules["0"].type == "Linear" and report.execution == "real"
    assert any("scripted" in text for text in report.assumptions)
    structure = tg.analyze(scripted())
    assert structure.totals.params == PARAMS and structure.memory is None


def test_frozen_scripts_have_no_parameters_and_it_is_said() -> None:
    def frozen() -> nn.Module:
        return torch.jit.freeze(scripted().eval())  # type: ignore[no-untyped-call,no-any-return]

    report = tg.analyze(frozen(), (3, 4))
    assert (report.totals.params, report.totals.forward_macs) == (0, MACS)
    assert any("frozen by torch.jit.freeze" in text for text in report.assumptions)
    with pytest.raises(UsageError, match=r"frozen by torch\.jit\.freeze"):
        tg.analyze(frozen(), (3, 4), scenario=tg.Scenario(mode="training"))


def test_training_of_traced_models() -> None:
    traced = torch.jit.trace(plain(), torch.zeros(3, 4))
    for model in (traced, nn.Sequential(traced, nn.Linear(2, 5))):
        report = tg.analyze(model, (3, 4), scenario=tg.Scenario(mode="training"))
        assert report.totals.backward_flops > 0


def test_a_scripted_part_inside() -> None:
    report = tg.analyze(nn.Sequential(scripted(), nn.Linear(2, 5)), (3, 4))
    assert report.totals.forward_macs == MACS + 3 * 2 * 5


def test_lazy_modules_get_their_shapes_from_the_run() -> None:
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    report = tg.analyze(model, (3, 8, 8))
    assert report.totals.params == 8 * 27 + 8 + 16 + 8 * 36 * 2 + 2
    assert all(p.is_lazy for p in report.modules["0"].own_parameters)
    assert isinstance(model[0].weight, nn.UninitializedParameter)
    assert tg.analyze(model).totals.params == 0
    assert report.memory is not None
    assert report.memory.parameter_bytes == 4 * report.totals.params


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_quantized_weights_count_logically_and_in_bytes() -> None:
    model = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
        nn.Sequential(nn.Linear(64, 32), nn.ReLU()), {nn.Linear}
    )
    report = tg.analyze(model, (3, 64))
    assert report.totals.params == 64 * 32 + 32
    assert report.totals.param_bytes == 64 * 32 + 4 * 32
    assert report.totals.forward_macs == 3 * 64 * 32


def test_four_bit_layout_of_gptq() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = 64, 32
            self.register_buffer("qweight", torch.zeros(64 // 8, 32, dtype=torch.int32))
            self.register_buffer("scales", torch.zeros(1, 32, dtype=torch.float16))

    report = tg.analyze(Packed())
    assert (report.totals.params, report.totals.param_bytes) == (64 * 32, 64 * 32 // 2)
    assert report.totals.buffers == 32


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("table", torch.zeros(5))
        self.spare = nn.Linear(7, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.again(self.first(x))) * self.scale.sum()


def test_shared_bare_and_unused_parameters() -> None:
    report = tg.analyze(Shared(), (2, 4))
    modules = report.modules
    assert report.totals.params == 20 + 4 + 3 + 56
    assert modules["again"].shared_with == "first"
    assert modules["tied"].own_parameters[0].shared_with == "first.weight"
    assert (modules["tied"].own_params, modules["tied"].params) == (4, 20)
    assert len(modules["first"].calls) == 2 and modules["first"].macs == 2 * 2 * 16
    assert report.totals.buffers == 5 and report.totals.buffer_bytes == 20
    assert [entry.op for entry in report.not_counted] == ["spare"]
    assert "never called; its 56 parameters" in report.not_counted[0].why
    assert [p.name for p in modules[""].own_parameters] == ["scale", "table"]


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_parameters_that_are_not_registered_are_named(mode: str) -> None:
    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.rest = [nn.Linear(4, 4) for _ in range(2)]
            self.again = [self.first]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rest[1](self.rest[0](self.first(x)))

    report = tg.analyze(Hiding(), (2, 4), scenario=tg.Scenario(mode=mode))
    assert report.totals.params == 20 and report.totals.forward_macs == 3 * 2 * 4 * 4
    assert report.memory is not None and report.memory.parameter_bytes == 3 * 20 * 4
    (warning,) = report.warnings
    assert warning.startswith("4 parameters (40 elements) are held by the model but not registered")


_SEEN: list[int] = []
"""Identities of what a hook has seen. Global, because what a hook holds on to is copied with it."""


def test_hooks_run_but_on_the_copy() -> None:
    model, seen = plain(), _SEEN
    seen.clear()
    model[0].register_forward_hook(lambda module, args, output: _SEEN.append(id(module)))
    model[2].register_forward_hook(lambda module, args, output: torch.cat([output, output], 1))
    report = tg.analyze(model, (3, 4))
    assert report.outputs[0].tensor is not None and report.outputs[0].tensor.shape == (3, 4)
    assert seen and seen[0] != id(model[0])


def test_reparametrized_layers() -> None:
    model = nn.Sequential(
        torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
    )
    before = copy.deepcopy(model.state_dict())
    report = tg.analyze(model, (2, 4), scenario=tg.Scenario(mode="training"))
    assert report.modules["0"].macs == report.modules["1"].macs - 2 * 16 + 0 or report.totals.params
    assert report.totals.params == sum(p.numel() for p in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_models_that_name_an_accelerator() -> None:
    class Cuda(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.cuda() + torch.zeros(4, device="cuda")

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here: the model runs as it is")
    report = tg.analyze(Cuda(), (2, 4))
    assert report.execution == "simulated"
    assert any("names an accelerator" in text for text in report.assumptions)


def test_control_flow_on_values_runs_for_real_and_says_so() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            return y[y > -1e9].view(-1, 4) if y.sum() > -1e9 else y

    report = tg.analyze(Branch(), (3, 4))
    assert report.execution == "real" and report.totals.forward_macs == 3 * 16
    assert any("run for real on the CPU" in text for text in report.assumptions)


def test_compiled_functions_inside_are_run_as_written() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.compile(nn.Linear(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.compile(lambda y: y * 2)(self.linear(x))

    report = tg.analyze(Inner(), (3, 4))
    assert report.totals.forward_macs == 3 * 16
    assert report.modules["linear"].type == "Linear"


def test_a_call_per_execution() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(10):
                x = self.cell(x)
            return x

    report = tg.analyze(Loop(), (2, 4))
    assert len(report.modules["cell"].calls) == 10
    assert report.modules["cell"].macs == 10 * 2 * 16
