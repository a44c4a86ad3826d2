"""Fit the coefficients of the time prediction on the published measurements (`make calibrate`)."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.time_sets.cases import DATA, TimeCase
from benchmarks.time_sets.features import APART, Features, Table, features_of
from benchmarks.time_sets.fit import Fit
from benchmarks.time_sets.intervals import stated_errors
from benchmarks.time_sets.left_out import fitted, left_out
from benchmarks.time_sets.priors import FIXED, OWN_COMPILED, OWN_SPREAD, PRIORS
from benchmarks.time_sets.sets import FILES, NOT_FITTED, SETS
from benchmarks.time_sets.validation import agreements, line
from benchmarks.time_sets.validation import write as write_agreement
from torchgauge.devices.evidence import expected_of
from torchgauge.devices.tables import COEFFICIENTS
from torchgauge.estimate.time.gpu.device_model import COMPILED

# ------------------------------------------------------------------------------ tables


def collect(cache: Path | None) -> dict[str, list[tuple[TimeCase, Features]]]:
    """Return the cases of each set whose data is there; models that fail are left out."""
    found = {}
    for name, cases in SETS.items():
        if name in NOT_FITTED:
            continue
        if not (DATA / FILES[name]).is_file():
            print(f"skipped: {FILES[name]} is not beside the repository")
            continue
        kept: list[tuple[TimeCase, Features]] = []
        for case in cases(DATA):
            if not isinstance(case, TimeCase):
                continue
            try:
                kept.append((case, features_of(case, cache)))
            except Exception as error:  # one that fails is a line of the output
                print(f"left out: {case.id}: {type(error).__name__}: {str(error)[:90]}")
        if kept:
            found[name] = kept
    return found


def tables(found: Mapping[str, Sequence[tuple[TimeCase, Features]]]) -> dict[str, Table]:
    """Return the sets as arrays of the default dtype, compiled steps of a mixed set apart."""
    parts: dict[str, list[tuple[TimeCase, Features]]] = {}
    for name, kept in found.items():
        is_mixed = len({case.compiled for case, _ in kept}) > 1
        for case, item in kept:
            apart = APART if is_mixed and case.compiled else ""
            parts.setdefault(f"{name}{apart}", []).append((case, item))
    return {
        name: Table([case for case, _ in kept], [item for _, item in kept])
        for name, kept in parts.items()
    }


# ------------------------------------------------------------------------------ output


_HEAD = """\
# Coefficients of the predicted time; docs/time.md explains them. Written by make calibrate.
# Fitted {when} on cases of: {counts}.
# Efficiencies are shares of what the device sustains; *_us are microseconds.
"""


def write(fit: Fit, x: torch.Tensor, errors: Mapping[str, float], path: Path, when: str) -> None:
    """Write the table of coefficients; ``errors`` are the uncertainties to state."""
    values = {name: float(value) for name, value in fit.values(x).items()}
    counts = ", ".join(f"{name} {len(table.cases)}" for name, table in fit.tables.items())
    lines: list[Sequence[object]] = [
        (name, f"{values[name]:.4g}", prior.expected, prior.spread, "all", prior.meaning)
        for name, prior in PRIORS.items()
    ]
    for shared in (name for name in OWN_COMPILED if f"{COMPILED}.{name}" in values):
        name = f"{COMPILED}.{shared}"
        sets = [label for label, table in fit.tables.items() if table.is_compiled]
        lines.append((name, f"{values[name]:.4g}", f"{values[shared]:.4g}", OWN_COMPILED[shared],
                      "; ".join(sets), f"as {shared}, compiled"))  # fmt: skip
    for device, rate in sorted(fit.shared, key=lambda key: (key[0].name, key[1])):
        sets = [label for label, table in fit.tables.items() if device.name in table.device_names]
        lines.append((f"{device.name}.{rate}", f"{values[f'{device.name}.{rate}']:.4g}",
                      f"{expected_of(device, rate, values):.4g}", OWN_SPREAD[rate],
                      "; ".join(sets), f"as {rate}, of this device"))  # fmt: skip
    for name, row in FIXED.items():
        lines.append((name, row.value, row.value, 0, "", row.meaning))
    for name, value in errors.items():
        lines.append((name, value, value, 0, "rows left out", "share that four of five stay in"))
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(_HEAD.format(when=when, counts=counts))
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "value", "expected", "spread", "fitted_on", "meaning"))
        writer.writerows(lines)


def main(arguments: list[str] | None = None) -> int:
    """Fit, print the agreement, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, help="keep traces in this directory")
    parser.add_argument("--output", type=Path, default=COEFFICIENTS)
    options = parser.parse_args(arguments)
    found = collect(options.cache)
    if found:
        fitted_and_written(found, options.output)
    return 0


def fitted_and_written(
    measured: Mapping[str, Sequence[tuple[TimeCase, Features]]], output: Path
) -> None:
    """Fit, print how that agrees with the data seen and not seen, and write both tables."""
    fit = Fit(tables(measured))
    x = fit.run()
    found = [*fitted(fit, x), *left_out(fit)]
    errors = stated_errors(found)
    rows = list(agreements(found, errors))
    print(*map(line, rows), sep="\n")
    write(fit, x, errors, output, datetime.now(tz=UTC).date().isoformat())
    write_agreement(rows)


if __name__ == "__main__":
    sys.exit(main())
