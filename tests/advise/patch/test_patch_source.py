"""What a change looks like in the source: the lines that move, and why others do not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from torchgauge.advise.rules import rule_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Fault
from torchgauge.models.requests import request_of

pytest.importorskip("libcst")

from torchgauge.advise.patch.draft import Draft
from torchgauge.advise.patch.source.refusal import NoPatch

HERE = Path(__file__).parent
TRAINING = {"mode": "training", "loss": "cross_entropy"}
MODELS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "Course": ((4, 3, 8, 8), TRAINING),
    "InSequence": ((4, 3, 8, 8), {}),
    "Blocks": ((4, 3, 16, 16), TRAINING),
    "Loop": ((4, 8, 8, 8), {}),
    "Attention": ((2, 64, 32), {}),
    "OneHead": ((2, 64, 32), {}),
    "Early": ((2, 3, 64, 64), {}),
    "Hidden": ((2, 8), {}),
    "plain": ((4, 3, 8, 8), {}),
    "Large": ((4, 16, 16, 16), {}),
    "Untied": ((4, 16), {"dtypes": ["int64"]}),
    "UntiedLater": ((4, 16), {"dtypes": ["int64"]}),
    "untied": ((4, 16), {"dtypes": ["int64"]}),
    "Stem": ((4, 3, 8, 8), {}),
    "ready": ((4, 3, 8, 8), {}),
    "folded": ((4, 3, 8, 8), {}),
}


@cache
def subject_of(name: str, file: Path = HERE / "patched_models.py") -> Subject:
    size, options = MODELS[name]
    request = request_of(f"{file}:{name}", size, options)
    return Subject(request=request, report=analyze_model(request))


def changes(subject: Subject, rule: str) -> Iterator[Change | Fault]:
    for item in rule_of(rule).look(subject):
        if not isinstance(item, str):
            yield item


def draft(name: str, rule: str, number: int = 0) -> Draft:
    subject = subject_of(name)
    made = Draft(subject)
    made.write(list(changes(subject, rule))[number])
    return made


def lines(diff: str) -> list[str]:
    """The lines that a diff takes out and puts in, without their indent."""
    found = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in "+++---"]
    return [f"{line[0]} {line[1:].strip()}" for line in found]


FUSE = [
    '+ def fuse(self) -> "Stem":',
    '+ """Fold batch norms into the layers before them; for inference, after eval()."""',
    '+ pairs = [("stem", "norm"), ("0", "1")]',
    "+ for module in list(self.modules()):",
    "+ for layer, norm in pairs:",
    "+ if isinstance(getattr(module, norm, None), (nn.BatchNorm1d, nn.BatchNorm2d)):",
    "+ both = getattr(module, layer), getattr(module, norm)",
    "+ fuse = nn.utils.fuse_conv_bn_eval",
    "+ if isinstance(both[0], nn.Linear):",
    "+ fuse = nn.utils.fuse_linear_bn_eval",
    "+ setattr(module, layer, fuse(*both))",
    "+ setattr(module, norm, nn.Identity())",
    "+ return self",
    "+",
]


@pytest.mark.parametrize(
    ("name", "rule", "wanted"),
    [
        ("Course", "bias-before-norm", [
            "- self.conv1 = nn.Conv2d(3, width, 3, padding=1)",
            "+ self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)",
            "+ bias=False,",
        ]),
        ("Course", "depthwise-separable", [
            "- self.conv2 = nn.Conv2d(", "- width,", "- width * 2,", "- kernel_size=5,",
            "- padding=2,  # keeps the size",
            "+ self.conv2 = nn.Sequential(", "+ nn.Conv2d(", "+ width,", "+ width,",
            "+ kernel_size=5,", "+ padding=2,  # keeps the size", "+ groups=width,",
            "+ bias=False,", "+ ),", "+ nn.Conv2d(width, width * 2, 1),",
        ]),
        ("Course", "global-pooling", [
            "- self.fc1 = nn.Linear(width * 2 * 8 * 8, 64)",
            "+ self.fc1 = nn.Linear(width * 2, 64)",
            "- x = x.view(x.size(0), -1)",
            "+ x = F.adaptive_avg_pool2d(x, 1).flatten(1)",
        ]),
        ("Course", "low-rank", [
            "- self.fc1 = nn.Linear(width * 2 * 8 * 8, 64)",
            "+ self.fc1 = nn.Sequential(nn.Linear(width * 2 * 8 * 8, 24, bias=False), "
            "nn.Linear(24, 64))",
        ]),
        ("Course", "dead-output", [
            "- self.aux = nn.Conv2d(width, 4, 1)", "- self.aux(x)",
        ]),
        ("Course", "never-called", ["- self.spare = nn.Linear(width, 10)"]),
        ("Course", "in-place", ["- self.relu = nn.ReLU()", "+ self.relu = nn.ReLU(inplace=True)"]),
        ("Course", "double-softmax", [
            "- return torch.softmax(self.fc2(self.fc1(x)), dim=1)",
            "+ return self.fc2(self.fc1(x))",
        ]),
        ("Course", "missing-activation", [
            "- return torch.softmax(self.fc2(self.fc1(x)), dim=1)",
            "+ return torch.softmax(self.fc2(torch.relu(self.fc1(x))), dim=1)",
        ]),
        ("InSequence", "repeated-activation", [
            "- ReLU(),  # once too often", "+ nn.Identity(),  # once too often",
        ]),
        ("InSequence", "global-pooling", [
            "- nn.Flatten(),", "- nn.Linear(64 * 8 * 8, 32),",
            "+ nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),", "+ nn.Linear(64, 32),",
        ]),
        ("InSequence", "missing-activation", ["+ nn.ReLU(),"]),
        ("Blocks", "bias-before-norm", [
            "- nn.Conv2d(incoming, outgoing, 3, padding=1),",
            "+ nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False),",
        ]),
        ("Blocks", "in-place", ["- nn.ReLU(),", "+ nn.ReLU(inplace=True),"]),
        ("Attention", "attention", [
            "- weights = q @ k.transpose(-2, -1)", "- weights *= self.scale",
            "- if mask is not None:", "- weights = weights + mask",
            "- weights = self.drop(weights.softmax(dim=-1))",
            "- y = (weights @ v).transpose(1, 2).reshape(b, n, d)",
            "+ y = F.scaled_dot_product_attention(", "+ q,", "+ k,", "+ v,", "+ attn_mask=mask,",
            "+ dropout_p=self.drop.p if self.training else 0.0,", "+ scale=self.scale,",
            "+ ).transpose(1, 2).reshape(b, n, d)",
        ]),
        ("OneHead", "attention", [
            "- scores = torch.bmm(self.q(x), self.k(x).transpose(1, 2)) / 32**0.5",
            "- return torch.bmm(torch.softmax(scores, -1), self.v(x))",
            "+ return F.scaled_dot_product_attention(", "+ self.q(x).unsqueeze(1),",
            "+ self.k(x).unsqueeze(1),", "+ self.v(x).unsqueeze(1),", "+ scale=1.0 / 32**0.5,",
            "+ ).squeeze(1)",
        ]),
        ("Early", "grouped-convolution", [
            "- nn.Conv2d(64, 64, 3, padding=1),", "+ nn.Conv2d(64, 64, 3, padding=1, groups=4),",
            "- nn.Conv2d(64, 128, 3, padding=1),", "+ nn.Conv2d(64, 128, 3, padding=1, groups=4),",
        ]),
        ("Early", "stride-earlier", [
            "- nn.Conv2d(64, 64, 3, padding=1),", "+ nn.Conv2d(64, 64, 3, padding=1, stride=2),",
            "- nn.MaxPool2d(2),", "+ nn.Identity(),",
        ]),
        ("Early", "wide-early-maps", [
            "- self.stem = nn.Conv2d(3, width, 3, 1, 1)", "- self.norm = nn.BatchNorm2d(width)",
            "+ self.stem = nn.Conv2d(3, width // 2, 3, 1, 1)",
            "+ self.norm = nn.BatchNorm2d(width // 2)",
            "- nn.Conv2d(64, 64, 3, padding=1),", "+ nn.Conv2d(32, 64, 3, padding=1),",
        ]),
        ("Hidden", "hidden-modules", [
            "- self.layers = [nn.Linear(8, 8) for _ in range(3)]", "- self.heads = {}",
            "+ self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])",
            "+ self.heads = nn.ModuleDict({})",
        ]),
        ("Large", "large-kernel", [
            "- self.conv = nn.Conv2d(16, 16, 7, 2, 3)",
            "+ self.conv = nn.Sequential(", "+ nn.Conv2d(16, 16, 3, stride=2, padding=1),",
            "+ nn.ReLU(),", "+ nn.Conv2d(16, 16, 3, padding=1),", "+ nn.ReLU(),",
            "+ nn.Conv2d(16, 16, 3, padding=1),", "+ )",
        ]),
    ],
)  # fmt: skip
def test_lines_that_change(name: str, rule: str, wanted: list[str]) -> None:
    assert lines(draft(name, rule).files.diff()) == wanted


@pytest.mark.parametrize(
    ("name", "rule", "why"),
    [
        ("Blocks", "depthwise-separable", "the same line makes blocks.0.0"),
        ("Loop", "in-place", "layers.1: its container is filled from a variable or in a loop"),
        ("folded", "fold-batchnorm", "the model is not of a class of yours"),
        ("Loop", "global-pooling", "made(8 * 8 * 8) makes it, not nn.Linear(…) itself"),
    ],
)
def test_what_is_not_one_plain_piece_of_source_is_refused(name: str, rule: str, why: str) -> None:
    with pytest.raises(NoPatch) as refused:
        draft(name, rule)
    assert why in str(refused.value)


def test_changes_add_up_and_one_twice_is_refused() -> None:
    subject = subject_of("Course")
    made = Draft(subject)
    for rule in ("global-pooling", "bias-before-norm", "in-place", "dead-output"):
        made.write(next(changes(subject, rule)))
    assert len(lines(made.files.diff())) == 11
    with pytest.raises(NoPatch, match="aux: Course does not set aux"):
        made.write(next(changes(subject, "dead-output")))


def test_a_diff_is_what_git_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Windows line ends, a form feed, and no end of line at the end of the file."""
    text = (
        "from torch import nn\r\n\f\r\nclass Net(nn.Module):\r\n"
        "    def __init__(self):\r\n        super().__init__()\r\n"
        "        self.act = nn.ReLU()  # schön\r\n        self.fc = nn.Linear(4, 4)\r\n"
        "    def forward(self, x):\r\n        return self.fc(self.act(x + 1))"
    )
    file = tmp_path / "net.py"
    file.write_bytes(text.encode())
    monkeypatch.chdir(tmp_path)
    request = request_of("net.py:Net", (2, 4), {})
    subject = Subject(request=request, report=analyze_model(request))
    made = Draft(subject)
    made.write(next(changes(subject, "in-place")))
    Path("out.diff").write_bytes(made.files.diff().encode())
    subprocess.run(["git", "apply", "--check", "out.diff"], check=True)
    subprocess.run(["git", "apply", "out.diff"], check=True)
    assert file.read_bytes().decode() == text.replace("ReLU()", "ReLU(inplace=True)")


def test_a_library_is_not_patched() -> None:
    pytest.importorskip("torchvision")
    request = request_of("torchvision:alexnet", (2, 3, 224, 224), {})
    subject = Subject(request=request, report=analyze_model(request))
    from torchgauge.advise.patch.made import drafted

    found = list(changes(subject, "low-rank"))
    refused = drafted(subject, found, ())  # type: ignore[arg-type]
    assert "the source of torchvision:alexnet is not yours" in str(refused)
