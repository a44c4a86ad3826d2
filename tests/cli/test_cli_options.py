"""The values of command-line options: what is understood, and what is said of the rest."""

from __future__ import annotations

import argparse

import pytest

from torchgauge.cli import options, scenario_options
from torchgauge.errors import ScenarioError, UsageError
from torchgauge.facts.scenario import Scenario
from torchgauge.models.suggest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3,224,224", (None, (3, 224, 224))),
        ("10", (None, (10,))),
        ("10,", (None, (10,))),
        ("(3, 32, 32)", (None, (3, 32, 32))),
        ("input_ids=1,128", ("input_ids", (1, 128))),
    ],
)
def test_a_size_is_read(text, expected):
    assert options.input_size(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3,abc", "'3,abc' is not a size; write 3,224,224 or name=1,128"),
        ("", "'' is not a size; write 3,224,224 or name=1,128"),
        ("3,,224", "'3,,224' is not a size; write 3,224,224 or name=1,128"),
        (
            "3,-1",
            "'3,-1' has a negative dimension; give the size of the batch, or leave it out (3)",
        ),
        ("3x224x224", "'3x224x224' is not a size; write 3,224,224 or name=1,128"),
        ("3,0,224", "'3,0,224' has a dimension of 0; use 1 or more"),
        ("=1,2", "'' is not the name of an argument"),
        ("in put=1,2", "'in put' is not the name of an argument"),
    ],
)
def test_a_bad_size_says_how_to_write_it(text, message):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        options.input_size(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width=2", ("width", 2)),
        ("rate=1e-3", ("rate", 1e-3)),
        ("sizes=[1, 2]", ("sizes", [1, 2])),
        ("bias=False", ("bias", False)),
        ("name='a b'", ("name", "a b")),
        ("activation=gelu", ("activation", "gelu")),
        ("text_config.hidden_size=64", ("text_config.hidden_size", 64)),
        ("expression=a=b", None),
    ],
)
def test_a_setting_is_a_literal_or_a_word(text, expected):
    if expected is None:
        with pytest.raises(argparse.ArgumentTypeError, match="not a Python literal"):
            options.setting(text)
    else:
        assert options.setting(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width", "'width' is not KEY=VALUE; write width=2"),
        ("=3", "'=3' is not KEY=VALUE; write width=2"),
        ("a b=3", "'a b=3' is not KEY=VALUE; write width=2"),
        (
            "width=[1,",
            "'width=[1,': '[1,' is not a Python literal; write width=2, name='x' or sizes=[1,2]",
        ),
        (
            "width=__import__('os')",
            "\"width=__import__('os')\": \"__import__('os')\" is not a Python literal; "
            "write width=2, name='x' or sizes=[1,2]",
        ),
        ("bias=false", "'bias=false': Python writes False"),
        ("norm=null", "'norm=null': Python writes None"),
    ],
)
def test_a_bad_setting_says_how_to_write_it(text, message):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        options.setting(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "name"),
    [("torch.int64", "int64"), ("long", "int64"), ("FP16", "float16"), ("bool", "bool")],
)
def test_dtypes_have_their_usual_names(text, name):
    assert options.dtype(text) == name


def test_an_unknown_dtype_offers_the_nearest():
    with pytest.raises(argparse.ArgumentTypeError, match=r"unknown name 'flaot32'; did you mean f"):
        options.dtype("flaot32")


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("amp", "fp16-autocast or bf16-autocast"),
        ("mixed_float16", "fp16-autocast"),
        ("BF16-mixed", "bf16-autocast"),
        ("amp_bf16", "bf16-autocast"),
        ("torch.bfloat16", "bf16"),
        ("half", "fp16"),
        ("16-true", "fp16"),
        ("float32", "fp32"),
    ],
)
def test_a_precision_is_found_by_what_other_programs_call_it(said, here):
    with pytest.raises(ScenarioError, match="unknown precision") as raised:
        Scenario(precision=said)
    assert raised.value.hint == f"did you mean {here}?"
    parser = argparse.ArgumentParser(exit_on_error=False)
    scenario_options.add_scenario_options(parser)
    with pytest.raises(argparse.ArgumentError) as refused:
        parser.parse_args(["--precision", said])
    assert str(refused.value).endswith(f"unknown name '{said}'; did you mean {here}?")


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_count_is_a_positive_integer(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of 1 or more"):
        options.positive_integer(text)


# ---------------------------------------------------------------------------- combinations


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_model_options(parser)
    scenario_options.add_scenario_options(parser)
    return parser.parse_args(["model.py:Net", *arguments])


def test_one_size_is_a_tuple_several_are_a_list_named_ones_a_dict():
    one = options.inputs_from(parsed("--input-size", "3,8,8"))
    two = options.inputs_from(parsed("--input-size", "3,8,8", "--input-size", "5"))
    named = options.inputs_from(parsed("--input-size", "a=3,8", "--input-size", "b=5"))
    assert one.size == (3, 8, 8)
    assert two.size == [(3, 8, 8), (5,)]
    assert named.size == {"a": (3, 8), "b": (5,)}
    assert options.inputs_from(parsed()).size is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input-size", "a=3", "--input-size", "5"], "some --input-size have a name"),
        (["--input-size", "a=3", "--input-size", "a=5"], "--input-size a=… was given twice"),
        (
            ["--input-size", "3", "--dtype", "int64", "--dtype", "int64"],
            "2 --dtype for 1 --input-size",
        ),
    ],
)
def test_inputs_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        options.inputs_from(parsed(*arguments))


