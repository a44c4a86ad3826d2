"""``flop_count_table`` and ``flop_count_str``: parameters and flops along the module tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from torchgauge.compat.fvcore.nn.activation_count import ActivationCountAnalysis
from torchgauge.compat.fvcore.nn.flop_count import FlopCountAnalysis
from torchgauge.compat.fvcore.nn.jit_analysis import JitModelAnalysis
from torchgauge.compat.fvcore.nn.parameter_count import parameter_count, parameter_shapes
from torchgauge.compat.tables import pipe_table

_SIZES = ((1e14, 1e15, "P"), (1e11, 1e12, "T"), (1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K"))
_MISSING = (
    "N/A indicates a possibly missing statistic due to how the module was called. Missing values "
    "are still included in the parent's total.\n"
)


@dataclass(slots=True)
class _Row:
    """A module or parameter with its figures by column."""

    name: str
    figures: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    children: list[_Row] = field(default_factory=list)


def flop_count_table(
    flops: FlopCountAnalysis,
    max_depth: int = 3,
    activations: ActivationCountAnalysis | None = None,
    show_param_shapes: bool = True,
) -> str:
    """Return a table of parameters and flops per module.

    Args:
        flops: The analysis; its warnings are switched off.
        max_depth: Levels of rows. A module with one child that has the same figures shares its
            row, so names may go deeper.
        activations: Adds a column of activations.
        show_param_shapes: Add a row with the shape of each parameter.
    """
    first = "#parameters" + " or shape" * show_param_shapes
    columns: dict[str, Mapping[str, int]] = {first: parameter_count(flops._model)}
    analyses = _quiet({"#flops": flops, "#activations": activations})
    for header, analysis in analyses.items():
        columns[header] = analysis.by_module()
    root = _tree(columns)
    _drop_zeros(root)
    shapes = parameter_shapes(flops._model)
    _drop_or_shape(root, first, shapes, show_param_shapes)
    for header, analysis in analyses.items():
        for row in _all_rows(root):
            if row.name in analysis.uncalled_modules():
                row.texts[header] = ""
    return model_stats_table(root, max_depth, tuple(columns))


def flop_count_str(
    flops: FlopCountAnalysis, activations: ActivationCountAnalysis | None = None
) -> str:
    """Return the model's structure, as ``str(model)`` shows it, with figures at each module.

    Args:
        flops: The analysis; its warnings are switched off.
        activations: Adds the number of activations.
    """
    analyses = _quiet({"#flops": flops, "#acts": activations})
    uncalled = {name for analysis in analyses.values() for name in analysis.uncalled_modules()}
    params = parameter_count(flops._model)
    texts: dict[str, str] = {}
    for name, _ in flops._model.named_modules():
        figures = {"#params": params.get(name, 0)}
        figures |= {header: it.by_module().get(name, 0) for header, it in analyses.items()}
        if any(figures.values()) or name in uncalled:
            shown = {header: format_size(value, 2) for header, value in figures.items()}
            shown |= {h: "N/A" for h, it in analyses.items() if name in it.uncalled_modules()}
            texts[name] = ", ".join(f"{header}: {text}" for header, text in shown.items())
    return _MISSING * bool(uncalled) + "\n".join(_structure(flops._model, "", texts))


def model_stats_table(root: _Row, max_depth: int, columns: Sequence[str]) -> str:
    """Return the table of a tree whose texts are ready."""
    top = _merged(root)
    prefix = f"{top.name}." if top.name else ""
    rows = [[top.name or "model", *(top.texts.get(column, "") for column in columns)]]

    def add(row: _Row, level: int) -> None:
        if level > max_depth:
            return
        for child in map(_merged, row.children):
            indent = " " * level
            cells = (indent + child.texts[c] if c in child.texts else "" for c in columns)
            rows.append([indent + child.name.removeprefix(prefix), *cells])
            add(child, level + 1)

    add(top, 1)
    return pipe_table(("module", *columns), rows)


def format_size(value: float, digits: int = 3) -> str:
    """Return a count in fvcore's units, which change below a whole one: 440 is ``0.44K``.

    >>> format_size(440), format_size(4_089_184_256), format_size(100)
    ('0.44K', '4.089G', '100')
    """
    for limit, divisor, unit in _SIZES:
        if abs(value) > limit:
            return f"{value / divisor:.{digits}f}".rstrip("0").rstrip(".") + unit
    return str(value)


def _quiet(analyses: Mapping[str, JitModelAnalysis | None]) -> dict[str, JitModelAnalysis]:
    """Return the analyses that there are, by header, with their warnings switched off."""
    given = {header: analysis for header, analysis in analyses.items() if analysis is not None}
    for analysis in given.values():
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
    return given


def _tree(columns: Mapping[str, Mapping[str, int]]) -> _Row:
    """Return rows by name, in the order in which the columns name them."""
    rows: dict[str, _Row] = {"": _Row("")}
    for header, figures in columns.items():
        for name, value in figures.items():
            rows.setdefault(name, _Row(name)).figures[header] = value
    for name, row in rows.items():
        parent = rows.get(name.rpartition(".")[0])
        if name and parent is not None:
            parent.children.append(row)
    return rows[""]


def _drop_zeros(row: _Row) -> bool:
    """Drop the rows below that have nothing but zeros; return whether this one has more."""
    row.children = [child for child in row.children if _drop_zeros(child)]
    row.texts = {header: format_size(value) for header, value in row.figures.items()}
    return any(row.figures.values()) or bool(row.children)


def _drop_or_shape(
    row: _Row, header: str, shapes: Mapping[str, tuple[int, ...]], show: bool
) -> None:
    """Give the rows of parameters their shapes, or drop them."""
    row.children = [child for child in row.children if show or child.name not in shapes]
    for child in row.children:
        if child.name in shapes:
            child.texts[header] = str(shapes[child.name])
        _drop_or_shape(child, header, shapes, show)


def _all_rows(row: _Row) -> Iterator[_Row]:
    yield row
    for child in row.children:
        yield from _all_rows(child)


def _merged(row: _Row) -> _Row:
    """Return the row of an only child where that says the same, and so on down."""
    while len(row.children) == 1:
        child = row.children[0]
        pairs = [(row.texts.get(c, ""), child.texts.get(c, "")) for c in row.texts]
        if row.texts.keys() != child.texts.keys() or any(a and b and a != b for a, b in pairs):
            break
        child.texts = {c: row.texts[c] or child.texts[c] for c in row.texts}
        row = child
    return row


def _structure(module: nn.Module | None, name: str, texts: Mapping[str, str]) -> list[str]:
    """Return the lines of ``repr(module)`` with a line of figures after each module's settings."""
    if module is None:
        return ["None"]
    settings = module.extra_repr()
    lines = [
        *(settings.split("\n") if settings else ()),
        *([texts[name]] if texts.get(name) else ()),
    ]
    inner: list[str] = []
    for key, child in module._modules.items():
        first, *rest = _structure(child, f"{name}.{key}" if name else key, texts)
        inner += [f"({key}): {first}", *rest]
    title = module._get_name()
    if not lines and not inner:
        return [f"{title}()"]
    if len(lines) == 1 and not inner:
        return [f"{title}({lines[0]})"]
    return [f"{title}(", *(f"  {line}" for line in (*lines, *inner)), ")"]
