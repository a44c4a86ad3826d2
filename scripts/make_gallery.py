"""Draw docs/gallery.md and its pictures: each figure and each view of the page (`make gallery`).

The reports are those of three models, made on this machine. Figures need matplotlib; the views of
the page need Playwright and Chromium, and keep their pictures where one of them is missing.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

import torchgauge as tg
from torchgauge.web.page import report_html

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gallery.md"
IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 150_000
DOTS_PER_INCH = 220
COLORS = (256, 128, 64, 32)

LLAMA = (
    "hf:llama(hidden_size=2048,intermediate_size=8192,num_hidden_layers=16,"
    "num_attention_heads=32,num_key_value_heads=8,vocab_size=128256,"
    "max_position_embeddings=8192,tie_word_embeddings=True)"
)


def trained(spec: str, size: tuple[int, ...], **scenario: Any) -> tg.Report:
    return tg.analyze(spec, size, mode="training", **scenario)


RESNET = {"batch_size": 64, "optimizer": "sgd-momentum", "device": "T4"}
MODELS: Mapping[str, tuple[str, Callable[[], tuple[tg.Report, ...]]]] = {
    "resnet50": (
        "ResNet-50, batch 64, on a T4",
        lambda: (trained("torchvision:resnet50", (3, 224, 224), **RESNET),),
    ),
    "resnet50-fp16": (
        "ResNet-50, batch 64, on a T4, without and with autocast to fp16",
        lambda: (
            *reports_of("resnet50"),
            trained(
                "torchvision:resnet50", (3, 224, 224), precision="fp16-autocast", **RESNET
            ),
        ),
    ),
    "llama": (
        "a Llama with 1.2 billion parameters, 4 × 2,048 tokens, on an H100",
        lambda: (
            trained(
                LLAMA, (2048,), batch_size=4, optimizer="adamw", precision="bf16-autocast",
                device="H100-SXM",
            ),
        ),
    ),
    "swin": (
        "Swin-T, batch 32, on an A100",
        lambda: (
            trained(
                "torchvision:swin_t", (3, 224, 224), batch_size=32, optimizer="adamw",
                device="A100-SXM-40GB",
            ),
        ),
    ),
}  # fmt: skip
"""What is shown, and its report; two reports are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture and its sentence."""

    name: str
    """A figure of ``report.plot``, or the id of a view's section in the page."""
    model: str
    sentence: str
    options: Mapping[str, Any] = field(default_factory=dict)


FIGURES = (
    Shown(
        name="memory", model="llama",
        sentence="What is alive when, by what it is for: activations are saved in the forward and "
        "let go in the backward, where the gradients grow; the peak is marked.",
    ),
    Shown(
        name="parameters", model="swin",
        sentence="Where the parameters are: the largest parts are opened, equal blocks are one "
        "bar, and the bars sum to the total.",
    ),
    Shown(
        name="time", model="llama",
        sentence="What the step waits for, by kind of kernel and phase, and how far the "
        "prediction may be off.",
    ),
    Shown(
        name="roofline", model="resnet50",
        sentence="How far each operator is from what the GPU could do: on the slope the memory "
        "limits it, under the flat roof the arithmetic.",
    ),
    Shown(
        name="graph", model="llama",
        sentence="What flows where: sixteen equal layers are one box, lines at the side go past "
        "what they skip, and shapes are written where they change.",
    ),
)  # fmt: skip

VIEWS = (
    Shown(
        name="answers", model="llama",
        sentence="The three questions first: does it fit, how long does a step take, how big is "
        "it.",
    ),
    Shown(
        name="where", model="resnet50",
        sentence="Where it is: modules as areas, by parameters, MACs, memory or time.",
    ),
    Shown(
        name="when", model="llama",
        sentence="When it is: memory over the step, with what is alive at the moment under the "
        "pointer.",
    ),
    Shown(
        name="graph", model="llama",
        sentence="How it is connected: modules open in place, equal ones are one box.",
    ),
    Shown(
        name="table", model="resnet50",
        sentence="The terminal's table with every column, to search, sort and copy.",
    ),
    Shown(
        name="operators", model="llama",
        sentence="Every operator with its work, its time and what bounds it.",
    ),
    Shown(
        name="compare", model="resnet50-fp16",
        sentence="Two reports: what changed, and where.",
    ),
    Shown(
        name="notes", model="llama",
        sentence="What was not counted, what was assumed, and how each number is made.",
    ),
)  # fmt: skip

