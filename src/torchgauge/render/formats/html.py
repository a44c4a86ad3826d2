"""A page as one HTML file: no script, no other file, light and dark by the reader's setting.

What must survive where ``<style>`` is removed (an untrusted notebook) is said inline: alignment,
indentation, weight. Colours there are those of the surroundings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from torchgauge.language import current, translated
from torchgauge.render.formats.svg import CHART_STYLE, chart_svg
from torchgauge.render.page import (
    Block,
    Cell,
    Chart,
    Code,
    Column,
    Fact,
    Facts,
    Notes,
    Page,
    Problem,
    Row,
    Table,
    Tone,
    Weight,
    printable,
)
from torchgauge.render.translation import in_language

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --dim: #59636e; --line: #d1d9e0;
  --back: #ffffff; --card: #f6f8fa; --good: #116329; --notice: #0550ae; --warning: #7d4e00;
  --bad: #b3151f; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --dim: #9198a1; --line: #3d444d;
  --back: #0d1117; --card: #151b23; --good: #56d364; --notice: #79c0ff; --warning: #e3b341;
  --bad: #ff7b72; } }
body { box-sizing: border-box; width: fit-content; min-width: min(75rem, 100%); max-width: 100%;
  margin: 0 auto; padding: 2rem 1.25rem 4rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
p, li, .facts { max-width: 70rem; }
h1 { margin: 0 0 .5rem; font-size: 1.6rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.05rem; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; margin: 0 0 1.5rem; padding: 0; }
.chips li { list-style: none; padding: .1rem .6rem; border: 1px solid var(--line);
  border-radius: 1rem; color: var(--dim); font-size: .85rem; }
.chips li.bad { border-color: var(--bad); color: var(--bad); font-weight: 600; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.facts { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  border-collapse: separate; border-spacing: 0; padding: .4rem .3rem; }
.facts th, .facts td { padding: .18rem .7rem; }
.facts th { color: var(--dim); font-weight: 500; white-space: nowrap; }
.rows { width: 100%; font-size: .9rem; }
.rows th, .rows td { padding: .22rem .7rem; border-bottom: 1px solid var(--line); }
.rows thead th { color: var(--dim); font-weight: 600; white-space: nowrap; }
.rows tbody th { font-weight: 400; white-space: nowrap; }
.rows tbody tr:hover { background: var(--card); }
.rows .strong th { font-weight: 600; } .rows .quiet { color: var(--dim); }
.alert, .bad { color: var(--bad); } .good { color: var(--good); }
.warning { color: var(--warning); } .notice { color: var(--notice); }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; }
td { overflow-wrap: anywhere; } .rows td { overflow-wrap: normal; white-space: nowrap; }
.rows td.wraps, .rows tbody th.wraps { min-width: 16rem; white-space: normal; }
pre { padding: .7rem .9rem; overflow-x: auto; background: var(--card);
  border: 1px solid var(--line); border-radius: .4rem; }
details { margin: .7rem 0; } summary { cursor: pointer; font-weight: 600; }
details[open] summary { margin-bottom: .5rem; }
.problem { margin: 1.5rem 0; padding: .8rem 1rem; border: 1px solid var(--line);
  border-left: .3rem solid currentColor; border-radius: .4rem; }
.entries th { padding-right: 1rem; color: var(--dim); font-weight: 500; vertical-align: top; }
.problem h2 { margin: 0 0 .3rem; } .problem > :not(h2) { color: var(--text); }
.remark { color: var(--dim); } ul { margin: .3rem 0; padding-left: 1.3rem; }
""".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlFormat:
    """Write a page as a whole HTML document."""

    def render(self, page: Page) -> str:
        """Return the document; the last line has no newline."""
        cleaned = printable(in_language(page))
        return "\n".join(
            [
                "<!doctype html>",
                f'<html lang="{current()}">',
                '<head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{escape(' · '.join(cleaned.title))}</title>",
                f"<style>\n{_style(cleaned)}\n</style></head>",
                "<body><main>",
                *_body(cleaned),
                "</main></body></html>",
            ]
        )


def _style(page: Page) -> str:
    has_chart = any(isinstance(block, Chart) for block in page.blocks)
    return f"{_STYLE}\n{CHART_STYLE}" if has_chart else _STYLE


