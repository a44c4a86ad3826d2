"""The model of time as a function of all coefficients at once, and its fit on tables of cases.

The loss is the logarithm of predicted ÷ measured, absolute beyond a few percent, plus how far each
coefficient goes from what the hardware's documentation says (``PRIORS``): a coefficient that the
data does not determine stays where it is. Each rate of a device has two factors beside what is
expected of such a board (``devices.evidence``): one that it shares with its siblings, and its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields

import torch

from benchmarks.time_sets.features import APART, Group, Table
from benchmarks.time_sets.priors import FIXED, OWN_COMPILED, OWN_SPREAD, PRIORS
from torchgauge.devices import Device
from torchgauge.devices.evidence import Rate, factor_of, kin
from torchgauge.estimate.time.gpu.cost import Rates, kernel_time
from torchgauge.estimate.time.gpu.device_model import COMPILED, of_compiled, rate_of
from torchgauge.estimate.time.gpu.rates import rates_of

WEIGHTS = {"neusight": 6.0, "neusight L4 and P100": 6.0, "lambda": 6.0}
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
        self.shared = _shared(tables)
        owned = list(dict.fromkeys(name for names in self.shared.values() for name in names))
        if any(table.is_compiled for table in tables.values()):
            owned += [f"{COMPILED}.{name}" for name in OWN_COMPILED]
        self.names = [*PRIORS, *owned]
        expected = [math.log(prior.expected) for prior in PRIORS.values()]
        spread = [prior.spread for prior in PRIORS.values()]
        self.start = torch.tensor(expected + [0.0] * len(owned))
        self.spread = torch.tensor(
            spread
            + [OWN_COMPILED[name.partition(".")[2]] if name.startswith(COMPILED)
               else OWN_SPREAD[name.rpartition(".")[2]] for name in owned]
        )  # fmt: skip

    def values(self, x: torch.Tensor, without: Collection[str] = ()) -> dict[str, torch.Tensor]:
        """Return the coefficients by name; devices' own ones are whole values, not factors.

        Devices ``without`` measurements get none of their own.
        """
        c = {name: torch.tensor(row.value) for name, row in FIXED.items()}
        c.update(zip(self.names, x.exp(), strict=True))
        for name in self.names:
            if name.startswith(f"{COMPILED}."):
                c[name] = c[name] * c[name.removeprefix(f"{COMPILED}.")]
        own = {
            f"{device.name}.{rate}": c[of_kin] * c[of_board] * factor_of(device, rate, c)  # type: ignore[arg-type]
            for (device, rate), (of_kin, of_board) in self.shared.items()
            if device.name not in without
        }
        return c | own

    def times(
        self, table: Table, c: Mapping[str, torch.Tensor]
    ) -> Iterator[tuple[Group, torch.Tensor]]:
        """Yield the seconds of all kernels of a table, kind by kind."""
        c = of_compiled(c) if table.is_compiled else c
        found = [rates_of(device, arithmetic, c, is_portable=portable)
                 for device, arithmetic, portable in table.rates]  # fmt: skip
        columns = {
            item.name: torch.stack([torch.as_tensor(getattr(rates, item.name)) for rates in found])
            for item in fields(Rates)
        }
        for group in table.groups:
            rates = Rates(**{name: column[group.rate] for name, column in columns.items()})
            total = kernel_time(group.kind, group.work, rates, c).total
            yield group, total[group.which] * group.count

    def predict(self, table: Table, c: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the seconds of each case of a table."""
        total = table.fresh_gib * c["driver.allocation_ms_per_gib"] / 1e3
        for group, seconds in self.times(table, c):
            total = total.index_add(0, group.case, seconds)
        return total

    def run(self, masks: Mapping[str, torch.Tensor] | None = None) -> torch.Tensor:
        """Return the logarithms of the coefficients that fit the rows that ``masks`` leave."""
        x = self.start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=_RATE)
        for step in range(_STEPS):
            if step == int(0.7 * _STEPS):
                optimizer.param_groups[0]["lr"] = _RATE / 5
            loss = 0.5 * (((x - self.start) / self.spread) ** 2).sum()
            c = self.values(x)
            for name, table in self.tables.items():
                error = (self.predict(table, c) / table.seconds).log()
                if masks is not None:
                    error = error[masks[name]]
                soft = torch.sqrt(error**2 + _SOFT**2) - _SOFT
                loss = loss + WEIGHTS.get(name.removesuffix(APART), 1.0) * _SHARPNESS * soft.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return x.detach()

    def coefficients(self, x: torch.Tensor) -> dict[str, float]:
        """Return the coefficients by name; devices' own ones are whole values, not factors."""
        return {name: float(value) for name, value in self.values(x).items()}


def _shared(tables: Mapping[str, Table]) -> dict[tuple[Device, Rate], tuple[str, str]]:
    """Return the factors of each device's rate that rows depend on: its siblings' and its own."""
    found: dict[tuple[Device, Rate], tuple[str, str]] = {}
    for table in tables.values():
        for group in table.groups:
            for place in group.rate.unique().tolist():
                device, arithmetic, _ = table.rates[place]
                rate = rate_of(group.kind, arithmetic)
                of_kin = f"kin {'-'.join(map(str, kin(device, rate)))}.{rate}"
                found[device, rate] = of_kin, f"board {device.name}.{rate}"
    return found
