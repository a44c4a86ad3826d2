"""Every prediction against everything that is known (`make accuracy`): two pages in ``docs``.

Ground truth is what ``benchmarks/gpu_truth/records`` holds, and the published measurements in
``../shared/data`` beside the repository. Where a file or a library is absent, the page says so.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import torchgauge as tg
from benchmarks import cpu_time
from benchmarks.gpu_truth.compare import Comparison, compare_record
from benchmarks.gpu_truth.schema import read_all
from benchmarks.memory_sets.cases import DATA
from benchmarks.memory_sets.messages.page import section as messages_section
from benchmarks.memory_sets.page import FILES, sections
from benchmarks.summary import Line, line_of, summary
from benchmarks.time_sets.page import time_sections
from benchmarks.time_sets.sets import FILES as TIME_FILES
from torchgauge.models.torchvision_operators import define_missing_operators

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "gpu_truth" / "records"
PAGE = ROOT / "docs" / "accuracy.md"
TABLES = PAGE.with_name("accuracy-tables.md")
DIFFERENCES = ROOT / "tests" / "models" / "torchvision_differences.csv"

TORCHVISION, PUBLISHED = "torchvision_params_gmacs.csv", "published_memory.md"

_LLAMA = {"vocab_size": 128_256, "num_key_value_heads": 8}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2 124M": ("GPT2", {}),
    "Llama 3/3.1 8B": ("Llama", {
        "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, **_LLAMA,
    }),
    "Llama 3.1 405B": ("Llama", {
        "hidden_size": 16_384, "intermediate_size": 53_248, "num_hidden_layers": 126,
        "num_attention_heads": 128, **_LLAMA,
    }),
    "Llama 3.2 1B": ("Llama", {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "tie_word_embeddings": True, **_LLAMA,
    }),
    "Mistral 7B v0.1": ("Mistral", {}),
    "Qwen3 8B": ("Qwen3", {
        "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151_936, "tie_word_embeddings": False,
    }),
}  # fmt: skip
"""Name in ``published_memory.md`` → configuration class of transformers and its settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One prediction and what it is checked against."""

    name: str
    predicted: float
    true: float
    why: str = ""
    """Why they differ, where that is known."""

    @property
    def error(self) -> float:
        """Return the relative error, with its sign."""
        return self.predicted / self.true - 1


# ------------------------------------------------------------------------ predictions


def torchvision_figures(path: Path) -> tuple[list[Figure], list[Figure], list[str]]:
    """Return figures of parameters and of GMACs, and what could not be predicted."""
    conventions = str(ROOT / "tests" / "models")  # how torchvision measured its figures
    if conventions not in sys.path:
        sys.path.append(conventions)
    import torchvision_zoo as zoo

    cases = {str(case): case for case in zoo.published()}
    reasons = {
        (f"{row['model']}-{row['weights']}", row["figure"]): row["why"] for row in rows(DIFFERENCES)
    }
    params, gmacs, failed = [], [], []
    for row in rows(path):
        name = f"{row['model']}-{row['weights'].partition('.')[2]}"
        case = cases.get(name)
        if case is None:
            failed.append(f"{name}: the installed torchvision does not have it")
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = zoo.build(case)
                if hasattr(model, "roi_heads"):
                    zoo.let_through(model)
                totals = zoo.analyze(case, model).totals
        except Exception as error:  # one that fails is a line of the page
            failed.append(f"{name}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        why = {figure: reasons.get((name, figure), "") for figure in ("params", "gmacs")}
        params.append(Figure(name=name, predicted=totals.params, true=float(row["num_params"]),
                             why=why["params"]))  # fmt: skip
        gmacs.append(Figure(name=name, predicted=totals.forward_macs / 1e9,
                            true=float(row["ops_gmacs"]), why=why["gmacs"]))  # fmt: skip
    return params, gmacs, failed


def published_counts(path: Path) -> tuple[list[Figure], list[str]]:
    """Return figures of the exact parameter counts, and what could not be predicted."""
    import transformers

    transformers.logging.set_verbosity_error()
    table = re.findall(r"^\| ([^|]+?) \| ([\d,]+) \|$", path.read_text(encoding="utf-8"), re.M)
    figures, failed = [], []
    for name, count in table:
        if name not in CONFIGS:
            failed.append(f"{name}: no configuration is written down for it")
            continue
        kind, settings = CONFIGS[name]
        config = getattr(transformers, f"{kind}Config")(**settings)
        suffix = "LMHeadModel" if kind == "GPT2" else "ForCausalLM"
        with tg.meta_construction():
            model = getattr(transformers, kind + suffix)(config)
        true = float(count.replace(",", ""))
        figures.append(Figure(name=name, predicted=tg.analyze(model).totals.params, true=true))
    return figures, failed


def rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


# --------------------------------------------------------------------------- the page


def page(
    records: Path,
    data: Path,
    *,
    cpu: bool = False,
    public: bool = False,
    limit: int | None = None,
    cache: Path | None = None,
) -> tuple[str, str]:
    """Return both pages; of each memory set at most ``limit`` figures are predicted.

    ``cpu`` and ``public`` ask for the steps that run on this CPU and for the public runs.
    """
    comparisons = [compare_record(record) for record in read_all(records)]
    on_gpu = [c for c in comparisons if c.record.environment.device == "cuda"]
    known = (TORCHVISION, *FILES.values(), *TIME_FILES.values())
    present = [name for name in known if (data / name).is_file()]
    absent = [name for name in known if name not in present]
    counted = f"{len(on_gpu)} GPU records" if on_gpu else "no GPU records yet"
    about = [
        f"{'There are no' if not on_gpu else len(on_gpu)} records of steps on a GPU"
        f"{'' if on_gpu else ' yet'}. Written by `make accuracy` with torch "
        f"{torch.__version__.partition('+')[0]}. Data files "
        f"beside the repository: {len(present)} present, {len(absent)} absent{_names(absent)}.",
        "",
        "An error is predicted ÷ true − 1. Median and 90th percentile are of its absolute value.",
        "",
    ]
    found: list[Line] = []
    notes: list[str] = []
    tables = [
        *_records_section(comparisons),
        *(_cpu_section(found) if cpu else []),
        *modules_section(),
        *sections(data, limit, cache, found),
        *(_messages_section(cache, found, notes) if public else []),
        *time_sections(data, limit, cache, found),
        *cpu_time.section(),
        *_parameters_section(data, found),
        *operators_section(),
        *_not_yet_section(comparisons),
    ]
    pages = ([f"# How accurate: {counted}", "", *about, *summary(found, notes)],
             ["# How accurate: every table", "", *about, *_present(present), *tables])  # fmt: skip
    first, second = ("\n".join(lines).rstrip() + "\n" for lines in pages)
    return first, second


def _present(names: Sequence[str]) -> list[str]:
    return [f"Present:{_names(names)}.", ""] if names else []


def _names(names: Sequence[str]) -> str:
    return f" ({', '.join(f'`{name}`' for name in names)})" if names else ""


def _records_section(comparisons: Sequence[Comparison]) -> list[str]:
    lines = ["## Recorded steps", ""]
    if not comparisons:
        return [*lines, "None: `benchmarks/gpu_truth/records` is empty. Its README says how to "
                "record on a CUDA machine.", ""]  # fmt: skip
    statuses = Counter(str(c.record.status) for c in comparisons)
    said = ", ".join(f"{number} {status}" for status, number in statuses.most_common())
    lines += [f"{len(comparisons)} records: {said}.", ""]
    figures = [
        Figure(name=c.record.id, predicted=c.peak_bytes, true=c.record.peak_allocated_bytes)
        for c in comparisons
        if c.peak_bytes is not None and c.record.peak_allocated_bytes
    ]
    lines += [f"Note: {note}.\n" for note in sorted({c.note for c in comparisons if c.note})]
    if figures:
        lines += [*_head(), _row("peak of allocated bytes", figures), ""]
    aligned = [c.streams for c in comparisons if c.streams is not None]
    if aligned:
        equal = sum(streams.equal_ops for streams in aligned)
        count = sum(max(streams.real_ops, streams.simulated_ops) for streams in aligned)
        same = sum(streams.identical for streams in aligned)
        lines += [f"Op streams: {same} of {len(aligned)} identical, {equal:,} of {count:,} ops "
                  "equal.", ""]  # fmt: skip
    return lines


def _cpu_section(summed: list[Line]) -> list[str]:
    """Compare peaks on the CPU with what the profiler saw a real step allocate."""
    reason = _missing("torchvision", "timm", "transformers", "diffusers", "torch_geometric")
    lines = ["## Peak of a real step on the CPU", ""]
    if reason:
        return [*lines, reason, ""]
    from benchmarks.cpu_memory import cpu_figures

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figures = [
                Figure(
                    name=f"{found.name}, {found.scenario}",
                    predicted=found.predicted_bytes,
                    true=found.real_bytes,
                )
                for found in cpu_figures()
            ]
    finally:
        torch.set_num_threads(threads)
    off = [f"- {figure.name}: {figure.error:+.3%}" for figure in figures if figure.error]
    summed.append(
        line_of("peak memory, CPU", "the profiler, real steps", [f.error for f in figures])
    )
    return [
        *lines,
        "By the profiler's memory events, inference and training with SGD and AdamW, one thread.",
        "",
        *_head(),
        _row("peak of allocated bytes", figures),
        "",
        *(["Not met to the byte:", "", *off, ""] if off else []),
    ]


def _missing(*libraries: str) -> str:
    define_missing_operators()
    for library in libraries:
        try:
            __import__(library)
        except ImportError:
            return f"Skipped: {library} is not installed."
    return ""


def _messages_section(cache: Path | None, summed: list[Line], notes: list[str]) -> list[str]:
    """Compare public out-of-memory messages with what the allocator's model says."""
    reason = _missing("torchvision", "transformers")
    if reason:
        return ["### Out-of-memory messages", "", reason, ""]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(messages_section(cache, summed, notes))


