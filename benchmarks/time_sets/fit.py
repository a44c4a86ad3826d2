"""The model of time as a function of all coefficients at once, and its fit on tables of cases.

The loss is the logarithm of predicted ÷ measured, absolute beyond a few percent, plus how far each
coefficient goes from what the hardware's documentation says (``PRIORS``): a coefficient that the
data does not determine stays where it is. Devices have factors of their own for three rates, held
near those of all devices; a device without rows has the common ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from benchmarks.time_sets.features import Table, power_headroom
from benchmarks.time_sets.priors import FIXED, OWN, OWN_SPREAD, PRIORS
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
