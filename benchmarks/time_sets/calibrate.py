"""Fit the coefficients of the time prediction on the published measurements (`make calibrate`).

The loss is the logarithm of predicted ÷ measured, absolute beyond a few percent, plus how far each
coefficient goes from what the hardware's documentation says (``PRIORS``): a coefficient that the
data does not determine stays where it is. Devices have factors of their own for three rates, held
near those of all devices; a device without rows has the common ones.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.time_sets.cases import DATA, TimeCase
from benchmarks.time_sets.features import Features, Table, features_of, power_headroom
from benchmarks.time_sets.priors import FIXED, OWN, OWN_SPREAD, PRIORS
from benchmarks.time_sets.sets import FILES, NOT_FITTED, SETS
from benchmarks.time_sets.validation import agreement, line, stated_errors, validated
from benchmarks.time_sets.validation import write as write_agreement
from torchgauge.devices.coefficients import FILE
from torchgauge.estimate.time.gpu.cost import Rates, kernel_time

WEIGHTS = {"neusight": 6.0}
"""How much a case of a set counts; 1 for others: a few dozen rows stand beside hundreds."""
_STEPS, _RATE = 150, 0.04
_SOFT = 0.03
"""Relative error below which the loss is quadratic."""
_SHARPNESS = 20.0


class Fit:
    """The model of time as a function of all coefficients at once."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables = tables
        self.devices = sorted({name for table in tables.values() for name in table.device_names})
        self.names = [*PRIORS, *(f"{device}.{name}" for device in self.devices for name in OWN)]
        expected = [math.log(prior.expected) for prior in PRIORS.values()]
        spread = [prior.spread for prior in PRIORS.values()]
        own = len(self.names) - len(PRIORS)
        self.start = torch.tensor(expected + [0.0] * own)
        self.spread = torch.tensor(spread + [OWN_SPREAD] * own)

    def predict(self, table: Table, x: torch.Tensor) -> torch.Tensor:
        """Return the seconds of each case of a table."""
        c = dict(zip(self.names, x.exp(), strict=True))
        c.update({name: torch.tensor(row.value) for name, row in FIXED.items()})
        rates = _DeviceRates(table, c)
        total = table.fresh_gib * c["driver.allocation_ms_per_gib"] / 1e3
        for group in table.groups:
            device = table.device[group.case]
            time = kernel_time(group.kind, group.work, rates.of(device, group.is_half), c)
            total = total.index_add(0, group.case, time.total * group.count)
        return total

    def errors(self, table: Table, x: torch.Tensor) -> torch.Tensor:
        """Return predicted ÷ measured − 1."""
        with torch.no_grad():
            return self.predict(table, x) / table.seconds - 1

    def run(self, masks: Mapping[str, torch.Tensor] | None = None) -> torch.Tensor:
        """Return the logarithms of the coefficients that fit the rows that ``masks`` leave."""
        x = self.start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=_RATE)
        for step in range(_STEPS):
            if step == int(0.7 * _STEPS):
                optimizer.param_groups[0]["lr"] = _RATE / 5
            loss = 0.5 * (((x - self.start) / self.spread) ** 2).sum()
            for name, table in self.tables.items():
                error = (self.predict(table, x) / table.seconds).log()
                if masks is not None:
                    error = error[masks[name]]
                soft = torch.sqrt(error**2 + _SOFT**2) - _SOFT
                loss = loss + WEIGHTS.get(name, 1.0) * _SHARPNESS * soft.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return x.detach()

    def coefficients(self, x: torch.Tensor) -> dict[str, float]:
        """Return the coefficients by name; devices' own ones are whole values, not factors."""
        found = dict(zip(self.names, x.exp().tolist(), strict=True))
        for name in self.names[len(PRIORS) :]:
            found[name] *= found[name.rpartition(".")[2]]
        return found


