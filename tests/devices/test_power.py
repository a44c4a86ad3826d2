"""The watts of a board for what it computes, compared with the boards of the catalogue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from torchgauge.devices import all_devices, find_device
from torchgauge.devices.device import Arithmetic
from torchgauge.devices.power import (
    _median_per_clock,
    _median_per_flop,
    _most_per_clock,
    family_of,
    headroom,
    share_of_full_rate,
)
from torchgauge.devices.user_file import VARIABLE


@pytest.mark.parametrize("name", ["T4", "L4", "A10", "RTX PRO 6000 Blackwell Max-Q"])
@pytest.mark.parametrize("arithmetic", [Arithmetic.FP32, Arithmetic.FP16])
def test_a_board_with_little_power_for_its_rate(name: str, arithmetic: Arithmetic) -> None:
    assert headroom(find_device(name), arithmetic) < 0.6


@pytest.mark.parametrize("name", ["RTX 2080", "RTX 3080 10GB", "A100-SXM-80GB", "H100-SXM"])
@pytest.mark.parametrize("arithmetic", [Arithmetic.FP32, Arithmetic.FP16])
def test_an_ordinary_board(name: str, arithmetic: Arithmetic) -> None:
    assert headroom(find_device(name), arithmetic) == pytest.approx(1.0, abs=0.1)


def test_halved_tensor_cores_need_half_of_the_watts_per_clock() -> None:
    whole = find_device("RTX A5000")
    rate = whole.fp16_flops_per_second
    assert rate is not None
    halved = replace(whole, fp16_flops_per_second=rate / 2)
    assert share_of_full_rate(halved, Arithmetic.FP16) == pytest.approx(0.5, rel=0.05)
    few = replace(halved, tdp_watts=100)
    assert headroom(few, Arithmetic.FP16) == pytest.approx(
        2 * headroom(replace(whole, tdp_watts=100), Arithmetic.FP16), rel=0.05
    )
    assert headroom(few, Arithmetic.FP32) == headroom(
        replace(whole, tdp_watts=100), Arithmetic.FP32
    )


def test_without_tensor_cores_the_format_does_not_matter() -> None:
    """Half-precision rates of other chips once made a P100 slower in fp16 than in fp32."""
    old = [device for device in all_devices() if not device.has_tensor_cores]
    assert len(old) > 20
    for device in old:
        assert headroom(device, Arithmetic.FP16) == headroom(device, Arithmetic.FP32), device.name


def test_fewer_cores_in_a_multiprocessor_need_less() -> None:
    """An A100 of 250 W computes in float32 at its full rate."""
    assert headroom(find_device("A100-PCIe-40GB"), Arithmetic.FP32) == 1.0


def test_a_device_on_a_board_with_others_has_its_part_of_the_watts() -> None:
    boards = {"K80": 300, "M60": 300, "A16": 250, "MI250": 500, "MI250X": 500}
    for name, watts in boards.items():
        of_one = find_device(name).tdp_watts
        assert of_one is not None
        assert of_one <= watts / 2


@pytest.mark.parametrize(
    ("field", "arithmetic"),
    [
        ("tdp_watts", Arithmetic.FP32),
        ("tdp_watts", Arithmetic.FP16),
        ("fp32_flops_per_second", Arithmetic.FP32),
        ("sm_count", Arithmetic.FP16),
        ("boost_clock_hz", Arithmetic.FP16),
    ],
)
def test_without_a_figure_nothing_is_taken_off(field: str, arithmetic: Arithmetic) -> None:
    assert headroom(replace(find_device("L4"), **{field: None}), arithmetic) == 1.0


def test_a_family_is_one_of_the_same_multiprocessors() -> None:
    assert family_of(find_device("A100-SXM-80GB")) != family_of(find_device("RTX 3090"))
    assert family_of(find_device("P100-PCIe-16GB")) != family_of(find_device("P40"))


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
    _median_per_clock.cache_clear()
    _median_per_flop.cache_clear()
    _most_per_clock.cache_clear()
    assert find_device("Own 1").tdp_watts == 9000
    assert headroom(t4, Arithmetic.FP32) == before
