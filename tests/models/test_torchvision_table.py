"""Parameters and GMACs against the figures that torchvision publishes for its weights.

Ours must be the published parameter count and come within 0.5 % of the published GMACs;
``torchvision_differences.csv`` lists every figure that does not, with who is right and why. The
mechanism named there is applied, and must lead to exactly the published figure; a difference that
changes or goes away fails as well.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import pytest
import torchvision_zoo as zoo

from torchgauge.facts.trace import OUTSIDE

HERE = Path(__file__).parent
PUBLISHED_FILE = HERE.parents[2] / "shared" / "data" / "torchvision_params_gmacs.csv"
CASES = {str(case): case for case in zoo.published()}
FAST = {
    "resnet50-IMAGENET1K_V2", "vit_b_16-IMAGENET1K_V1", "swin_t-IMAGENET1K_V1",
    "mobilenet_v3_small-IMAGENET1K_V1", "quantized_inception_v3-IMAGENET1K_FBGEMM_V1",
}  # fmt: skip
TOLERANCE = 0.005


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


DIFFERENCES = {
    (f"{row['model']}-{row['weights']}", row["figure"]): row
    for row in read(HERE / "torchvision_differences.csv")
}


@functools.cache
def measure(name: str, **mechanism: int) -> tuple[int, float]:
    """Return parameters and forward GMACs, all the proposals and no detections by default."""
    case = CASES[name]
    model = zoo.build(case, aux_logits=True) if mechanism.pop("aux_logits", 0) else zoo.build(case)
    if hasattr(model, "roi_heads"):
        zoo.let_through(model, **mechanism)
    report = zoo.analyze(case, model)
    operators = [e for e in report.not_counted if not e.op.startswith(OUTSIDE)]
    assert all(entry.calls == 0 for entry in operators)  # masks are pasted box by box, in Python
    return report.totals.params, report.totals.forward_macs / 1e9


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.models) for n in CASES]
)
def test_published_figures(name: str) -> None:
    case = CASES[name]
    params, gmacs = measure(name)
    if (name, "params") in DIFFERENCES:
        check_difference(name, "params", params, case.params)
    else:
        assert params == case.params
    if (name, "gmacs") in DIFFERENCES:
        check_difference(name, "gmacs", gmacs, case.gmacs)
    else:
        assert abs(gmacs - case.gmacs) <= TOLERANCE * case.gmacs
        assert round(gmacs, 3) == case.gmacs  # more than promised: all that is published


def check_difference(name: str, figure: str, ours: float, published: float) -> None:
    row = DIFFERENCES[name, figure]
    exact = figure == "params"
    assert float(row["published"]) == published
    assert round(ours, 6) == float(row["ours"])
    assert ours != published if exact else abs(ours - published) > TOLERANCE * published
    mechanism, _, value = row["mechanism"].partition("=")
    if mechanism != "rounding":
        ours = measure(name, **{mechanism: int(value or 1)})[0 if exact else 1]
    assert round(ours, 3) == published


def test_every_difference_is_of_a_published_figure() -> None:
    assert {name for name, _ in DIFFERENCES} <= CASES.keys()
    assert all(row["why"] and row["right"] in ("ours", "torchvision", "both")
               for row in DIFFERENCES.values())  # fmt: skip


def test_the_published_file_has_the_same_figures() -> None:
    """The file is torchvision's metadata at one release; the cases are the installed one's."""
    if not PUBLISHED_FILE.is_file():
        pytest.skip("needs ../shared/data/torchvision_params_gmacs.csv beside the repository")
    rows = read(PUBLISHED_FILE)
    assert len(rows) > 80
    for row in rows:
        case = CASES[f"{row['model']}-{row['weights'].partition('.')[2]}"]
        assert (case.params, case.gmacs) == (int(row["num_params"]), float(row["ops_gmacs"]))
