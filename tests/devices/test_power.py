"""Watts per FLOP, compared with the boards of the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchgauge.devices import find_device
from torchgauge.devices.device import Arithmetic
from torchgauge.devices.power import _siblings, headroom
from torchgauge.devices.user_file import VARIABLE


def test_a_board_with_little_power_for_its_rate() -> None:
    assert headroom(find_device("T4"), Arithmetic.FP32) < 0.6
    assert headroom(find_device("RTX 2080"), Arithmetic.FP32) == pytest.approx(1.0, abs=0.1)


def test_devices_of_the_user_do_not_change_that_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t4 = find_device("T4")
    before = headroom(t4, Arithmetic.FP32)
    path = tmp_path / "devices.toml"
    boards = (
        f'[[device]]\nname = "Own {number}"\nbased_on = "T4"\ntdp_watts = 9000\n'
        for number in range(40)
    )
    path.write_text("\n".join(boards))
    monkeypatch.setenv(VARIABLE, str(path))
    _siblings.cache_clear()
    assert find_device("Own 1").tdp_watts == 9000
    assert headroom(t4, Arithmetic.FP32) == before
