"""The catalogue of devices: plausible rows with sources, found by any usual spelling of a name."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest

from torchgauge.devices import Arithmetic, Kind, all_devices, find_device, search_devices
from torchgauge.devices.device import MINIMUM_CAPABILITY
from torchgauge.devices.names import keys
from torchgauge.devices.usable import USABLE_SHARE, MemoryClass, memory_class
from torchgauge.errors import DeviceError, UsageError

GIB = 1 << 30


@pytest.fixture(autouse=True)
def no_user_files(monkeypatch, tmp_path):
    """No file of whoever runs the tests changes what they see."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TORCHGAUGE_DEVICES", raising=False)


@pytest.fixture
def own(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "torchgauge-devices.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# ---------------------------------------------------------------------------- rows


def test_there_are_many_devices_of_each_kind():
    devices = all_devices()
    assert len(devices) >= 60
    for kind in Kind:
        assert kind is Kind.OTHER or sum(device.kind is kind for device in devices) >= 10


@pytest.mark.parametrize("device", all_devices(), ids=lambda device: device.name)
def test_row_is_plausible_and_has_its_sources(device):
    assert device.sources
    assert all(len(source) > 10 for source in device.sources)
    assert device.read_on is not None
    assert date(2025, 1, 1) <= device.read_on
    assert 2 * GIB <= device.memory_bytes <= 300 * GIB
    assert 0.9 <= device.usable_memory_bytes / device.memory_bytes <= 1.0
    assert 20e9 <= device.bandwidth_bytes_per_second <= 9e12
    assert device.fp32_flops_per_second is not None
    assert 0.2e12 <= device.fp32_flops_per_second <= 200e12
    assert (device.compute_capability is None) == (device.vendor != "NVIDIA")
    assert device.unified_memory == (device.kind is Kind.EDGE)
    for arithmetic in device.lacks:
        assert device.peak_rate(arithmetic) is None
    if device.boost_clock_hz is not None:
        assert 0.5e9 <= device.boost_clock_hz <= 3.2e9
    if device.released is not None:
        assert 2012 <= device.released.year <= device.read_on.year


@pytest.mark.parametrize("device", all_devices(), ids=lambda device: device.name)
def test_rates_stand_in_the_order_that_hardware_has(device):
    order = (Arithmetic.TF32, Arithmetic.FP16, Arithmetic.FP8)
    rates = [rate for item in order if (rate := device.peak_rate(item)) is not None]
    assert rates == sorted(rates)
    if device.bf16_flops_per_second is not None and device.name != "MI100":
        # MI100: AMD states half the rate for bf16.
        assert device.bf16_flops_per_second == device.fp16_flops_per_second


def test_names_are_unique():
    names = [keys(device.name)[0] for device in all_devices()]
    assert len(set(names)) == len(names)


def test_every_device_is_found_by_its_own_name_and_aliases():
    for device in all_devices():
        assert find_device(device.name) is device
        for alias in device.aliases:
            found = find_device(alias, memory_bytes=device.usable_memory_bytes)
            assert found is device, alias


def test_published_rates_agree_with_sms_times_clock():
    """The rule for tensor cores gives what the makers state where both are known."""
    known = {"A100-SXM-40GB": 1024, "T4": 512, "A10": 512, "A40": 512, "L4": 512, "RTX A6000": 512}
    for name, per_clock in known.items():
        device = find_device(name)
        assert "fp16_flops_per_second" not in device.derived
        by_rule = device.sm_count * per_clock * 2 * device.boost_clock_hz
        assert device.fp16_flops_per_second == pytest.approx(by_rule, rel=0.04), name


def test_half_precision_before_volta_is_multiplied_in_float32():
    for device in all_devices():
        if (device.compute_capability or (7, 0)) < (7, 0) and Arithmetic.FP16 not in device.lacks:
            assert device.fp16_flops_per_second == device.fp32_flops_per_second, device.name
            assert "fp16_flops_per_second" in device.derived
            assert not device.has_tensor_cores


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("GTX 1660 Ti", False),
        ("RTX 2060 6GB", True),
        ("T4", True),
        ("Jetson Xavier NX 8GB", True),
        ("RTX 3090", True),
        ("P100-PCIe-16GB", False),
    ],
)
def test_which_gpus_have_tensor_cores(name, has):
    assert find_device(name).has_tensor_cores is has


def test_rates_by_rule_say_so():
    # NVIDIA's GA102 whitepaper: 71 TFLOPS with float32 accumulation.
    rtx3090 = find_device("RTX 3090")
    assert rtx3090.fp16_flops_per_second == pytest.approx(71e12, rel=0.01)
    assert "fp16_flops_per_second" in rtx3090.derived
    assert "fp32_flops_per_second" not in rtx3090.derived


