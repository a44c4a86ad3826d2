"""``get_model_complexity_info``: true figures, both layouts, every argument."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torchgauge.compat.ptflops import (
    FLOPS_BACKEND,
    flops_to_string,
    get_model_complexity_info,
    params_to_string,
)
from torchgauge.compat.ptflops import flops_counter as flops_counter_module
from torchgauge.compat.ptflops import utils as utils_module
from untouched import Moody, fingerprint, same

Golden = Callable[[str, str], None]
Printed = pytest.CaptureFixture[str]
aten = torch.ops.aten
BACKENDS = ("pytorch", "aten")


def numbers(model: nn.Module, input_res: Any, **settings: Any) -> tuple[Any, Any]:
    settings = {"as_strings": False, "print_per_layer_stat": False, **settings}
    return get_model_complexity_info(model, input_res, **settings)


def printed(model: nn.Module, input_res: Any, **settings: Any) -> str:
    stream = io.StringIO()
    get_model_complexity_info(model, input_res, ost=stream, **settings)
    return stream.getvalue()


def example() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(8), nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.Linear(8192, 10)),
    )  # fmt: skip


class CustomLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


class Tied(nn.Module):
    """A layer under two names, a parameter of its own, a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.scale = nn.Parameter(torch.ones(4))
        self.unused = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.again(self.first(x)) * self.scale) @ self.first.weight


# ------------------------------------------------------------------------ true figures


@pytest.mark.parametrize("backend", BACKENDS)
def test_facts_of_the_original_tests(backend: str) -> None:
    """ptflops, tests/common_test.py, without the additions of biases, which are no MACs."""
    convolution = nn.Sequential(nn.Conv2d(3, 2, 3, bias=True))
    macs, params = numbers(convolution, (3, 224, 224), backend=backend)
    assert params == 3 * 3 * 2 * 3 + 2
    assert macs == 2_759_904 - 2 * 222 * 222
    linear = nn.Sequential(nn.Linear(3, 2, bias=True))
    assert numbers(linear, (3,), backend=backend) == (8 - 2, 8)
    assert numbers(linear, (4, 5, 3), backend=backend) == ((8 - 2) * 4 * 5, 8)
    transposed = nn.Sequential(nn.ConvTranspose2d(3, 2, 3, bias=False))
    macs, params = numbers(transposed, (3, 224, 224), backend=backend)
    assert (macs, params) == (3 * 3 * 2 * 3 * 224 * 224, 54)


TOKENS = (128, 64)


class Attention(nn.Module):
    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(64, 192), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, 4, 16).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, length, 64))


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: torch.Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, x, x)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


def half_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    model[0].requires_grad_(False)
    return model


def words() -> nn.Module:
    return nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 64))


TRUE_FIGURES = {
    "attention": (Attention, TOKENS, 4_194_304, 16_640),
    "multi-head": (lambda: SelfAttention(64, 4, batch_first=True), TOKENS, 4_194_304, 16_640),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(64, 4, 256, batch_first=True),
        TOKENS, 8_388_608, 49_984,
    ),
    "lstm": (lambda: nn.LSTM(64, 128, 2, batch_first=True), TOKENS, 29_360_128, 231_424),
    "transposed": (lambda: nn.ConvTranspose2d(3, 8, 4, 2, 1), (3, 224, 224), 19_267_584, 392),
    "bare parameter": (Bare, (64,), 4_096, 4_096),
    "half frozen": (half_frozen, (64,), 8_192, 8_192),
    "embedding": (words, (128,), 524_288, 68_160),
}  # fmt: skip
"""Where ptflops is wrong, gives 0 or fails (survey of peers), with closed forms."""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", TRUE_FIGURES)
def test_true_figures(case: str, backend: str) -> None:
    build, input_res, macs, params = TRUE_FIGURES[case]
    assert numbers(build(), input_res, backend=backend) == (macs, params)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_model_is_left_as_it_was(backend: str, fails: bool, capsys: Printed) -> None:
    """The original calls ``eval()``, adds hooks and, with ``aten``, leaves them there."""
    model = Moody(RuntimeError if fails else None).train()
    before = fingerprint(model)
    hooks = {nn.Conv2d: lambda module, args, output: setattr(module, "__flops__", 1)}
    result = numbers(
        model, (3, 8, 8), backend=backend, print_per_layer_stat=True, custom_modules_hooks=hooks
    )
    assert (result == (None, None)) is fails
    assert same(before, fingerprint(model))


# ------------------------------------------------------------------------ layouts


def test_the_annotated_model(golden: Golden) -> None:
    golden("compat/ptflops_pytorch.txt", printed(example(), (3, 32, 32)).rstrip("\n"))


