"""What is known of each rate: measured on the GPU, on a sibling, or stated by the maker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from torchgauge.devices import Device, all_devices, find_device
from torchgauge.devices.evidence import Evidence, Rate, evidence_of, evidence_text, factor_of

COMMON = {
    "tensor": 0.9, "tensor.geforce": 1.2, "vector": 0.8, "vector.one_issue": 0.75,
    "bandwidth": 0.7, "bandwidth.geforce": 1.1, "bandwidth.in_flight": 36.0,
}  # fmt: skip
RTX_3090 = {**COMMON, "RTX 3090.tensor": 1.1, "RTX 3090.bandwidth": 0.95}


@pytest.mark.parametrize(
    ("name", "rate", "evidence"),
    [
        ("RTX 3090", Rate.TENSOR, Evidence.MEASURED),
        ("RTX 3090", Rate.VECTOR, Evidence.DATASHEET),  # its rows tell nothing of it
        ("RTX 3070", Rate.TENSOR, Evidence.SIBLING),
        ("RTX A6000", Rate.TENSOR, Evidence.DATASHEET),  # whole tensor cores, not halved ones
        ("RTX 4090", Rate.TENSOR, Evidence.DATASHEET),
        ("RTX 3080 10GB", Rate.BANDWIDTH, Evidence.SIBLING),
        ("RTX 4090", Rate.BANDWIDTH, Evidence.SIBLING),  # the memory makes siblings, not the chip
        ("RTX 3070", Rate.BANDWIDTH, Evidence.DATASHEET),  # GDDR6, not GDDR6X
    ],
)
def test_each_rate_has_its_own_evidence(name: str, rate: Rate, evidence: Evidence) -> None:
    assert evidence_of(find_device(name), rate, RTX_3090) is evidence


def test_error_correction_makes_another_memory() -> None:
    t4 = {**COMMON, "T4.bandwidth": 0.8}
    assert evidence_of(find_device("RTX 2080"), Rate.BANDWIDTH, t4) is Evidence.DATASHEET


def test_a_published_figure_of_an_architecture_is_a_siblings() -> None:
    """A measured sibling moves it by a third of its distance, as the second of two siblings."""
    hopper = {**COMMON, "Hopper.tensor": 0.8}
    h100 = find_device("H100-SXM")
    assert evidence_of(h100, Rate.TENSOR, hopper) is Evidence.SIBLING
    assert factor_of(h100, Rate.TENSOR, hopper) == pytest.approx(0.9 * 0.8)
    moved = {**hopper, "GH200-96GB.tensor": 0.9 * 0.8 * 0.729}
    assert factor_of(h100, Rate.TENSOR, moved) == pytest.approx(0.9 * 0.8 * 0.9)


def test_a_chip_family_is_narrower_than_an_architecture() -> None:
    found = {**COMMON, "8.6.vector": 0.5, "Ampere.vector": 1.0}
    assert factor_of(find_device("RTX A6000"), Rate.VECTOR, found) == 0.4
    assert factor_of(find_device("A100-SXM-80GB"), Rate.VECTOR, found) == 0.8


def expected(name: str, rate: Rate) -> float:
    return factor_of(find_device(name), rate, COMMON)


def test_a_geforce_clocks_beyond_what_is_listed() -> None:
    assert expected("RTX 4090", Rate.TENSOR) == pytest.approx(0.9 * 1.2)
    assert expected("RTX 6000 Ada", Rate.TENSOR) == expected("RTX 4090 Laptop", Rate.TENSOR) == 0.9
    memory = expected("RTX 4090", Rate.BANDWIDTH) / expected("RTX 6000 Ada", Rate.BANDWIDTH)
    assert memory == pytest.approx(1.1, rel=0.01)


@pytest.mark.parametrize(
    ("name", "shared"),
    [("V100-PCIe-32GB", False), ("T4", False), ("A100-SXM-40GB", False), ("P4", False),
     ("RTX A6000", True), ("L4", True), ("H100-SXM", True), ("RTX 5090", True),
     ("Jetson AGX Orin 64GB", True), ("MI250", False)],
)  # fmt: skip
def test_float32_shares_the_issue_of_instructions_where_a_scheduler_has_32_lanes(
    name: str, shared: bool
) -> None:
    assert expected(name, Rate.VECTOR) == pytest.approx(0.8 * (0.75 if shared else 1.0))


def test_a_multiprocessor_moves_no_more_than_it_has_in_flight() -> None:
    """4,000 GB/s on 132 multiprocessors are 30.3 on each, where 36 are the most."""
    reached = 0.7 / (1 + (4000 / 132 / 36) ** 2) ** 0.5
    assert expected("GH200-96GB", Rate.BANDWIDTH) == pytest.approx(reached)
    in_order = ["B200", "GH200-96GB", "A100-SXM-80GB", "V100-PCIe-32GB", "L4"]
    shares = [expected(name, Rate.BANDWIDTH) for name in in_order]
    assert shares == sorted(shares)
    assert 0.98 * 0.7 < shares[-1] < 0.7


def test_one_sibling_tells_half_of_its_distance_and_two_tell_two_thirds() -> None:
    two = {**RTX_3090, "RTX 3080 10GB.tensor": 1.21}
    assert factor_of(find_device("RTX 3090"), Rate.TENSOR, two) == 1.1
    common = 0.9 * 1.2
    one = factor_of(find_device("RTX 3070"), Rate.TENSOR, RTX_3090)
    assert one == pytest.approx(common * (1.1 / common) ** 0.5)
    both = factor_of(find_device("RTX 3070"), Rate.TENSOR, two)
    assert both == pytest.approx(common * (1.1 * 1.21 / common**2) ** (1 / 3))
    assert factor_of(find_device("RTX A6000"), Rate.TENSOR, two) == 0.9


@pytest.mark.parametrize(
    ("field", "rate"),
    [
        ("measured_fp32_flops_per_second", Rate.VECTOR),
        ("measured_fp16_flops_per_second", Rate.TENSOR),
        ("measured_bf16_flops_per_second", Rate.TENSOR),
        ("measured_bandwidth_bytes_per_second", Rate.BANDWIDTH),
    ],
)
def test_what_the_user_measured_is_measured_and_nothing_else(field: str, rate: Rate) -> None:
    device: Device = replace(find_device("RTX A4000"), **{field: 1e12})
    found = [item for item in Rate if evidence_of(device, item, COMMON) is Evidence.MEASURED]
    assert found == [rate]


def test_every_rate_of_every_device_has_its_evidence() -> None:
    for device in all_devices():
        for rate in Rate:
            assert evidence_of(device, rate, RTX_3090) in Evidence
            assert factor_of(device, rate, RTX_3090) > 0


def test_the_text_names_only_cores_that_are_there() -> None:
    assert evidence_text(find_device("GTX 1080 Ti"), RTX_3090) == (
        "rates of GTX 1080 Ti: fp32 cores and memory by its datasheet alone"
    )
    assert evidence_text(find_device("RTX 3080 10GB"), RTX_3090) == (
        "rates of RTX 3080 10GB: tensor cores and memory measured on a sibling, "
        "fp32 cores by its datasheet alone"
    )