def modules_section() -> list[str]:
    """Return the figures of the page on PyTorch's own samples of every module."""
    page = (ROOT / "docs" / "module-db.md").read_text(encoding="utf-8").splitlines()
    figures = next(line for line in page if line.startswith("Peak on the CPU"))
    return [
        "### Every module of PyTorch",
        "",
        "The samples that PyTorch tests its modules with (`module_db`). "
        + figures.partition(" Written by")[0]
        + " [Every module](module-db.md) lists the others with their reasons.",
        "",
    ]


def _parameters_section(data: Path, summed: list[Line]) -> list[str]:
    lines = ["## Parameters and MACs", ""]
    notes: list[str] = []
    table: list[str] = []
    path = data / TORCHVISION
    reason = _cannot_read(path, "torchvision")
    if reason:
        lines += [reason, ""]
    else:
        params, gmacs, failed = torchvision_figures(path)
        table += [_row("torchvision: parameters", params), _row("torchvision: GMACs", gmacs)]
        notes += [*_explained(params, "parameters"), *_explained(gmacs, "GMACs"), *failed]
        for what, figures in (("parameters", params), ("GMACs", gmacs)):
            if figures:
                summed.append(line_of(what, "torchvision's table", [f.error for f in figures]))
    path = data / PUBLISHED
    reason = _cannot_read(path, "transformers")
    if reason:
        lines += [reason, ""]
    else:
        counts, failed = published_counts(path)
        table.append(_row("language models: exact parameter counts", counts))
        notes += [*_explained(counts, "parameters"), *failed]
    if table:
        lines += [*_head(), *table, ""]
    if notes:
        lines += ["Figures that are off by more than 0.5 %, or could not be predicted:", ""]
        lines += [f"- {note}" for note in notes] + [""]
    return lines


