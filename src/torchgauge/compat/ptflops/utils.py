"""MACs and parameters as text, in ptflops' units."""

from __future__ import annotations

_MACS = {"GMac": 9, "MMac": 6, "KMac": 3}
_PARAMS = {"B": 9, "M": 6, "K": 3}
_PARAMS_CHOSEN = {"M": 6, "k": 3}
"""What is chosen where no unit is named: millions at most, and a small k."""


def flops_to_string(flops: float, units: str | None = None, precision: int = 2) -> str:
    """Return MACs with their unit.

    Args:
        flops: MACs.
        units: ``GMac``, ``MMac`` or ``KMac``; any other text means single MACs, ``None`` the
            largest unit of which there is one whole.
        precision: decimal places.

    >>> flops_to_string(4_089_184_256), flops_to_string(1500, "MMac", 4)
    ('4.09 GMac', '0.0015 MMac')
    """
    unit = _largest(flops, _MACS) if units is None else units
    return _scaled(flops, unit, _MACS, precision) or f"{flops} Mac"


def params_to_string(params_num: float, units: str | None = None, precision: int = 2) -> str:
    """Return a number of parameters with its unit.

    Args:
        params_num: parameters.
        units: ``B``, ``M`` or ``K``; any other text means single ones, ``None`` chooses ``M``,
            ``k`` or none.
        precision: decimal places.

    >>> params_to_string(25_557_032), params_to_string(1500), params_to_string(8)
    ('25.56 M', '1.5 k', '8')
    """
    unit = _largest(params_num, _PARAMS_CHOSEN) if units is None else units
    known = _PARAMS_CHOSEN if units is None else _PARAMS
    return _scaled(params_num, unit, known, precision) or str(params_num)


def _largest(value: float, units: dict[str, int]) -> str:
    return next((unit for unit, power in units.items() if value // 10**power > 0), "")


def _scaled(value: float, unit: str, units: dict[str, int], precision: int) -> str:
    """Return the value in a unit, ``""`` where the unit is not known."""
    power = units.get(unit)
    return "" if power is None else f"{round(value / 10.0**power, precision)} {unit}"
