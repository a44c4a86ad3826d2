"""What a person reads in Chinese, and what programs read: the same as ever."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from torchgauge import language
from torchgauge.cli.commands import COMMANDS
from torchgauge.cli.main import main
from torchgauge.cli.messages import language_of

ROOT = Path(__file__).parents[2]
SUMMARY = ["summary", "examples/simple_cnn.py:SimpleCNN", "--input-size", "3,224,224"]
NAMES = set(
    """
    SimpleCNN x float32 B features classifier Sequential Conv2d ReLU MaxPool2d Linear
    MACs MAC GMACs FLOPs FLOP GFLOPs MFLOPs KiB MiB GiB G M torchgauge advise
    """.split()  # noqa: SIM905  # a list to read
)
"""Names of this model and its layers, dtypes, units, and a command."""


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")


def run(arguments, capsys):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# ---------------------------------------------------------------------------- what people read


def test_a_summary_in_chinese(capsys, golden):
    status, text, notes = run([*SUMMARY, "--lang", "zh", "--width", "80"], capsys)
    assert (status, notes) == (0, "")
    golden("summary_zh.txt", text.rstrip("\n"))
    assert max(map(cell_len, text.splitlines())) <= 80
    assert not {word for word in re.findall(r"[A-Za-z]\w*", text) if word not in NAMES}


def test_columns_stand_below_each_other_in_cells(capsys):
    _, text, _ = run([*SUMMARY, "--lang", "zh", "--width", "80"], capsys)
    rows = [line for line in text.splitlines() if re.search(r"(Conv2d|ReLU|Linear|层  )", line)]
    rule = next(line for line in text.splitlines() if line.startswith(" ──"))
    table = [line for line in rows if cell_len(line) == cell_len(rule)]
    assert len(table) == 6  # the titles and five layers, all flush right
    assert len({cell_len(line[: line.index("[")]) for line in table[1:]}) == 1


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_in_chinese(command, capsys):
    arguments = [command] if command else []
    status, text, _ = run([*arguments, "--help", "--lang", "zh"], capsys)
    assert status == 0
    assert text.startswith("用法：torchgauge")
    assert max(map(cell_len, text.splitlines())) <= 80
    body = re.sub("\n  torchgauge .*", "", text[text.index("\n\n") :])  # but for the example
    assert not re.search(r"(?<![\w./=-])[a-z]{3,} (?!or )[a-z]{3,} [a-z]{3,}(?![\w=./])", body)
    assert "显示此帮助并退出" in body


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["summary", "torchvision:resnt50", "--input-size", "3,224,224"],
            2,
            "torchgauge: 错误：torchvision 没有模型 'resnt50'\n  建议：是不是 resnet50",
        ),
        (
            ["summary", "nothing.py:Net", "--input-size", "3"],
            2,
            "torchgauge: 错误：没有文件 nothing.py\n  建议：检查路径；当前文件夹是 ",
        ),
        (
            [*SUMMARY[:2], "--input-size", "x"],
            2,
            "torchgauge: 错误：参数 --input-size：'x' 不是尺寸；请写 3,224,224 或 name=1,128\n"
            "  建议：torchgauge summary --help",
        ),
        (["fit"], 2, "torchgauge: 错误：缺少必需的参数：MODEL\n  建议：torchgauge fit --help"),
        (["fti"], 2, "torchgauge: 错误：未知的命令 'fti'\n  建议：是不是 fit？"),
        (
            [*SUMMARY[:2], "--input-size", "4,224,224"],
            3,
            "torchgauge: 错误：features.0 (Conv2d) 在前向阶段失败：RuntimeError: ",
        ),
    ],
)
def test_errors_in_chinese(arguments, status, message, capsys):
    in_chinese = run([*arguments, "--lang", "zh"], capsys)
    in_english = run(arguments, capsys)
    assert in_chinese[0] == in_english[0] == status
    assert in_chinese[2].startswith(message)
    assert "error: " in in_english[2]


def test_a_failing_layer_is_named_in_chinese(capsys):
    _, text, message = run([*SUMMARY[:2], "--input-size", "4,224,224", "--lang", "zh"], capsys)
    assert " 失败位置 features.0 (Conv2d)，前向阶段\n" in text
    assert "错误   RuntimeError: Invalid channel dimensions" in text  # as PyTorch said it
    assert "  收到的是：input [1, 4, 224, 224] float32\n" in message
    assert "  建议：Conv2d 接受 3 个通道，收到 [1, 4, 224, 224] 中的 4 个" in message


def test_a_gpu_has_memory_of_its_own_name(capsys):
    arguments = [*SUMMARY, "--device", "T4", "--lang", "zh", "--quiet"]
    _, text, _ = run(arguments, capsys)
    assert " 显存      峰值 张量 " in text
    assert "\n 内存 " not in text


def test_names_that_are_words_of_the_catalogue_stay(tmp_path, capsys):
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\n"
        "class Module(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.time, self.memory = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)\n"
        "    def forward(self, output):\n"
        "        return self.memory(self.time(output))\n"
    )
    _, text, _ = run(["summary", f"{path}:Module", "--input-size", "2", "--lang", "zh"], capsys)
    assert text.startswith("Module · output [B, 2] float32, B = 1 · 推理")
    assert re.search(r"^ time +Linear +\[B, 2\]", text, re.MULTILINE)
    assert "memory 占 50 %" in text or "time 占 50 %" in text


# ---------------------------------------------------------------------------- what programs read


@pytest.mark.parametrize("name", ["json", "csv"])
def test_programs_read_english(name, capsys):
    english = run([*SUMMARY, "--format", name], capsys)
    chinese = run([*SUMMARY, "--format", name, "--lang", "zh"], capsys)
    assert chinese == english
    if name == "json":
        assert json.loads(chinese[1])["assumptions"][0].startswith("the input size was read")


def test_a_page_says_its_language(capsys):
    _, text, _ = run([*SUMMARY, "--format", "html", "--lang", "zh"], capsys)
    assert '<html lang="zh">' in text
    assert ">参数量</th>" in text


def test_ascii_is_english(capsys):
    english = run([*SUMMARY, "--ascii"], capsys)
    assert run([*SUMMARY, "--ascii", "--lang", "zh"], capsys) == english


# ---------------------------------------------------------------------------- which language


def test_a_language_ends_with_its_command(capsys):
    run(["--help", "--lang", "zh"], capsys)
    assert language.current() == "en"
    assert run(["--help"], capsys)[1].startswith("usage: torchgauge")


def test_the_locale_is_understood(monkeypatch, capsys):
    monkeypatch.delenv("TORCHGAUGE_LANG")
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert run(["fit"], capsys)[2].startswith("torchgauge: 错误：")
    assert run(["fit", "--lang", "en"], capsys)[2].startswith("torchgauge: error: ")


def test_a_locale_that_cannot_be_written_is_english(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    environment = {"LC_ALL": "zh_CN.UTF-8"}
    assert language_of(["summary"], environment) == "en"
    assert language_of(["summary", "--lang", "zh"], environment) == "zh"


def test_another_language_is_refused(capsys):
    status, _, message = run([*SUMMARY, "--lang", "fr"], capsys)
    assert status == 2
    assert "argument --lang: unknown name 'fr'; one of en, zh" in message