@pytest.mark.parametrize("kind", MemoryClass)
def test_share_of_usable_memory_is_the_median_of_the_measured_devices(kind):
    shares = [
        device.usable_memory_bytes / device.memory_bytes
        for device in all_devices()
        if device.usable_is_measured
        and kind
        is memory_class(
            vendor=device.vendor,
            kind=device.kind,
            memory_type=device.memory_type,
            unified=device.unified_memory,
        )
    ]
    assert len(shares) >= 3
    assert statistics.median(shares) == pytest.approx(USABLE_SHARE[kind], abs=0.0006)


def test_a_measured_memory_is_kept_and_a_derived_one_is_named():
    assert find_device("T4").usable_memory_bytes == 15835594752
    assert find_device("T4").usable_is_measured
    assert not find_device("RTX 4090").usable_is_measured


# ---------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("T4", "T4"),
        ("Tesla T4", "T4"),
        ("rtx 3060", "RTX 3060 12GB"),
        ("NVIDIA GeForce RTX 3060", "RTX 3060 12GB"),
        ("RTX-3060-12GB", "RTX 3060 12GB"),
        ("rtx3060 12 GB", "RTX 3060 12GB"),
        ("rtx 3060 8gib", "RTX 3060 8GB"),
        ("3060ti", "RTX 3060 Ti"),
        ("4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop"),
        ("RTX 4070 mobile", "RTX 4070 Laptop"),
        ("NVIDIA A100-SXM4-40GB", "A100-SXM-40GB"),
        ("A100 80GB PCIe", "A100-PCIe-80GB"),
        ("a100-80gb-sxm", "A100-SXM-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("H200", "H200-SXM"),
        ("Tesla V100-SXM2-16GB", "V100-SXM2-16GB"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA TITAN RTX", "TITAN RTX"),
        ("GeForce GTX 1080 Ti", "GTX 1080 Ti"),
        ("orin nano 8gb", "Jetson Orin Nano 8GB"),
        ("NVIDIA Jetson AGX Orin 64GB Developer Kit", "Jetson AGX Orin 64GB"),
        ("AMD Radeon RX 7900 XTX", "RX 7900 XTX"),
        ("rx7900xtx", "RX 7900 XTX"),
        ("AMD Instinct MI300X", "MI300X"),
        ("NVIDIA GH200 480GB", "GH200-96GB"),
        ("GH200 144GB", "GH200-144GB"),
        ("NVIDIA B200 SXM", "B200"),
        ("GB200 SXM", "GB200"),
        ("RTX PRO 6000 Max-Q", "RTX PRO 6000 Blackwell Max-Q"),
        ("RTX 2080 Super Max-Q", "RTX 2080 SUPER Max-Q"),
        ("NVIDIA GeForce RTX 2070 with Max-Q Design", "RTX 2070 Max-Q"),
        ("NVIDIA RTX 5000 Ada Generation Laptop GPU", "RTX 5000 Ada Laptop"),
        ("NVIDIA GeForce RTX 5080 Laptop GPU", "RTX 5080 Laptop"),
    ],
)
def test_a_device_is_found_by_usual_spellings(spelling, name):
    assert find_device(spelling).name == name


@pytest.mark.parametrize(
    ("driver", "memory", "name"),
    [
        ("NVIDIA GeForce RTX 3060", 8 * GIB, "RTX 3060 8GB"),
        ("NVIDIA GeForce RTX 3060", 12 * GIB, "RTX 3060 12GB"),
        ("NVIDIA GeForce RTX 4060 Ti", 16 * GIB, "RTX 4060 Ti 16GB"),
        ("Orin", 65_893_089_280, "Jetson AGX Orin 64GB"),
        ("Xavier", 8_140_709_888, "Jetson Xavier NX 8GB"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 16 * GIB, "RTX 3080 Laptop 16GB"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 8 * GIB, "RTX 3080 Laptop"),
    ],
)
def test_memory_decides_between_variants_of_one_driver_name(driver, memory, name):
    assert find_device(driver, memory_bytes=memory).name == name


def test_an_ambiguous_name_lists_its_variants():
    with pytest.raises(DeviceError) as caught:
        find_device("A100")
    assert str(caught.value) == (
        "'A100' names 4 devices: A100-PCIe-40GB, A100-SXM-40GB, A100-PCIe-80GB, A100-SXM-80GB\n"
        "  try: name one of them"
    )


