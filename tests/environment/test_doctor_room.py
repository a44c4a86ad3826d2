"""``torchgauge doctor``: settings, memory, disks and limits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple

import pytest

from doctor_stage import COMPILER, Gpu, names, only_error
from torchgauge.environment import Severity

pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="the staged driver is compiled, for Linux"
)


@pytest.mark.parametrize(
    ("value", "is_right"),
    [
        ("max_split_size_mb:128,expandable_segments:True", True),
        ("backend:cudaMallocAsync", True),
        ("max_split_size_mb:128,backend:cudaMallocAsync", True),
        ("max_split_size_mb:128,", True),
        ("backend:hipMallocAsync", False),
        ("expandable_segments:true", False),
        ("max_split_size_mb=128", False),
        ("max_split_size_mb:4", False),
    ],
)
def test_allocator_settings(machine, value, is_right):
    machine.environ["PYTORCH_CUDA_ALLOC_CONF"] = value
    found = machine.diagnose(with_checks=False)
    assert names(found) == ([] if is_right else ["allocator-settings-invalid"])
    assert found.is_healthy == is_right


def test_a_torch_newer_than_the_rules_may_know_the_key(machine):
    machine.install_torch("2.99.0", "cu130")
    machine.install_driver("580.65.06", 13000)
    machine.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments_reserve:0.5"
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["allocator-settings-invalid"]
    assert diagnosis.is_healthy
    problem = diagnosis.findings[0].problem
    assert problem.startswith("torch 2.13 refuses") and "what 2.99 does is not known" in problem


def test_settings_under_a_name_that_this_torch_does_not_read(machine):
    machine.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["allocator-settings-not-read"]
    for command in diagnosis.findings[0].commands:
        machine.execute(command)
    assert machine.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert names(machine.diagnose(with_checks=False)) == []


def test_of_two_allocator_settings_the_first_is_read(machine):
    machine.install_torch("2.13.0", "cu126")
    machine.install_driver("580.65.06", 13000)
    machine.environ["PYTORCH_ALLOC_CONF"] = "nonsense:1"
    assert names(machine.diagnose(with_checks=False)) == ["allocator-settings-invalid"]
    machine.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["allocator-settings-not-read"]
    assert "PYTORCH_CUDA_ALLOC_CONF is set" in diagnosis.findings[0].problem
    machine.execute(diagnosis.findings[0].commands[0])
    assert names(machine.diagnose(with_checks=False)) == []


def test_settings_that_make_the_import_fail(machine):
    """From 2.10 on some malformed text is met while torch is imported: pytorch issue 186453."""
    said = 'INTERNAL ASSERT FAILED at "/pytorch/c10/core/AllocatorConfig.h":124'
    machine.install_torch("2.13.0", "cu126", at_import=said)
    machine.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments"
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "allocator-settings-invalid"
    assert "PYTORCH_CUDA_ALLOC_CONF=expandable_segments" in finding.evidence
    assert finding.commands == ("unset PYTORCH_CUDA_ALLOC_CONF",)


def test_a_cpu_build_does_not_read_allocator_settings(bare):
    bare.install_torch("2.13.0", "cpu")
    bare.environ["PYTORCH_CUDA_ALLOC_CONF"] = "nonsense:1"
    diagnosis = bare.diagnose(with_checks=False)
    assert diagnosis.is_healthy
    assert names(diagnosis) == ["allocator-settings-invalid", "no-gpu"]
    assert diagnosis.findings[0].severity is Severity.WARNING


def test_cuda_libraries_on_the_library_path(machine):
    (machine.root / "usr/local/cuda/lib64").mkdir(parents=True)
    (machine.root / "usr/local/cuda/lib64/libcudnn.so.8").touch()
    machine.environ["LD_LIBRARY_PATH"] += ":/usr/local/cuda/lib64"
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["library-path-has-cuda"]
    assert diagnosis.findings[0].evidence == ("/usr/local/cuda/lib64/libcudnn.so.8",)
    machine.execute(diagnosis.findings[0].commands[0])
    assert names(machine.diagnose(with_checks=False)) == []


def test_an_nvcc_of_another_major_version_is_a_notice(machine):
    program = machine.bin / "nvcc"
    program.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.48'\n")
    program.chmod(0o755)
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["toolkit-differs"]
    assert diagnosis.is_healthy


def test_a_debug_switch_left_on(machine):
    machine.environ["CUDA_LAUNCH_BLOCKING"] = "1"
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["debug-switch-on"]
    machine.execute(diagnosis.findings[0].commands[0])
    assert names(machine.diagnose(with_checks=False)) == []


def test_memory_that_another_process_holds(machine):
    machine.gpus = (Gpu(free_gib=4),)
    machine.file("/proc/4242/cmdline", "python\0train.py\0--epochs=90\0")
    machine.write_smi(
        holders="GPU-0aa-bb, 4242, 6000, python\nGPU-0aa-bb, 77, [N/A], [Not Found]\n"
    )
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["gpu-memory-held"]
    assert diagnosis.findings[0].evidence == (
        "process 4242, python train.py --epochs=90: 5.86 GiB",
        "process 77, outside this container: memory not known",
    )
    assert diagnosis.findings[0].commands == ("kill 4242",)


@pytest.fixture
def small_disk(monkeypatch):
    """Make a folder of a stage a small file system: a real one where that is allowed."""
    mounted = []

    def make(folder, megabytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=10, check=False)
        except OSError:
            done = None
        if done is not None and done.returncode == 0:
            mounted.append(folder)
        else:
            _pretend(monkeypatch, folder, megabytes)

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], timeout=10, check=True)


def _pretend(monkeypatch, folder, megabytes: int) -> None:
    from torchgauge.environment import host

    real, usage = host.shutil.disk_usage, namedtuple("usage", "total used free")
    size = megabytes << 20

    def disk_usage(path):
        inside = str(path).startswith(str(folder))
        return usage(size, 0, size) if inside else real(path)

    monkeypatch.setattr(host.shutil, "disk_usage", disk_usage)


def test_64_mib_of_shared_memory_in_a_container(machine, small_disk):
    machine.file("/.dockerenv", "")
    small_disk(machine.root / "dev/shm", 64)
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["shared-memory-small"]
    assert "/dev/shm has 64.00 MiB" in diagnosis.findings[0].problem
    assert diagnosis.findings[0].commands == ("docker run --shm-size=8g …",)
    small_disk(machine.root / "dev/shm", 8 << 10)  # what the command gives
    assert names(machine.diagnose(with_checks=False)) == []


def test_a_full_disk_for_the_caches_and_moving_them(machine, small_disk):
    small_disk(machine.root / "home/user/.cache", 1)
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "disk-full"
    assert "torch.hub downloads: /home/user/.cache/torch" in finding.evidence
    assert "pip cache purge" in finding.commands
    # The fix names these variables; all three caches of that disk are moved with them.
    for variable in ("TORCH_HOME", "HF_HOME", "PIP_CACHE_DIR"):
        assert variable in finding.fix
        machine.environ[variable] = "/tmp/caches"
    assert names(machine.diagnose(with_checks=False)) == []


def test_a_nearly_full_disk_is_a_warning(machine, small_disk):
    small_disk(machine.root / "tmp", 500)
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["disk-nearly-full"]
    assert diagnosis.is_healthy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_of_somebody_else(machine):
    (machine.root / "home/user").chmod(0o500)
    diagnosis = machine.diagnose(with_checks=False)
    (machine.root / "home/user").chmod(0o700)
    assert names(diagnosis) == ["cache-not-writable"]


def test_a_low_limit_of_open_files(machine):
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        diagnosis = machine.diagnose(with_checks=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert names(diagnosis) == ["open-files-limit-low"]
