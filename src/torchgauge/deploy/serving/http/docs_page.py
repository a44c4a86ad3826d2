"""``/docs``: one page without scripts and without anything from elsewhere.

The pages that FastAPI brings load their scripts from a CDN: blank where there is no way out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from torchgauge.deploy.export.signature import BATCH, Signature, TensorSignature
from torchgauge.deploy.serving.http.openapi import ERRORS

_MOST_SHOWN_NUMBERS = 64
_PATHS = (
    ("POST /v1/predict", "inputs to outputs"),
    ("GET /v1/signature", "what it takes and returns, and how much at once"),
    ("GET /healthz", "the process answers"),
    ("GET /readyz", "predictions are answered"),
    ("GET /metrics", "counters for Prometheus"),
    ("GET /openapi.json", "this description for programs"),
)
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
td, th {{ text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }}
pre {{ background: #8882; padding: 1rem; overflow-x: auto }}
</style>
<h1>{title}</h1>
<p>{description}</p>
{sections}
</html>
"""


def docs_page(title: str, description: str, signature: Signature, largest_batch: int) -> str:
    """Return the page of a package as HTML."""
    inputs = [(t.name, _shape(t), t.dtype, _values(t)) for t in signature.inputs]
    outputs = [(t.name, _shape(t), t.dtype) for t in signature.outputs]
    sizes = [(name, str(sizes)) for name, sizes in signature.dimensions.items()]
    if signature.dimensions.get(BATCH) is not None:
        sizes.append(("samples in one request", f"{largest_batch} at most, at the smallest sizes"))
    sections = (
        _table("Paths", (), _PATHS),
        _table("Inputs", ("name", "shape", "dtype", "values"), inputs),
        _table("Outputs", ("name", "shape", "dtype"), outputs),
        _table("Sizes that may vary", (), sizes),
        f"<h2>Example</h2>\n<pre>{escape(_example(signature))}</pre>",
        _table("Errors", (), [(f"{status}", text) for status, text in ERRORS.items()]),
    )
    return _PAGE.format(
        title=escape(title),
        description=escape(description),
        sections="\n".join(section for section in sections if section),
    )


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(header, "th")] if header else []
    lines += [_row(row, "td") for row in rows]
    return f"<h2>{title}</h2>\n<table>\n{chr(10).join(lines)}\n</table>" if lines else ""


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _shape(tensor: TensorSignature) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"


def _values(tensor: TensorSignature) -> str:
    return "" if tensor.maximum is None else f"{tensor.minimum}…{tensor.maximum}"


def _example(signature: Signature) -> str:
    sizes = {name: sizes.minimum for name, sizes in signature.dimensions.items()}
    inputs = {tensor.name: _zeros(tensor, sizes) for tensor in signature.inputs}
    body = json.dumps({"inputs": inputs}, indent=2 if len(inputs) > 1 else None)
    return f"POST /v1/predict\nContent-Type: application/json\n\n{body}"


def _zeros(tensor: TensorSignature, sizes: Mapping[str, int]) -> Any:
    """Return zeros in nested lists, or where they are too many to show the form with bytes."""
    shape = [size if isinstance(size, int) else sizes.get(size, 1) for size in tensor.shape]
    if math.prod(shape) > _MOST_SHOWN_NUMBERS or "complex" in tensor.dtype:
        return {"dtype": tensor.dtype, "shape": shape, "data": "base64 of the bytes"}
    nested: Any = False if tensor.dtype == "bool" else max(tensor.minimum or 0, 0)
    for size in reversed(shape):
        nested = [nested] * size
    return nested