def test_a_long_list_of_variants_is_cut():
    with pytest.raises(DeviceError, match=r"names 15 devices: .* and 7 more"):
        find_device("Jetson")


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UsageError) as caught:
        find_device("RTX 3065")
    assert str(caught.value) == (
        "there is no device 'RTX 3065'; did you mean RTX 3060 12GB, RTX 3060 Ti or RTX 5060?\n"
        "  try: `torchgauge devices` lists them all; "
        "one of your own goes into torchgauge-devices.toml"
    )


@pytest.mark.parametrize("name", ["", "  ", "NVIDIA", "-", "quantum brick", "显卡", "𝟛" * 500])
def test_a_name_without_meaning_is_an_error(name):
    with pytest.raises(DeviceError, match="there is no device"):
        find_device(name)


def test_search_wants_every_word():
    assert [device.name for device in search_devices("Orin 64")] == ["Jetson AGX Orin 64GB"]
    assert all(device.kind is Kind.LAPTOP for device in search_devices("laptop"))
    assert search_devices("orin hopper") == ()


# ---------------------------------------------------------------------------- precision


@pytest.mark.parametrize(
    ("device", "precision", "fallback"),
    [
        ("T4", "bf16", "fp16"),
        ("T4", "bf16-autocast", "fp16"),
        ("V100-PCIe-16GB", "tf32", "fp32"),
        ("K80", "fp16", "fp32"),
        ("K80", "bf16", "fp32"),
        ("A100-SXM-40GB", "fp8", "bf16"),
        ("RX 6800 XT", "bf16", "fp16"),
        ("MI250", "fp8", "bf16"),
    ],
)
def test_a_missing_precision_names_its_fallback(device, precision, fallback):
    support = find_device(device).supports(precision)
    assert not support
    assert support.fallback == fallback


@pytest.mark.parametrize(
    ("device", "precision"),
    [("T4", "fp16"), ("A100-SXM-40GB", "tf32"), ("L4", "fp8"), ("K80", "fp32"), ("H200", "bf16")],
)
def test_a_precision_that_is_there(device, precision):
    support = find_device(device).supports(precision)
    assert support
    assert support.fallback is None


def test_the_reason_says_which_capability_is_needed():
    assert find_device("T4").supports("bf16").reason == (
        "T4 has no bf16 arithmetic (compute capability 8.0 has it, this is 7.5); "
        "torch emulates it, slowly"
    )


def test_an_unknown_precision_is_a_value_error():
    with pytest.raises(ValueError, match="fp12"):
        find_device("T4").supports("fp12")


def test_what_nvidia_devices_lack_follows_from_their_capability():
    for device in all_devices():
        if device.compute_capability is not None:
            missing = {
                a for a, has in MINIMUM_CAPABILITY.items() if device.compute_capability < has
            }
            assert set(device.lacks) == missing, device.name


# ---------------------------------------------------------------------------- the user's own


def test_a_device_of_the_user(own):
    own(
        '[[device]]\nname = "Lab card"\nbased_on = "rtx 4090"\nmemory_gib = 48\n'
        'fp8_tflops = false\naliases = ["The Beast"]\n'
    )
    found = find_device("the beast")
    base = find_device("RTX 4090")
    assert found.name == "Lab card"
    assert found.memory_bytes == 48 * GIB
    assert found.usable_memory_bytes == int(48 * GIB * USABLE_SHARE[MemoryClass.GDDR]) >> 20 << 20
    assert found.bandwidth_bytes_per_second == base.bandwidth_bytes_per_second
    assert found.lacks == (Arithmetic.FP8,)
    assert found.sources == ("torchgauge-devices.toml",)
    assert all_devices()[0] is not base


def test_a_device_from_nothing(own):
    own(
        '[[device]]\nname = "Board"\nmemory_gib = 16\nbandwidth_gb_s = 204.8\nkind = "edge"\n'
        'unified_memory = true\ncompute_capability = "7.2"\nreleased = 2026-01-02\n'
    )
    board = find_device("Board")
    assert board.lacks == (Arithmetic.TF32, Arithmetic.BF16, Arithmetic.FP8)
    assert board.derived == ("usable_memory_bytes",)
    assert board.released == date(2026, 1, 2)
    assert board.fp32_flops_per_second is None


def test_another_capability_changes_what_is_lacking(own):
    own(
        '[[device]]\nname = "Old"\nbased_on = "RTX 4090"\ncompute_capability = "7.5"\n'
        '[[device]]\nname = "New"\nbased_on = "T4"\ncompute_capability = "9.0"\n'
    )
    assert find_device("Old").lacks == (Arithmetic.TF32, Arithmetic.BF16, Arithmetic.FP8)
    assert find_device("Old").bf16_flops_per_second is None
    assert find_device("New").lacks == ()