PAGES = (
    Shown(name="light", model="llama", sentence="The whole page, light."),
    Shown(
        name="dark", model="resnet50", sentence="The same page for another model, dark.",
        options={"color_scheme": "dark"},
    ),
    Shown(
        name="phone", model="resnet50", sentence="On a phone.",
        options={"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
    ),
    Shown(
        name="chinese", model="llama", sentence="In Chinese.", options={"locale": "zh-CN"},
    ),
)  # fmt: skip
SCREENS = 2
"""How many screens of a whole page are shown."""


@cache
def reports_of(model: str) -> tuple[tg.Report, ...]:
    print(f"analyzing {MODELS[model][0]}", file=sys.stderr)
    return MODELS[model][1]()


def save_small(image: Image.Image, path: Path) -> None:
    """Write a picture with few colours, and fewer until it is small enough."""
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    for colors in COLORS:
        stream = io.BytesIO()
        flat.quantize(colors, dither=Image.Dither.NONE).save(stream, "png", optimize=True)
        if stream.tell() <= MOST_BYTES:
            path.write_bytes(stream.getvalue())
            print(f"{path.relative_to(ROOT)}: {stream.tell() // 1000} kB", file=sys.stderr)
            return
    raise SystemExit(f"{path.name} has {stream.tell():,} bytes with {COLORS[-1]} colours")


def draw_figures() -> None:
    for shown in FIGURES:
        figure = getattr(reports_of(shown.model)[-1].plot, shown.name)(**shown.options)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
        save_small(Image.open(stream), picture_of("figure", shown))


def picture_of(kind: str, shown: Shown) -> Path:
    return IMAGES / f"{kind}-{shown.name}.png"


# ---------------------------------------------------------------------------- the page


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium, or give ``None`` and say what is missing."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        print("no Playwright or no Chromium: the page's pictures stay as they are", file=sys.stderr)
        yield None
        return
    root = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=root)
        yield started
        started.close()


@contextmanager
def opened(chromium: Any, folder: Path, shown: Shown) -> Iterator[Any]:
    """Open the page of a model, everything on it drawn."""
    file = folder / f"{shown.model}.html"
    if not file.exists():
        file.write_text(report_html(*reports_of(shown.model)), encoding="utf-8")
    settings = {
        "viewport": {"width": 1280, "height": 900}, "locale": "en", "color_scheme": "light",
        "reduced_motion": "reduce",
    }  # fmt: skip
    context = chromium.new_context(**{**settings, **shown.options})
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    page.wait_for_timeout(500)  # charts draw in the frames that follow
    yield page
    context.close()


def draw_page(chromium: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for shown in VIEWS:
            with opened(chromium, Path(folder), shown) as page:
                section = page.locator(f"section#{shown.name}")
                if section.count():
                    save_small(shot(section), picture_of("view", shown))
                else:
                    print(f"the page has no view {shown.name}", file=sys.stderr)
        for shown in PAGES:
            with opened(chromium, Path(folder), shown) as page:
                width, height = page.viewport_size["width"], page.viewport_size["height"]
                whole = page.evaluate("document.documentElement.scrollHeight")
                page.set_viewport_size({"width": width, "height": min(whole, SCREENS * height)})
                save_small(shot(page), picture_of("page", shown))


def shot(target: Any) -> Image.Image:
    return Image.open(io.BytesIO(target.screenshot(animations="disabled")))


# ---------------------------------------------------------------------------- the text

_HEAD = """\
# Gallery

Each figure and each view of the page, from the reports of training steps. No GPU was needed: the
numbers are torchgauge's predictions. `make gallery` draws this page.

{models}
"""
_FIGURES = """
## Figures for papers

`report.plot` returns matplotlib figures. [Figures](figures.md) says how to save them and what they
hold.
"""
_VIEWS = """
## The page

`torchgauge summary MODEL --output report.html` writes it as one file.
"""


def text() -> str:
    """Return the page; views without a picture are left out."""
    listed = "\n".join(f"- {what}" for what, _ in MODELS.values())
    parts = [_HEAD.format(models=listed), _FIGURES]
    parts += [_entry("figure", shown, f"report.plot.{shown.name}()") for shown in FIGURES]
    views = [("view", shown) for shown in VIEWS] + [("page", shown) for shown in PAGES]
    there = [(kind, shown) for kind, shown in views if picture_of(kind, shown).exists()]
    if there:
        parts.append(_VIEWS)
    parts += [_entry(kind, shown, shown.name.capitalize()) for kind, shown in there]
    return "".join(parts)


def _entry(kind: str, shown: Shown, title: str) -> str:
    heading = f"`{title}`" if kind == "figure" else title
    picture = f"images/{picture_of(kind, shown).name}"
    alternative = f"{title} of {MODELS[shown.model][0]}"
    sentence = textwrap.fill(shown.sentence, 100)
    return f"\n### {heading}\n\n{sentence}\n\n![{alternative}]({picture})\n"


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    IMAGES.mkdir(exist_ok=True)
    draw_figures()
    with browser() as chromium:
        if chromium is not None:
            draw_page(chromium)
    PAGE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
