"""The section of a model card, and its update in place."""

from __future__ import annotations

import pytest
from kept import library
from torch import nn

import torchgauge as tg
from torchgauge.errors import UsageError
from torchgauge.integrations.model_card import BEGIN, END, model_card_section, update_model_card

CARD = "---\nlicense: mit\n---\n# A model\n\nText.\n"


def report(width: int = 8, **options: object) -> tg.Report:
    return tg.analyze(nn.Linear(16, width), (2, 16), **options)


def test_the_section():
    text = model_card_section(report(mode="training", optimizer="adamw", device="T4"))
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == (BEGIN, END)
    assert "| Step | training, adamw, precision as-built, device T4, input [2, 16] |" in lines
    assert "| Parameters | 136 (all trainable), 544 B |" in lines
    assert "| Compute | 256 MACs forward, nothing left uncounted |" in lines
    assert any(line.startswith("| Memory on the GPU | ") for line in lines)
    assert any("(predicted, ±" in line for line in lines)
    assert "1 MAC = 2 FLOPs." in lines[-2]


def test_an_update_replaces_its_own_section_alone(tmp_path):
    card = tmp_path / "README.md"
    card.write_text(CARD, encoding="utf-8")
    assert update_model_card(card, report())
    assert card.read_text().startswith(CARD)
    card.write_text(card.read_text() + "\n## After\n", encoding="utf-8")
    assert update_model_card(card, report(32))
    after = card.read_text()
    assert after.count(BEGIN) == after.count(END) == 1
    assert "| Parameters | 544 " in after
    assert "| Parameters | 136 " not in after
    assert after.startswith(CARD)
    assert after.endswith("\n## After\n")
    assert not update_model_card(card, report(32))


def test_a_card_that_is_not_there_is_made(tmp_path):
    card = tmp_path / "README.md"
    assert update_model_card(card, report())
    assert card.read_text() == model_card_section(report()) + "\n"


def test_line_ends_of_windows_stay(tmp_path):
    card = tmp_path / "README.md"
    card.write_bytes(b"# A\r\n")
    update_model_card(card, report())
    assert card.read_bytes().count(b"\n") == card.read_bytes().count(b"\r\n")


@pytest.mark.parametrize("text", [BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_card_with_half_a_section_is_left_as_it_is(tmp_path, text):
    card = tmp_path / "README.md"
    card.write_text(text)
    with pytest.raises(UsageError, match="does not have exactly one"):
        update_model_card(card, report())
    assert card.read_text() == text


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(UsageError, match="cannot be updated"):
        update_model_card(tmp_path, report())


def test_the_hub_reads_the_card(tmp_path):
    hub = library("huggingface_hub")
    card = tmp_path / "README.md"
    card.write_text(CARD, encoding="utf-8")
    update_model_card(card, report())
    read = hub.ModelCard.load(card)
    assert read.data.license == "mit"
    assert "| Parameters | 136 (all trainable), 544 B |" in read.text