def test_a_key_set_twice_is_refused():
    with pytest.raises(UsageError, match="--set width=… was given twice"):
        options.settings_from(parsed("--set", "width=1", "--set", "width=2"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "adamw"], "optimizer='adamw' has no meaning in inference"),
        (["--loss", "mse"], "loss='mse' has no meaning in inference"),
        (["--checkpointing"], "--checkpointing has no meaning in inference"),
        (["--checkpointing-kind", "selective"], "--checkpointing-kind has no meaning in inference"),
        (["--accumulation", "2"], "--accumulation has no meaning in inference"),
    ],
)
def test_training_options_in_inference_are_refused(arguments, message):
    with pytest.raises((UsageError, ScenarioError), match=message) as caught:
        scenario_options.scenario_from(parsed(*arguments))
    assert "--mode training" in caught.value.hint


def test_every_scenario_option_arrives():
    scenario = scenario_options.scenario_from(
        parsed(
            *("--mode", "training", "--precision", "bf16", "--optimizer", "adamw"),
            *("--loss", "mse", "--checkpointing", "--accumulation", "4", "--device", "T4"),
            *("--optimizer-option", "lr=0.1", "--optimizer-option", "weight_decay=0"),
            *("--optimizer-implementation", "fused", "--zero-grad", "before-backward"),
            *("--clip-gradients", "--ema", "--channels-last", "--cudnn-benchmark", "--first-step"),
            *("--offload-activations", "--compiled", "--other-programs", "1.5GiB"),
            *("--allocator", "expandable_segments:True", "--torch-release", "2.6"),
            *("--attn-implementation", "eager"),
        )
    )
    assert scenario.to_dict() == {
        "mode": "training",
        "device": "T4",
        "precision": "bf16",
        "optimizer": "adamw",
        "loss": "mse",
        "checkpointing": True,
        "accumulation": 4,
        "optimizer_options": {"lr": 0.1, "weight_decay": 0},
        "optimizer_implementation": "fused",
        "zero_grad": "before-backward",
        "gradient_clipping": True,
        "offload_activations": True,
        "ema": True,
        "channels_last": True,
        "cudnn_benchmark": True,
        "first_step": True,
        "compiled": True,
        "allocator": "expandable_segments:True",
        "torch_release": "2.6",
        "attn_implementation": "eager",
        "grad_enabled": False,
        "other_programs_bytes": 3 << 29,
    }


def test_an_inference_with_gradients_is_asked_for():
    assert scenario_options.scenario_from(parsed("--grad-enabled")).grad_enabled
    with pytest.raises(ScenarioError, match="grad_enabled=True has no meaning in training"):
        scenario_options.scenario_from(parsed("--grad-enabled", "--mode", "training"))


@pytest.mark.parametrize("size", ["-1GiB", "much", ""])
def test_a_size_of_other_programs_is_a_number_of_bytes(capsys, size):
    with pytest.raises(SystemExit):
        parsed(f"--other-programs={size}")
    assert "not a number of bytes" in capsys.readouterr().err


def test_a_kind_of_checkpointing_is_checkpointing():
    given = parsed("--mode", "training", "--checkpointing-kind", "selective")
    assert scenario_options.scenario_from(given).checkpointing == "selective"


def test_an_optimizer_option_given_twice_is_refused():
    twice = ("--optimizer-option", "lr=1", "--optimizer-option", "lr=2")
    with pytest.raises(UsageError, match=r"--optimizer-option lr=… was given twice"):
        scenario_options.scenario_from(parsed("--mode", "training", *twice))


# ---------------------------------------------------------------------------- suggestions


def test_the_nearest_names_come_first_and_case_does_not_matter():
    assert nearest("ResNet5O", ["resnet18", "resnet50", "vgg16"])[0] == "resnet50"
    assert nearest("llama", ["CodeLlama"]) == ["CodeLlama"]
    assert nearest("net", ["mynetwork", "nets"]) == ["nets", "mynetwork"]
    assert nearest("zzz", ["resnet50"]) == []
    assert did_you_mean("ab", ["abc", "xyz"]) == "did you mean abc?"
