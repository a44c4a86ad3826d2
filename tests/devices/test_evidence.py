"""What is known of each rate: measured on the GPU, on a sibling, or stated by the maker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from torchgauge.devices import Device, all_devices, find_device
from torchgauge.devices.evidence import Evidence, Rate, evidence_of, evidence_text, factor_of

COMMON = {"tensor": 0.9, "vector": 0.8, "bandwidth": 0.7}
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
        ("RTX 3070", Rate.BANDWIDTH, Evidence.DATASHEET),  # GDDR6, not GDDR6X
    ],
)
def test_each_rate_has_its_own_evidence(name: str, rate: Rate, evidence: Evidence) -> None:
    assert evidence_of(find_device(name), rate, RTX_3090) is evidence


def test_error_correction_makes_another_memory() -> None:
    t4 = {**COMMON, "T4.bandwidth": 0.8}
    assert evidence_of(find_device("RTX 2080"), Rate.BANDWIDTH, t4) is Evidence.DATASHEET


def test_a_published_figure_of_an_architecture_is_a_siblings() -> None:
    hopper = {**COMMON, "Hopper.tensor": 0.82}
    h100 = find_device("H100-SXM")
    assert evidence_of(h100, Rate.TENSOR, hopper) is Evidence.SIBLING
    assert factor_of(h100, Rate.TENSOR, hopper) == 0.82


def test_a_chip_family_is_narrower_than_an_architecture() -> None:
    found = {**COMMON, "8.6.vector": 0.72, "Ampere.vector": 0.95}
    assert factor_of(find_device("RTX A6000"), Rate.VECTOR, found) == 0.72
    assert factor_of(find_device("A100-SXM-80GB"), Rate.VECTOR, found) == 0.95


def test_memories_of_a_kind_reach_the_same_share() -> None:
    """That is no sibling's measurement: the chips around them differ."""
    found = {**COMMON, "HBM.bandwidth": 0.86, "GDDR6.bandwidth": 0.94}
    expected = {"A100-SXM-80GB": 0.86, "H200-SXM": 0.86, "L40": 0.94, "RTX 3090": 0.7, "T4": 0.94}
    for name, share in expected.items():
        assert factor_of(find_device(name), Rate.BANDWIDTH, found) == share, name
        assert evidence_of(find_device(name), Rate.BANDWIDTH, found) is Evidence.DATASHEET
        assert factor_of(find_device(name), Rate.VECTOR, found) == COMMON["vector"]


def test_a_memory_that_was_measured_on_other_chips_tells_more_than_all_memories() -> None:
    """It is no sibling's measurement; what is published of a kind of memory comes before it."""
    found = {**COMMON, "RTX 3090.bandwidth": 0.9}
    expected = {"RTX 4090": 0.9, "T4": COMMON["bandwidth"], "RTX 4060": COMMON["bandwidth"]}
    for name, share in expected.items():
        assert factor_of(find_device(name), Rate.BANDWIDTH, found) == pytest.approx(share), name
        assert evidence_of(find_device(name), Rate.BANDWIDTH, found) is Evidence.DATASHEET
    stated = {**found, "GDDR6X.bandwidth": 0.8}
    assert factor_of(find_device("RTX 4090"), Rate.BANDWIDTH, stated) == 0.8


def test_the_own_factor_comes_before_the_siblings_and_those_before_the_common_one() -> None:
    two = {**RTX_3090, "RTX 3080 10GB.tensor": 1.21}
    assert factor_of(find_device("RTX 3090"), Rate.TENSOR, two) == 1.1
    mean = factor_of(find_device("RTX 3070"), Rate.TENSOR, two)
    assert mean == pytest.approx((1.1 * 1.21) ** 0.5)
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
