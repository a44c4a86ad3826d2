"""Budgets as they are written: the file, its keys, its limits and its lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchgauge.budget.config import find_config, read_config
from torchgauge.budget.limits import limit_from
from torchgauge.cli.budget_options import budgets_from
from torchgauge.errors import UsageError
from torchgauge.facts.scenario import Checkpointing

WHOLE = """\
[project]
name = "x"
max-params = 3

[tool.torchgauge]
precision = "bf16-autocast"
baselines = "baselines"
nothing-uncounted = true

[tool.torchgauge.models.resnet]
spec = "net.py:Net"
input-size = [3, 224, 224]
batch-size = 64
set = { width = 2, kind = "deep", sizes = [1, 2] }
mode = "training"
optimizer = "adamw"
optimizer-option = { weight_decay = 0.01 }
checkpointing-kind = "reentrant"
no-real-run = true
other-programs = "1.2 GiB"
fits = ["T4", "A10"]
max-params = "baseline + 2 %"  # as it was

# a comment
[tool.torchgauge.models."two words"]
spec = "net.py:two"
input-size = { x = "1,8", "mask" = [1, 8] }
dtype = ["int64", "bool"]
precision = "fp32"
nothing-uncounted = false
max-macs = 4000

[tool.other]
max-params = 1
"""


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_whole(tmp_path):
    read = read_config(config(tmp_path, WHOLE))
    first, second = budgets_from(read)

    assert first.request.spec == "net.py:Net"
    assert dict(first.request.settings) == {"width": 2, "kind": "deep", "sizes": [1, 2]}
    assert first.request.inputs.size == (3, 224, 224)
    assert first.request.inputs.batch_size == 64
    scenario = first.request.scenario
    assert (scenario.mode, scenario.optimizer) == ("training", "adamw")
    assert dict(scenario.optimizer_options) == {"weight_decay": 0.01}
    assert scenario.checkpointing is Checkpointing.REENTRANT
    assert scenario.precision == "bf16-autocast"  # of all models
    assert scenario.other_programs_bytes == 1288490189
    assert scenario.device == "T4"  # the first that it must fit into
    assert not first.request.real_run
    assert first.devices == ("T4", "A10")
    assert first.baseline == tmp_path / "baselines" / "resnet.json"
    assert [(limit.key, limit.line) for limit in first.limits] == [
        ("max-params", 22), ("fits", 21), ("nothing-uncounted", 8),
    ]  # fmt: skip

    assert second.name == "two words"
    assert second.request.inputs.size == {"x": (1, 8), "mask": (1, 8)}
    assert second.request.inputs.dtypes == ["int64", "bool"]
    assert second.request.scenario.precision == "fp32"
    assert second.request.scenario.device == "cpu"
    assert [(limit.key, limit.line, limit.amount) for limit in second.limits] == [
        ("max-macs", 31, 4000)
    ]
    assert (first.line, second.line) == (10, 25)


def test_models_are_chosen_by_name(tmp_path):
    read = read_config(config(tmp_path, WHOLE))
    assert [budget.name for budget in budgets_from(read, ["two words"])] == ["two words"]
    with pytest.raises(UsageError, match=r"pyproject.toml has no model 'resnt'") as caught:
        budgets_from(read, ["resnt"])
    assert caught.value.hint == "did you mean resnet?"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("max-parms = 3", "the key 'max-parms' is not known", "did you mean max-params"),
        ("batchsize = 3", "the key 'batchsize' is not known", "did you mean batch-size"),
        ("baselines = 'x'", "'baselines' is a key of all models", "move it to [tool.torchgauge]"),
        ("max-params = true", "max-params = True is not a limit", 'write "5 M"'),
        ("max-params = 'few'", "max-params: not a count: 'few'", "baseline + 2 %"),
        ("max-params = -1", "max-params = -1 is not a limit", 'write "5 M"'),
        ("peak-memory = 'base'", "peak-memory: not a number of bytes", 'write "8 GiB"'),
        ("step-time = '3 min'", "step-time: not a time: '3 min'", 'write "20 ms"'),
        ("max-macs = 'baseline + x'", "max-macs: not a count: 'x'", 'write "5 M"'),
        ("fits = 4", "fits = 4 is neither the name of a device", "torchgauge devices"),
        ("nothing-uncounted = 1", "nothing-uncounted = 1 is neither true nor false", "write true"),
        ("checkpointing = 'yes'", "checkpointing = 'yes' is neither true nor false", "write true"),
        ("set = 3", "set = 3 is not a table", "write set = { width = 2 }"),
        ("precision = 'bf17'", "precision: unknown name 'bf17'", ""),
        ("input-size = '3,x'", "input-size: '3,x' is not a size", ""),
        ("optimizer = 'adamw'", "optimizer", ""),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, line, message, hint):
    path = config(tmp_path, f'[tool.torchgauge.models.net]\nspec = "net.py:Net"\n{line}\n')
    with pytest.raises(UsageError) as caught:
        budgets_from(read_config(path))
    text = caught.value.message
    assert text.startswith("pyproject.toml, [tool.torchgauge.models.net]: ")
    assert message in text
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "pyproject.toml holds no budget"),
        ("[tool.torchgauge.models]\nnet = 3", "'net' in [tool.torchgauge.models] is not a table"),
        ("[tool.torchgauge.models.net]\nmax-params = 3", "there is no spec"),
        ("a = ", "is not TOML: "),
        ("[tool.torchgauge]\nbaselines = 3\n[tool.torchgauge.models.a]\nspec = 'a'",
         "baselines is not text"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_right(tmp_path, text, message):
    with pytest.raises(UsageError) as caught:
        budgets_from(read_config(config(tmp_path, text)))
    assert message in caught.value.message


def test_the_nearest_file_with_budgets_counts(tmp_path):
    config(tmp_path, WHOLE)
    within = tmp_path / "a" / "b"
    within.mkdir(parents=True)
    config(tmp_path / "a", "[project]\nname = 'inner'")
    assert find_config(within) == tmp_path / "pyproject.toml"
    with pytest.raises(UsageError, match=r"no pyproject\.toml here or above holds a budget"):
        find_config(Path("/"))


@pytest.mark.parametrize(
    ("key", "written", "baseline", "limit"),
    [
        ("max-params", "25.6M", None, 25_600_000),
        ("max-params", 12, None, 12),
        ("max-macs", "4 G", None, 4e9),
        ("peak-memory", "8 GiB", None, 8 * 2**30),
        ("step-time", "1.5 s", None, 1500),
        ("step-time", "300 µs", None, 0.3),
        ("max-params", "baseline", 100, 100),
        ("max-params", "Baseline + 2 %", 100, 102),
        ("max-params", "baseline - 5%", 100, 95),
        ("max-params", "baseline − 5", 100, 95),
        ("peak-memory", "baseline + 1 KiB", 1024, 2048),
        ("step-time", "baseline+10%", 20.0, 22.0),
    ],
)
def test_limits_as_they_are_written(key, written, baseline, limit):
    assert limit_from(key, written, 1).limit(baseline) == pytest.approx(limit)
