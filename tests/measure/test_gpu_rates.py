"""Measuring a GPU's rates, on one that a clock stands for."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchgauge.cli.main import main
from torchgauge.devices import find_device
from torchgauge.devices.evidence import Evidence, Rate, evidence_of
from torchgauge.devices.tables import coefficients
from torchgauge.errors import DeviceError
from torchgauge.estimate.time.gpu import DeviceModel
from torchgauge.estimate.time.gpu.cost import kernel_time
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.measure import gpu_rates
from torchgauge.measure.gpu_rates import CudaMachine, measured_rates

TFLOPS = {torch.float32: 50.0, torch.float16: 100.0, torch.bfloat16: 90.0}
GIB = 1 << 30


class Clock:
    """A GPU whose work takes what its rates say; it is faster before it is warm."""

    def __init__(self, name: str = "NVIDIA GeForce RTX 4080", gib: int = 16) -> None:
        self.name, self.total_bytes = name, gib * GIB
        self.dtypes: list[torch.dtype] = []
        self.largest, self.on_for = 0, 0.0

    def product(self, dtype: torch.dtype, side: int) -> Callable[[], float]:
        assert torch.get_float32_matmul_precision() == "highest"
        self.dtypes.append(dtype)
        self.largest = max(self.largest, 3 * side**2 * dtype.itemsize)
        return lambda: 2 * side**3 / (TFLOPS[dtype] * 1e12)

    def copy(self, nbytes: int) -> Callable[[], float]:
        self.largest = max(self.largest, 2 * nbytes)
        return lambda: 2 * nbytes / 600e9

    def seconds(self, run: Callable[[], object], times: int) -> float:
        seconds = run()
        assert isinstance(seconds, float)
        took = times * seconds * (0.5 if self.on_for < 0.5 else 1.0)
        self.on_for += took
        return took


@pytest.fixture(autouse=True)
def no_user_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TORCHGAUGE_DEVICES", raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(gpu_rates, "CudaMachine", lambda: found)
    return found


def home_file(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".config" / "torchgauge" / "devices.toml"


def test_rates_are_work_by_time_once_the_gpu_is_warm() -> None:
    device, fields = measured_rates(Clock())
    assert device.name == "RTX 4080"
    assert fields == pytest.approx({
        "measured_fp32_tflops": 50, "measured_fp16_tflops": 100, "measured_bf16_tflops": 90,
        "measured_bandwidth_gb_s": 600,
    })  # fmt: skip


def test_the_precision_of_products_is_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    measured_rates(Clock())
    assert torch.get_float32_matmul_precision() == before


def test_only_what_the_hardware_has_is_timed() -> None:
    old, older = Clock("Tesla T4", 15), Clock("Tesla K80", 11)
    assert "measured_bf16_tflops" not in measured_rates(old)[1]
    assert set(measured_rates(older)[1]) == {"measured_fp32_tflops", "measured_bandwidth_gb_s"}
    assert older.dtypes == [torch.float32]


@pytest.mark.parametrize("gib", [2, 4, 24])
def test_little_of_the_memory_is_used(gib: int) -> None:
    small = Clock("NVIDIA GeForce GTX 1050", gib)
    measured_rates(small)
    assert 0 < small.largest <= gib * GIB / 8


def test_without_a_gpu_it_says_what_to_do() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(DeviceError, match=r"no CUDA GPU here to measure\n.*docs/devices\.md"):
        CudaMachine()


def test_an_unknown_gpu_is_an_error() -> None:
    with pytest.raises(DeviceError, match="no device 'Quantum brick'"):
        measured_rates(Clock("Quantum brick"))


# ------------------------------------------------------------------- the command and the file


def test_the_command_keeps_what_it_measured(clock: Clock, tmp_path: Path, capsys) -> None:
    assert main(["devices", "--measure", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "Measured · RTX 4080" in out
    assert "100.0 TFLOP/s" in out
    assert "600 GB/s" in out
    (entry,) = tomllib.loads(home_file(tmp_path).read_text())["device"]
    assert entry == {
        "name": "RTX 4080", "based_on": "RTX 4080", "measured_fp32_tflops": 50,
        "measured_fp16_tflops": 100, "measured_bf16_tflops": 90, "measured_bandwidth_gb_s": 600,
    }  # fmt: skip
    device = find_device("NVIDIA GeForce RTX 4080")
    assert device.measured_fp16_flops_per_second == 100e12
    for rate in Rate:
        assert evidence_of(device, rate, coefficients()) is Evidence.MEASURED


def test_measured_again_the_new_figures_take_the_place_of_the_old(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home_file(tmp_path)
    path.parent.mkdir(parents=True)
    other = '[[device]]\nname = "Other"\nbased_on = "T4"\nmeasured_fp32_tflops = 4\n'
    path.write_text(f'{other}\n[[device]]\nname = "rtx 4080"\nbased_on = "RTX 4080"\n'
                    "memory_gib = 15 # soldered\n")  # fmt: skip
    for tflops in (100.0, 80.0):
        monkeypatch.setitem(TFLOPS, torch.float16, tflops)
        main(["devices", "--measure", "--quiet"])
    text = path.read_text()
    assert text.startswith(other)
    assert "memory_gib = 15 # soldered" in text
    assert text.count("measured_fp16_tflops") == text.count("# measured ") == 1
    found = find_device("RTX 4080")
    assert (found.measured_fp16_flops_per_second, found.memory_bytes) == (80e12, 15 * GIB)
    assert find_device("Other").measured_fp32_flops_per_second == 4e12


def test_the_file_that_has_the_device_is_written(clock: Clock, tmp_path: Path) -> None:
    """A file in the working directory hides the one in the home."""
    here = tmp_path / "torchgauge-devices.toml"
    here.write_text('[[device]]\nname = "RTX 4080"\nbased_on = "RTX 4080"\n')
    main(["devices", "--measure", "--quiet"])
    assert "measured_fp16_tflops = 100" in here.read_text()
    assert not home_file(tmp_path).exists()


def test_json_has_the_device_and_the_file(clock: Clock, tmp_path: Path, capsys) -> None:
    main(["devices", "--measure", "--quiet", "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == str(home_file(tmp_path))
    assert found["device"]["measured_bandwidth_bytes_per_second"] == 600e9


def test_a_search_and_measure_contradict_each_other(clock: Clock, capsys) -> None:
    assert main(["devices", "4080", "--measure"]) == 2
    assert "--measure is about the GPU of this machine" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_an_error(clock: Clock, tmp_path: Path, capsys) -> None:
    (tmp_path / "home").write_text("a file")
    assert main(["devices", "--measure", "--quiet"]) == 2
    assert "cannot write" in capsys.readouterr().err


# ------------------------------------------------------------------------------ predictions


def test_the_measured_product_and_copy_take_their_time(clock: Clock) -> None:
    main(["devices", "--measure", "--quiet"])
    model = DeviceModel(device=find_device("RTX 4080"))
    side, nbytes = 16_384, 4e9
    for dtype, tflops in (("float32", 50), ("float16", 100), ("bfloat16", 90)):
        product = Work(kind=Kind.MATMUL, dtype=dtype, flops=2.0 * side**3, rows=side,
                       columns=side, inner=side)  # fmt: skip
        assert _seconds(model, product) == pytest.approx(2 * side**3 / tflops / 1e12, rel=0.02)
    copy = Work(kind=Kind.ELEMENTWISE, read_bytes=nbytes / 2, written_bytes=nbytes / 2)
    assert _seconds(model, copy) == pytest.approx(nbytes / 600e9, rel=0.02)


def _seconds(model: DeviceModel, work: Work) -> float:
    return float(kernel_time(work.kind, work, model.rates(work), model.coefficients).total)


def test_a_format_that_was_not_measured_goes_with_one_that_was(tmp_path: Path) -> None:
    (tmp_path / "torchgauge-devices.toml").write_text(
        '[[device]]\nname = "Mine"\nbased_on = "RTX 3090"\nmeasured_fp16_tflops = 60\n'
    )
    mine, plain = find_device("Mine"), find_device("RTX 3090")
    assert plain.fp16_flops_per_second is not None
    share = 60e12 / plain.fp16_flops_per_second
    product = Work(kind=Kind.MATMUL, dtype="float32")
    tf32 = DeviceModel(device=mine, tf32_matmul=True).rates(product).compute
    assert tf32 == pytest.approx(
        share * plain.tf32_flops_per_second / coefficients()["matmul.compute"]
    )
    fp32 = DeviceModel(device=mine).rates(product).compute
    assert fp32 != pytest.approx(share * plain.fp32_flops_per_second)


def test_a_device_based_on_a_measured_one_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "torchgauge-devices.toml").write_text(
        '[[device]]\nname = "A"\nbased_on = "T4"\nmeasured_fp32_tflops = 4\n'
        '[[device]]\nname = "B"\nbased_on = "A"\nsm_count = 20\n'
    )
    assert find_device("B").measured_fp32_flops_per_second is None