class _DeviceRates:
    """The rates of a table's devices under coefficients that are tensors."""

    def __init__(self, table: Table, c: Mapping[str, torch.Tensor]) -> None:
        def own(name: str) -> torch.Tensor:
            factors = [c[f"{device}.{name}"] for device in table.device_names]
            return c[name] * torch.stack(factors)

        vector = table.of_devices(lambda device: device.fp32_flops_per_second)
        tensor = table.of_devices(
            lambda device: device.fp16_flops_per_second or device.fp32_flops_per_second
        )
        full, half = (
            table.of_devices(lambda device, half=half: power_headroom(device, half=half))
            for half in (False, True)
        )
        self._vector = own("vector") * vector * full ** c["power"]
        self._tensor = own("tensor") * tensor * half ** c["power"]
        self._bandwidth = own("bandwidth") * table.of_devices(
            lambda device: device.bandwidth_bytes_per_second
        )
        self._cache = table.of_devices(lambda device: device.l2_bytes)
        self._processors = table.of_devices(lambda device: device.sm_count)

    def of(self, device: torch.Tensor, is_half: torch.Tensor) -> Rates:
        vector = self._vector[device]
        return Rates(
            compute=torch.where(is_half, self._tensor[device], vector),
            vector=vector,
            bandwidth=self._bandwidth[device],
            cache_bytes=self._cache[device],
            processors=self._processors[device],
            copies_layout=is_half.double(),
        )


# ------------------------------------------------------------------------------ tables


def collect(cache: Path | None) -> dict[str, list[tuple[TimeCase, Features]]]:
    """Return the eager cases of each set whose data is there; models that fail are left out."""
    found = {}
    for name, cases in SETS.items():
        if name in NOT_FITTED:
            continue
        if not (DATA / FILES[name]).is_file():
            print(f"skipped: {FILES[name]} is not beside the repository")
            continue
        kept: list[tuple[TimeCase, Features]] = []
        for case in cases(DATA):
            if not isinstance(case, TimeCase) or case.compiled:
                continue
            try:
                kept.append((case, features_of(case, cache)))
            except Exception as error:  # one that fails is a line of the output
                print(f"left out: {case.id}: {type(error).__name__}: {str(error)[:90]}")
        if kept:
            found[name] = kept
    return found


def tables(found: Mapping[str, Sequence[tuple[TimeCase, Features]]]) -> dict[str, Table]:
    """Return the sets as arrays of the default dtype."""
    return {
        name: Table([case for case, _ in kept], [item for _, item in kept])
        for name, kept in found.items()
    }


# ------------------------------------------------------------------------------ output


_HEAD = """\
# Coefficients of the predicted time; docs/time.md explains them. Written by make calibrate.
# Fitted {when} on cases of: {counts}.
# Efficiencies are shares of what the device sustains; *_us are microseconds.
"""


def write(fit: Fit, x: torch.Tensor, errors: Mapping[str, float], path: Path, when: str) -> None:
    """Write the table of coefficients; ``errors`` are the uncertainties to state."""
    values = fit.coefficients(x)
    counts = ", ".join(f"{name} {len(table.cases)}" for name, table in fit.tables.items())
    lines: list[Sequence[object]] = [
        (name, f"{values[name]:.4g}", prior.expected, prior.spread, "all", prior.meaning)
        for name, prior in PRIORS.items()
    ]
    for name in fit.names[len(PRIORS) :]:
        device, _, shared = name.rpartition(".")
        if math.isclose(values[name], values[shared], rel_tol=1e-3):
            continue  # no kernel of the device's rows depends on it
        sets = [label for label, table in fit.tables.items() if device in table.device_names]
        lines.append((name, f"{values[name]:.4g}", f"{values[shared]:.4g}", OWN_SPREAD,
                      "; ".join(sets), f"as {shared}, of this device"))  # fmt: skip
    for name, row in FIXED.items():
        value = errors.get(name, row.value)
        lines.append((name, value, value, 0, "", row.meaning))
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(_HEAD.format(when=when, counts=counts))
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "value", "expected", "spread", "fitted_on", "meaning"))
        writer.writerows(lines)


def main(arguments: list[str] | None = None) -> int:
    """Fit, print the agreement, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, help="keep traces in this directory")
    parser.add_argument("--output", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    found = collect(options.cache)
    if found:
        fitted_and_written(found, options.output)
    return 0


def fitted_and_written(
    found: Mapping[str, Sequence[tuple[TimeCase, Features]]], output: Path
) -> None:
    """Fit, print how that agrees with the data seen and not seen, and write both tables."""
    torch.set_default_dtype(torch.float64)  # of the fit, not of the models
    fit = Fit(tables(found))
    x = fit.run()
    rows = []
    for row in (*agreement(fit, x), *validated(fit)):
        print(line(row), flush=True)
        rows.append(row)
    write(fit, x, stated_errors(rows), output, datetime.now(tz=UTC).date().isoformat())
    write_agreement(rows)


if __name__ == "__main__":
    sys.exit(main())