def test_a_device_may_hide_one_of_the_list_and_build_on_it(own):
    own('[[device]]\nname = "T4"\nbased_on = "Tesla T4"\nbandwidth_gb_s = 300\n')
    assert find_device("t4").bandwidth_bytes_per_second == 300e9
    assert sum(device.name == "T4" for device in all_devices()) == 1


def test_the_variable_wins_over_the_folder_and_that_over_home(own, tmp_path, monkeypatch):
    def text(name, memory):
        return f'[[device]]\nname = "{name}"\nmemory_gib = {memory}\nbandwidth_gb_s = 100\n'

    home = tmp_path / "home" / ".config" / "torchgauge" / "devices.toml"
    home.parent.mkdir(parents=True)
    home.write_text(text("A1", 3) + text("A2", 3) + text("A3", 3))
    own(text("A1", 4) + text("A2", 4))
    given = tmp_path / "given.toml"
    given.write_text(text("A1", 5))
    monkeypatch.setenv("TORCHGAUGE_DEVICES", str(given))
    sizes = [find_device(name).memory_bytes // GIB for name in ("A1", "A2", "A3")]
    assert sizes == [5, 4, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[device]\n", "is not TOML"),
        ('[[gpu]]\nname = "x"\n', "gpu is not known here"),
        ("device = 3\n", "device is not known here"),
        ("device = [3]\n", "device 1 is not a table"),
        ("[[device]]\nmemory_gib = 8\n", r"device 1: name: missing"),
        ('[[device]]\nname = "x"\nbandwidth_gb_s = 1\n', r"device 'x': memory_gib: missing"),
        ('[[device]]\nname = "x"\nmemory_gib = -8\n', r"memory_gib: -8 is not a number above 0"),
        ('[[device]]\nname = "x"\nmemory_gib = "8 GB"\n', r"memory_gib: '8 GB' is not a number"),
        ('[[device]]\nname = "x"\nmemory_gib = nan\n', r"memory_gib: nan is not a number above"),
        ('[[device]]\nname = "x"\nmemory_gib = true\n', r"memory_gib: True is not a number"),
        ('[[device]]\nname = "x"\nkind = "toaster"\n', r"kind: 'toaster' is not one of datacenter"),
        ('[[device]]\nname = "x"\nmemory = 8\n', r"memory: unknown field; the fields are name"),
        ('[[device]]\nname = "x"\ncompute_capability = 8\n', r"'?8'? is not a compute capability"),
        ('[[device]]\nname = 3\n', r"name: 3 is not text"),
        ('[[device]]\nname = "x"\naliases = 3\n', r"aliases: 3 is not a list of text"),
        ('[[device]]\nname = "x"\nunified_memory = 1\n', r"unified_memory: 1 is neither true"),
        ('[[device]]\nname = "x"\nreleased = "soon"\n', r"released: Invalid isoformat"),
        ('[[device]]\nname = "x"\nbased_on = "RTX 3065"\n', r"based_on: there is no device"),
        ('[[device]]\nname = "x"\nbased_on = 3\n', r"based_on: 3 is not a text"),
    ],
)  # fmt: skip
def test_a_bad_file_names_itself_and_the_field(own, text, message):
    path = own(text)
    with pytest.raises(DeviceError, match=message) as caught:
        find_device("T4")
    assert path.name in str(caught.value)


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "torchgauge-devices.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeviceError, match=r"cannot read torchgauge-devices\.toml"):
        all_devices()


def test_a_missing_file_in_the_variable_is_an_error(monkeypatch):
    monkeypatch.setenv("TORCHGAUGE_DEVICES", "/nowhere/devices.toml")
    with pytest.raises(DeviceError, match=r"no file /nowhere/devices\.toml\n.*TORCHGAUGE_DEVICES"):
        find_device("T4")


# ---------------------------------------------------------------------------- the package


def test_the_documented_examples_are_right(own):
    page = Path(__file__).parents[2] / "docs" / "devices.md"
    parts = page.read_text(encoding="utf-8").split("```toml\n")[1:]
    example = "\n".join(part.split("```")[0] for part in parts)
    names = [entry["name"] for entry in tomllib.loads(example)["device"]]
    own(example)
    assert [find_device(name).name for name in names] == names


@pytest.mark.timed
def test_reading_the_devices_is_fast():
    """20 ms is the aim; the bound here is wide, for a machine under load."""
    code = (
        "import torchgauge.devices.catalog as c, time\n"
        "start = time.perf_counter(); c.all_devices(); print(time.perf_counter() - start)"
    )
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(runs) < 0.1