def _body(page: Page) -> Iterator[str]:
    name, *settings = page.title
    yield f"<h1>{escape(name)}</h1>"
    if settings:
        chips = "".join(
            f'<li class="bad">{escape(text)}</li>' if text == page.failed
            else f"<li>{escape(text)}</li>"
            for text in settings
        )  # fmt: skip
        yield f'<ul class="chips">{chips}</ul>'
    for block in page.blocks:
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Problem):
        yield from _problem(block)
        return
    if isinstance(block, Facts):
        lines = [*_facts(block)] if block.facts else []
    elif isinstance(block, Table):
        lines = list(_table(block))
    elif isinstance(block, Code):
        lines = [f"<pre><code>{escape(chr(10).join(block.lines))}</code></pre>"]
    elif isinstance(block, Notes):
        lines = [f"<li>{escape(text)}</li>" for text in block.lines]
        lines = ["<ul>", *lines, "</ul>"] if lines else []
    elif isinstance(block, Chart):
        lines = list(chart_svg(block))
    else:
        return
    if not lines:
        return
    tone = f' class="{block.tone}"' if isinstance(block, Notes) else ""
    heading = escape(block.heading)
    if block.detail and heading:
        yield f"<details><summary{tone}>{heading}</summary>"
    elif heading:
        yield f"<h2{tone}>{heading}</h2>"
    yield from lines
    if block.detail and heading:
        yield "</details>"


def _facts(block: Facts) -> Iterator[str]:
    yield '<div class="scroll"><table class="facts"><tbody>'
    yield from map(_fact, block.facts)
    yield "</tbody></table></div>"


def _fact(fact: Fact) -> str:
    text = escape(" · ".join(fact.segments))
    if fact.tone is not Tone.PLAIN:
        text = f'<strong class="{fact.tone}">{text}</strong>'
    return (
        f'<tr><th scope="row" style="text-align:left">{escape(fact.label)}</th><td>{text}</td></tr>'
    )


def _table(block: Table) -> Iterator[str]:
    yield '<div class="scroll"><table class="rows">'
    titles = (
        f'<th scope="col" style="text-align:{_side(column)}">{escape(column.title)}</th>'
        for column in block.columns
    )
    yield f"<thead><tr>{''.join(titles)}</tr></thead><tbody>"
    yield from (_row(row, block) for row in block.rows)
    yield "</tbody></table></div>"


def _row(row: Row, table: Table) -> str:
    name = _text(row.cells[0], table.columns[0])
    name += f" × {row.count}" if row.count > 1 else ""
    remarks = ", ".join(item.full for item in row.remarks)
    name += f' <span class="remark">({escape(remarks)})</span>' if remarks else ""
    indent = f";padding-left:{0.7 + 1.3 * row.level:.1f}em" if row.level else ""
    title = f' title="{escape(row.path)}"' if row.path else ""
    cells = "".join(
        f'<td{_wraps(column)} style="text-align:{_side(column)}">{_text(cell, column)}</td>'
        for cell, column in zip(row.cells[1:], table.columns[1:], strict=True)
    )
    weight = f' class="{row.weight}"' if row.weight is not Weight.PLAIN else ""
    wraps = _wraps(table.columns[0])
    head = f'<th scope="row"{wraps} style="text-align:left{indent}"{title}>{name}</th>'
    return f"<tr{weight}>{head}{cells}</tr>"


def _wraps(column: Column) -> str:
    return ' class="wraps"' if column.wraps and not column.is_code else ""


def _side(column: Column) -> str:
    return "right" if column.is_number else "left"


def _text(cell: Cell, column: Column) -> str:
    text = escape(cell.full)
    if column.is_number:
        return f'<span style="white-space:nowrap">{text}</span>' if " " in text else text
    return f"<code>{text}</code>" if column.is_code and text not in ("", "–") else text


def _problem(block: Problem) -> Iterator[str]:
    yield f'<section class="problem {block.tone}">'
    yield f"<h2>{escape(f'{block.kind} {block.heading}'.strip())}</h2>"
    if block.text:
        yield f"<p>{escape(block.text)}</p>"
    if block.entries:
        yield '<table class="entries"><tbody>'
        for label, text in block.entries:
            yield _fact(Fact(label=label, segments=(text,)))
        yield "</tbody></table>"
    for word, commands in (
        ("", block.commands),
        (f"<p>{translated('or')}</p>", block.alternative),
    ):
        if commands:
            yield f"{word}<pre><code>{escape(chr(10).join(commands))}</code></pre>"
    yield "</section>"
