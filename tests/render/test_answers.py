"""Devices and the diagnosis of an environment as pages: exact goldens, in every format."""

from __future__ import annotations

import json
from datetime import date

import pytest
from rich.cells import cell_len

from torchgauge.devices import Device
from torchgauge.devices.catalog import LocalGpu
from torchgauge.devices.device import Kind
from torchgauge.environment.facts import (
    Check,
    Facts,
    Host,
    Import,
    Package,
    Python,
    Smi,
    SmiGpu,
    Space,
    Torch,
    TorchGpu,
)
from torchgauge.environment.findings import Diagnosis, Finding, Severity
from torchgauge.environment.page import doctor_page
from torchgauge.render import FORMATS, get_format
from torchgauge.render.pages.devices import DeviceList, devices_page

GIB = 2**30
FACTS = Facts(
    host=Host(
        system="Linux", machine="x86_64", container="Docker", cpus=8, memory_bytes=32 * GIB,
        available_memory_bytes=20 * GIB,
        shared_memory=Space(purpose="shared memory", path="/dev/shm", total_bytes=2**26),
    ),
    smi=Smi(
        driver="550.54.14",
        gpus=(
            SmiGpu(
                index=0, uuid="GPU-1", name="NVIDIA GeForce RTX 3060", capability=(8, 6),
                total_bytes=12 * GIB, free_bytes=11 * GIB,
            ),
        ),
    ),
    python=Python(
        version="3.11.7", executable="/opt/venv/bin/python",
        packages=(Package(name="numpy", version="2.1.0"),),
    ),
    torch=Torch(
        imported=Import(module="torch", ok=True, seconds=2.5), version="2.6.0+cu124", cuda="12.4",
        cudnn="90100", architectures=("sm_80", "sm_86", "sm_90"),
        gpus=(TorchGpu(index=0, name="NVIDIA GeForce RTX 3060"),),
    ),
    checks=(
        Check(device="cpu", name="matmul", ok=True),
        Check(device="cuda:0", name="matmul", ok=False, error="no kernel image"),
    ),
    variables={"CUDA_VISIBLE_DEVICES": "0"},
)  # fmt: skip
DIAGNOSIS = Diagnosis(
    facts=FACTS,
    findings=(
        Finding(
            name="torchvision-mismatch",
            severity=Severity.ERROR,
            problem="torchvision 0.28.0 does not work with torch 2.6.0.",
            evidence=(
                "torchvision is built for cu130, torch for cu124",
                "import torchvision: RuntimeError:\noperator torchvision::nms does not exist",
            ),
            fix="install the torchvision of this torch, or remove it if nothing needs it",
            commands=(
                "uv pip install --python /opt/venv/bin/python --reinstall "
                '--torch-backend=cu124 "torchvision==0.21.*"',
            ),
            alternative=("/opt/venv/bin/python -m pip uninstall -y torchvision",),
        ),
        Finding(
            name="shared-memory-small",
            severity=Severity.WARNING,
            problem="/dev/shm holds 64.00 MiB: data loaders with workers stop when it is full.",
        ),
    ),
)
HEALTHY = Diagnosis(facts=FACTS, findings=())
CARD = Device(
    name="RTX 9000",
    vendor="Maker",
    kind=Kind.CONSUMER,
    architecture="Example",
    compute_capability=(8, 6),
    memory_bytes=12 * GIB,
    memory_type="GDDR6",
    usable_memory_bytes=12_630_000_000,
    bandwidth_bytes_per_second=360e9,
    fp32_flops_per_second=12.7e12,
    sm_count=28,
    tdp_watts=170.0,
    released=date(2021, 2, 25),
)
DEVICES = DeviceList(
    devices=(CARD,),
    known=162,
    local=(
        LocalGpu(
            index=0, name="NVIDIA RTX 9000", total_bytes=12 * GIB, free_bytes=11 * GIB,
            read_with="nvidia-smi",
        ),
    ),
)  # fmt: skip
PAGES = {
    "doctor": lambda: doctor_page(DIAGNOSIS),
    "healthy": lambda: doctor_page(HEALTHY),
    "devices": lambda: devices_page(DEVICES),
}


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", PAGES)
def test_text(name, width, golden):
    shown = get_format("text", width=width).render(PAGES[name]())
    lines = [line for line in shown.splitlines() if "$ " not in line]
    assert max(map(cell_len, lines)) <= width
    golden(f"{name}_{width}.txt", shown)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "text"])
@pytest.mark.parametrize("name", ["doctor", "devices"])
def test_other_formats(name, format, golden):
    golden(f"{name}.{format}", get_format(format).render(PAGES[name]()))


def test_devices_as_json():
    assert json.loads(DEVICES.to_json())["devices"][0]["released"] == "2021-02-25"
