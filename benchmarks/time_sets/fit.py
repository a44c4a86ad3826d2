"""The model of time as a function of all coefficients at once, and its fit on tables of cases.

The loss is the logarithm of predicted ÷ measured, absolute beyond a few percent, plus how far each
coefficient goes from what the hardware's documentation says (``PRIORS``): a coefficient that the
data does not determine stays where it is. Devices have factors of their own for three rates, held
near those of all devices; a device without rows has the common ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields

import torch

from benchmarks.time_sets.features import Table
from benchmarks.time_sets.priors import (
    COMPILED_SPREAD,
    FIXED,
    OWN,
    OWN_COMPILED,
    OWN_SPREAD,
    PRIORS,
)
from torchgauge.devices import find_device
from torchgauge.estimate.time.gpu.cost import Rates, kernel_time
from torchgauge.estimate.time.gpu.device_model import COMPILED, of_compiled
from torchgauge.estimate.time.gpu.rates import rates_of

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
        owned = [f"{device}.{name}" for device in self.devices for name in OWN]
        if any(table.is_compiled for table in tables.values()):
            owned += [f"{COMPILED}.{name}" for name in OWN_COMPILED]
        self.names = [*PRIORS, *owned]
        expected = [math.log(prior.expected) for prior in PRIORS.values()]
        spread = [prior.spread for prior in PRIORS.values()]
        self.start = torch.tensor(expected + [0.0] * len(owned))
        self.spread = torch.tensor(
            spread
            + [COMPILED_SPREAD if name.startswith(COMPILED) else OWN_SPREAD for name in owned]
        )

    def values(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the coefficients by name; devices' own ones are whole values, not factors."""
        c = {name: torch.tensor(row.value) for name, row in FIXED.items()}
        c.update(zip(self.names, x.exp(), strict=True))
        for name in self.names[len(PRIORS) :]:
            owner, _, shared = name.partition(".") if name.startswith(COMPILED) else _split(name)
            architecture = "" if owner == COMPILED else find_device(owner).architecture
            c[name] = c[name] * c.get(f"{architecture}.{shared}", c[shared])
        return c

    def predict(self, table: Table, x: torch.Tensor) -> torch.Tensor:
        """Return the seconds of each case of a table."""
        c: Mapping[str, torch.Tensor] = self.values(x)
        if table.is_compiled:
            c = of_compiled(c)
        found = [rates_of(device, arithmetic, c, is_portable=portable)
                 for device, arithmetic, portable in table.rates]  # fmt: skip
        columns = {
            item.name: torch.stack([torch.as_tensor(getattr(rates, item.name)) for rates in found])
            for item in fields(Rates)
        }
        total = table.fresh_gib * c["driver.allocation_ms_per_gib"] / 1e3
        for group in table.groups:
            rates = Rates(**{name: column[group.rate] for name, column in columns.items()})
            time = kernel_time(group.kind, group.work, rates, c)
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
        return {name: float(value) for name, value in self.values(x).items()}


def _split(name: str) -> tuple[str, str, str]:
    """Return a device's name and that of its coefficient; the first may hold a point."""
    return name.rpartition(".")