def operators_section() -> list[str]:
    """Return the figures of the page on PyTorch's own samples of every operator."""
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8").splitlines()
    start = page.index("| what | samples | equal to the real run |")
    table = page[start : page.index("", start)]
    return [
        "## Every operator of PyTorch",
        "",
        "The samples that PyTorch tests its operators with (`op_db`), each against a real run on "
        "the CPU. [Every operator](operators.md) says what runs for real, and where multiply-adds "
        "differ on purpose.",
        "",
        *table,
        "",
    ]


def _cannot_read(path: Path, library: str) -> str:
    if not path.is_file():
        return f"Skipped: `{path.name}` is not beside the repository (`../shared/data`)."
    define_missing_operators()
    try:
        __import__(library)
    except ImportError:
        return f"Skipped: `{path.name}` needs {library}, which is not installed."
    return ""


def _not_yet_section(comparisons: Sequence[Comparison]) -> list[str]:
    """Say which records could not be compared."""
    reasons = Counter(c.why_not for c in comparisons if c.why_not)
    if not reasons:
        return []
    lines = ["## What could not be compared", ""]
    lines += [f"- {number} records: {why}" for why, number in reasons.most_common()]
    return [*lines, ""]


def _head() -> list[str]:
    return [
        "| against | figures | exact | median | 90th percentile | worst |",
        "|---|--:|--:|--:|--:|---|",
    ]


def _row(what: str, figures: Sequence[Figure]) -> str:
    errors = sorted(abs(figure.error) for figure in figures)
    if not errors:
        return f"| {what} | 0 | – | – | – | – |"
    worst = max(figures, key=lambda figure: abs(figure.error))
    shown = f"{worst.error:+.3%} {worst.name}" if worst.error else "–"
    exact = sum(_equals(figure) for figure in figures)
    return (
        f"| {what} | {len(errors)} | {exact} | {percentile(errors, 0.5):.3%} | "
        f"{percentile(errors, 0.9):.3%} | {shown} |"
    )


def _equals(figure: Figure) -> bool:
    """Return whether they are equal to all the places that are published."""
    places = 0 if float(figure.true).is_integer() and figure.true > 1000 else 3
    return round(figure.predicted, places) == round(figure.true, places)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _explained(figures: Iterable[Figure], what: str) -> list[str]:
    return [
        f"{figure.name}, {what}: {figure.error:+.2%}; {figure.why or 'not explained yet'}"
        for figure in figures
        if abs(figure.error) > 0.005
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=PAGE)
    parser.add_argument("--limit", type=int, default=200, help="figures of each memory set")
    parser.add_argument("--all", action="store_true", help="every figure: an hour or more")
    parser.add_argument("--no-cpu", action="store_true", help="run no step for real")
    parser.add_argument("--no-public", action="store_true", help="leave public runs out: a minute")
    parser.add_argument("--cache", type=Path, help="keep traces in this directory")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        print("skipped: ../shared/data is not beside the repository; comparing records alone")
    limit = None if options.all else options.limit
    first, tables = page(
        options.records,
        options.data,
        cpu=not options.no_cpu,
        public=not options.no_public,
        limit=limit,
        cache=options.cache,
    )
    options.output.write_text(first, encoding="utf-8")
    options.output.with_name(TABLES.name).write_text(tables, encoding="utf-8")
    print(f"{options.output.name}: {first.splitlines()[0].removeprefix('# ')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
