"""The gallery shows each figure, as `make gallery` writes it, in small pictures."""

from __future__ import annotations

import re

import pytest
from PIL import Image

import make_gallery
from torchgauge.figures import FIGURES


def test_the_page_is_what_the_script_writes():
    assert make_gallery.PAGE.read_text(encoding="utf-8") == make_gallery.text()


def test_each_figure_has_a_picture_and_a_sentence():
    assert tuple(sorted(shown.name for shown in make_gallery.FIGURES)) == tuple(sorted(FIGURES))
    for shown in (*make_gallery.FIGURES, *make_gallery.VIEWS, *make_gallery.PAGES):
        assert shown.model in make_gallery.MODELS
        assert shown.sentence[0].isupper() and shown.sentence.endswith(".")


def test_pictures_are_there_small_and_shown():
    page = make_gallery.PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"\]\(images/([\w-]+\.png)\)", page)
    there = {path.name for path in make_gallery.IMAGES.glob("*.png")}
    assert {name for name in there if name.startswith(("figure-", "view-", "page-"))} == set(shown)
    for name in shown:
        assert (make_gallery.IMAGES / name).stat().st_size <= make_gallery.MOST_BYTES


def test_a_picture_that_is_too_large_gets_fewer_colours(tmp_path, monkeypatch):
    monkeypatch.setattr(make_gallery, "ROOT", tmp_path)
    image = Image.radial_gradient("L").convert("RGB").resize((400, 400))
    make_gallery.save_small(image, tmp_path / "large.png")
    many = (tmp_path / "large.png").stat().st_size
    monkeypatch.setattr(make_gallery, "MOST_BYTES", many - 1)
    make_gallery.save_small(image, tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size < many
    monkeypatch.setattr(make_gallery, "MOST_BYTES", 10)
    with pytest.raises(SystemExit, match=r"none\.png has .* bytes with 32 colours"):
        make_gallery.save_small(image, tmp_path / "none.png")