def test_operators_of_the_children(golden: Golden) -> None:
    text = printed(example(), (3, 32, 32), backend="aten")
    golden("compat/ptflops_aten.txt", text.rstrip("\n"))


def test_tied_layers_and_parameters_without_a_layer(golden: Golden) -> None:
    golden("compat/ptflops_tied.txt", printed(Tied(), (4,)).rstrip("\n"))


FIGURES = re.compile(r"(?:\(| {2,})(\d+), [\d.]+% Params, ([\d.]+) Mac,")


@pytest.mark.parametrize("build", [Tied, example, CustomLinear, Attention])
def test_rows_sum_to_the_totals(build: Callable[[], nn.Module]) -> None:
    """Leaves, and what containers own and compute themselves."""
    size = {Tied: (4,), example: (3, 32, 32), CustomLinear: (3,), Attention: (16, 64)}[build]
    model = build()
    macs, params = numbers(model, size)
    text = printed(model, size, flops_units="Mac", param_units="")
    rows = [
        (len(line) - len(line.lstrip()) - ("(" not in line.split(",")[0]) * 2, *map(float, found))
        for line in text.splitlines()
        for found in FIGURES.findall(line)
    ]
    own_params = own_macs = 0.0
    for index, (level, row_params, row_macs) in enumerate(rows):
        below = []
        for inner, inner_params, inner_macs in rows[index + 1 :]:
            if inner <= level:
                break
            if inner == level + 2:
                below.append((inner_params, inner_macs))
        own_params += row_params - sum(p for p, _ in below)
        own_macs += row_macs - sum(m for _, m in below)
    assert rows[0][1:] == (params, macs)
    assert (own_params, own_macs) == (params, macs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_operators_sum_to_the_total(backend: str) -> None:
    text = printed(Attention(), TOKENS, backend="aten", flops_units="Mac")
    block = text.split("Module:  Global\n")[1].split("\n\n")[0]
    macs = sum(int(line.split(": ")[1].removesuffix(" Mac")) for line in block.splitlines())
    assert macs == numbers(Attention(), TOKENS, backend=backend)[0] == 4_194_304


# ------------------------------------------------------------------------ arguments


def test_print_per_layer_stat(capsys: Printed) -> None:
    get_model_complexity_info(example(), (3, 32, 32))
    assert capsys.readouterr().out.startswith("Sequential(\n  82.16 k, 100.000% Params, ")
    for backend in BACKENDS:
        get_model_complexity_info(example(), (3, 32, 32), False, backend=backend)
        assert capsys.readouterr().out == ""


def test_as_strings() -> None:
    settings: Any = {"print_per_layer_stat": False}
    as_text = get_model_complexity_info(example(), (3, 32, 32), **settings)
    as_numbers = get_model_complexity_info(example(), (3, 32, 32), as_strings=False, **settings)
    assert as_text == ("303.1 KMac", "82.16 k")
    assert as_numbers == (27 * 8 * 1024 + 81_920, 224 + 8 + 81_930)


def test_units_and_precision() -> None:
    settings: Any = {"print_per_layer_stat": False, "output_precision": 4}
    units = {"flops_units": "MMac", "param_units": "M"}
    result = get_model_complexity_info(example(), (3, 32, 32), **settings, **units)
    assert result == ("0.3031 MMac", "0.0822 M")
    text = printed(example(), (3, 32, 32), output_precision=1, flops_units="GMac", param_units="K")
    assert "0.2 K, 0.273% Params, 0.0 GMac, 72.973% MACs, 3, 8, kernel_size=(3, 3)" in text


def test_ost(capsys: Printed) -> None:
    assert "Conv2d" in printed(example(), (3, 32, 32))
    assert "convolution" in printed(example(), (3, 32, 32), backend="aten")
    assert capsys.readouterr().out == ""


def test_verbose_names_what_does_not_contribute() -> None:
    quiet = printed(example(), (3, 32, 32), print_per_layer_stat=False)
    assert quiet == ""
    lines = printed(example(), (3, 32, 32), print_per_layer_stat=False, verbose=True).splitlines()
    assert lines == [
        f"Warning: module {name} is treated as a zero-op." for name in ("Flatten", "ReLU", "PReLU")
    ]
    operators = printed(
        example(), (3, 32, 32), print_per_layer_stat=False, verbose=True, backend="aten"
    )
    assert "Warning: aten.relu operation is treated as a zero-op\n" in operators


def test_input_constructor_returns_a_tensor() -> None:
    def input_constructor(input_res: tuple[int, ...]) -> torch.Tensor:
        return torch.ones(()).new_empty((1, *input_res))

    net = nn.Sequential(nn.Linear(3, 2, bias=True))
    assert numbers(net, (3,), input_constructor=input_constructor) == (6, 8)


def test_input_constructor_returns_keyword_arguments() -> None:
    def input_constructor(input_res: tuple[int, ...]) -> dict[str, Any]:
        return {"x": torch.ones(()).new_empty((1, *input_res))}

    assert numbers(CustomLinear(), (3,), input_constructor=input_constructor) == (6, 8)


class Sentence(nn.Module):
    """The inputs of a BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(100, 16), nn.Embedding(2, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(
        self, *, input_ids: Any, token_type_ids: Any, attention_mask: Any, labels: Any = None
    ) -> torch.Tensor:
        hidden = self.words(input_ids) + self.types(token_type_ids)
        return self.layer(hidden, src_key_padding_mask=attention_mask == 0)


def test_input_constructor_of_the_original_bert_sample() -> None:
    """ptflops, samples/bert.py: token ids, masks and labels by name."""

    def bert_input_constructor(input_shape: tuple[int, ...]) -> dict[str, Any]:
        tokens = torch.ones(input_shape, dtype=torch.long)
        return {
            "input_ids": tokens, "token_type_ids": tokens * 0, "attention_mask": tokens,
            "labels": torch.tensor([1] * input_shape[0]),
        }  # fmt: skip

    macs, params = numbers(Sentence(), (2, 12), input_constructor=bert_input_constructor)
    per_token = 4 * 16 * 16 + 2 * 16 * 32
    assert macs == 2 * 12 * per_token + 2 * 2 * 12 * 12 * 16
    assert params == sum(p.numel() for p in Sentence().parameters())


def test_a_batch_counts_once_per_sample_with_the_pytorch_backend() -> None:
    def four(input_res: tuple[int, ...]) -> torch.Tensor:
        return torch.ones(4, *input_res)

    net = nn.Linear(3, 2)
    assert numbers(net, (3,), input_constructor=four) == (6, 8)
    assert numbers(net, (3,), input_constructor=four, backend="aten") == (24, 8)
    assert "6.0 Mac, 100.000% MACs" in printed(net, (3,), input_constructor=four)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ignored_modules_and_operators(backend: str) -> None:
    convolution = 27 * 8 * 1024
    everything = numbers(example(), (3, 32, 32), backend=backend)[0]
    for ignored in ([nn.Conv2d], [aten.convolution, aten._convolution]):
        macs, params = numbers(example(), (3, 32, 32), ignore_modules=ignored, backend=backend)
        assert macs == everything - convolution == 81_920
        assert params == 224 + 8 + 81_930
    exact = numbers(example(), (3, 32, 32), ignore_modules=[nn.modules.conv._ConvNd])[0]
    assert exact == everything


def test_ignored_operators_are_named() -> None:
    text = printed(example(), (3, 32, 32), ignore_modules=[aten.convolution], backend="aten")
    assert text.startswith("Warning: aten.convolution operation is ignored\nTotal:81.92 KMac\n")


def test_a_hook_stands_in_place_of_what_runs_inside() -> None:
    """ptflops' own form: the hook adds to ``module.__flops__``."""
    seen: list[Any] = []

    def hook(module: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        seen.append((type(module), inputs[0].shape, output.shape, module.__params__))
        module.__flops__ += int(output.shape.numel()) * 100

    model = nn.Sequential(CustomLinear(), nn.Linear(2, 2))
    macs, params = numbers(model, (3,), custom_modules_hooks={CustomLinear: hook})
    assert (macs, params) == (200 + 4, 14)
    assert seen == [(CustomLinear, (1, 3), (1, 2), 8)]
    text = printed(model, (3,), custom_modules_hooks={CustomLinear: hook})
    assert "(0): CustomLinear(\n    8, 57.143% Params, 200.0 Mac, 98.039% MACs, \n" in text
    assert "(linear): Linear(8, 57.143% Params, 0.0 Mac, 0.000% MACs, " in text
    assert not any("__flops__" in module.__dict__ for module in model.modules())


def test_hooks_count_every_call_and_the_outermost_alone() -> None:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        module.__flops__ += 10

    shared = nn.Linear(4, 4)
    twice = nn.Sequential(shared, shared)
    assert numbers(twice, (4,), custom_modules_hooks={nn.Linear: hook})[0] == 20
    nested = nn.Sequential(CustomLinear(), nn.Linear(2, 2))
    both = {CustomLinear: hook, nn.Linear: hook}
    assert numbers(nested, (3,), custom_modules_hooks=both)[0] == 20


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_for_an_operator(backend: str) -> None:
    """ptflops, tests/common_test.py, aten_custom."""
    reference = numbers(example(), (3, 32, 32), backend=backend)[0]

    def relu(inputs: list[Any], outputs: tuple[Any, ...]) -> int:
        assert inputs[0].shape == outputs[0].shape == (1, 8, 32, 32)
        return 1000

    macs = numbers(example(), (3, 32, 32), custom_modules_hooks={aten.relu: relu}, backend=backend)
    assert macs[0] == reference + 1000


def test_backends_by_name_and_by_member() -> None:
    by_name = printed(example(), (3, 32, 32), backend="aten")
    assert by_name == printed(example(), (3, 32, 32), backend=FLOPS_BACKEND.ATEN)
    assert by_name.startswith("Total:303.1 KMac\nModule:  Global\n")
    layers = printed(example(), (3, 32, 32), backend=FLOPS_BACKEND.PYTORCH)
    assert layers == printed(example(), (3, 32, 32))
    with pytest.raises(ValueError, match="'jax' is not a valid FLOPS_BACKEND"):
        numbers(example(), (3, 32, 32), backend="jax")


def test_functional_operators_can_be_left_out() -> None:
    settings: Any = {"backend_specific_config": {"count_functional": False}}
    assert numbers(Bare(), (64,), **settings)[0] == 0
    assert numbers(Bare(), (64,))[0] == 4_096
    model = Attention()
    functional = 2 * 128 * 128 * 64
    assert numbers(model, TOKENS, **settings)[0] == 4_194_304 - functional
    assert numbers(model, TOKENS, backend="aten", **settings)[0] == 4_194_304


# ------------------------------------------------------------------------ failures


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failure_is_printed_with_the_layer(backend: str, capsys: Printed) -> None:
    result = get_model_complexity_info(example(), (3, 16, 16), backend=backend)
    assert result == (None, None)
    out, err = capsys.readouterr()
    assert (
        "Flops estimation was not finished successfully because of the following exception: \n"
        "<class 'torchgauge.errors.ModelError'>: 3.1 (Linear) failed in forward: RuntimeError: "
    ) in out
    assert "it got: input [1, 2048] float32" in out
    assert "Traceback" in err


def test_arguments_of_a_wrong_kind() -> None:
    with pytest.raises(AssertionError, match=r"a str is not a torch\.nn\.Module"):
        numbers("resnet18", (3, 32, 32))  # type: ignore[arg-type]
    for size in ((), 3):
        with pytest.raises(AssertionError, match="input_res is the size of the input"):
            numbers(example(), size)


def test_a_list_works_as_a_size() -> None:
    assert numbers(example(), [3, 32, 32]) == numbers(example(), (3, 32, 32))


# ------------------------------------------------------------------------ text


def test_flops_as_text() -> None:
    values = (0, 999, 1000, 1_500_000, 4_089_184_256, 5e12)
    assert [flops_to_string(value) for value in values] == [
        "0 Mac", "999 Mac", "1.0 KMac", "1.5 MMac", "4.09 GMac", "5000.0 GMac",
    ]  # fmt: skip
    assert [flops_to_string(1_234_567, unit) for unit in ("GMac", "MMac", "KMac", "Mac")] == [
        "0.0 GMac", "1.23 MMac", "1234.57 KMac", "1234567 Mac",
    ]  # fmt: skip
    assert flops_to_string(1_234_567, precision=4) == "1.2346 MMac"


def test_params_as_text() -> None:
    values = (0, 999, 1000, 25_557_032, 70_000_000_000)
    assert [params_to_string(value) for value in values] == [
        "0", "999", "1.0 k", "25.56 M", "70000.0 M",
    ]  # fmt: skip
    assert [params_to_string(25_557_032, unit) for unit in ("B", "M", "K", "")] == [
        "0.03 B", "25.56 M", "25557.03 K", "25557032",
    ]  # fmt: skip
    assert params_to_string(25_557_032, precision=3) == "25.557 M"


def test_names_of_submodules() -> None:
    assert flops_counter_module.get_model_complexity_info is get_model_complexity_info
    assert utils_module.flops_to_string is flops_to_string


def test_the_example_of_the_readme(capsys: Printed) -> None:
    """ptflops, README.md, "Example", on a small model."""
    net = example()
    for backend in BACKENDS:
        macs, params = get_model_complexity_info(
            net, (3, 32, 32), as_strings=True, backend=backend,
            print_per_layer_stat=True, verbose=True,
        )  # fmt: skip
        print("{:<30}  {:<8}".format("Computational complexity: ", macs))
        print("{:<30}  {:<8}".format("Number of parameters: ", params))
    out = capsys.readouterr().out
    assert out.count("Computational complexity:       303.1 KMac\n") == 2
    assert out.count("Number of parameters:           82.16 k \n") == 2


def test_a_copy_of_the_model_gives_the_same() -> None:
    model = example()
    assert numbers(copy.deepcopy(model), (3, 32, 32)) == numbers(model, (3, 32, 32))
