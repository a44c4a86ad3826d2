"""``torchgauge doctor``: the driver, containers, visible devices, and machines with nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from doctor_stage import COMPILER, RTX_3060, V100, Stage, names, only_error
from torchgauge.environment import Severity
from torchgauge.environment.rules import find

pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="the staged driver is compiled, for Linux"
)


# ---------------------------------------------------------------------------- the driver


@pytest.mark.parametrize(
    ("status", "name", "command"),
    [
        (34, "cuda-stub-library", "unset LD_LIBRARY_PATH"),
        (46, "gpu-exclusive", "sudo nvidia-smi --compute-mode=DEFAULT"),
        (100, "driver-without-gpu", None),
        (802, "fabric-manager-not-running", "sudo systemctl enable --now nvidia-fabricmanager"),
        (803, "driver-library-mismatch", "sudo modprobe nvidia"),
        (804, "compat-library-not-supported", "sudo apt remove 'cuda-compat-*' && sudo ldconfig"),
        (999, "driver-broken", "sudo rmmod nvidia_uvm; sudo modprobe nvidia_uvm"),
        (701, "driver-broken", None),
    ],
)
def test_what_cuinit_returns_is_explained(machine, status, name, command):
    machine.install_libraries(status=status)
    diagnosis = machine.diagnose()
    finding = only_error(diagnosis)
    assert finding.name == name
    assert str(status) in " ".join(finding.evidence)
    assert command is None or command in finding.commands
    assert finding.fix


def test_nvidia_smi_alone_tells_of_a_mismatch(machine):
    message = "Failed to initialize NVML: Driver/library version mismatch"
    (machine.lib / "libcuda.so.1").unlink()
    machine.write_smi(message=message, status=18)
    finding = only_error(machine.diagnose())
    assert finding.name == "driver-library-mismatch"
    assert f"nvidia-smi: {message}" in finding.evidence
    assert "loaded kernel module: 550.54.14" in finding.evidence


@pytest.mark.parametrize(
    ("flag", "how"),
    [("-DDIES", "was killed by SIGABRT"), ("-DHANGS", "did not answer within the time limit")],
)
def test_a_driver_that_kills_or_hangs_is_a_finding(machine, flag, how):
    machine.install_libraries(flag)
    start = time.monotonic()
    diagnosis = machine.diagnose(time_limit_s=3)
    assert time.monotonic() - start < 30
    finding = only_error(diagnosis)
    assert finding.name == "driver-does-not-answer"
    assert how in finding.evidence[0]
    assert not diagnosis.facts.torch.gpus


def test_a_container_without_the_compute_capability(machine):
    machine.file("/.dockerenv", "")
    (machine.lib / "libcuda.so.1").unlink()
    machine.environ["NVIDIA_DRIVER_CAPABILITIES"] = "utility"
    finding = only_error(machine.diagnose())
    assert finding.name == "container-without-compute"
    assert "NVIDIA_DRIVER_CAPABILITIES is utility" in finding.evidence


@pytest.mark.parametrize(
    ("variables", "file", "runtime", "command"),
    [
        ({}, "/.dockerenv", "Docker", "docker run --gpus all …"),
        ({}, "/run/.containerenv", "Podman", "podman run --device nvidia.com/gpu=all …"),
        ({"APPTAINER_CONTAINER": "x.sif"}, None, "Apptainer", "apptainer exec --nv …"),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            "/.dockerenv",
            "Kubernetes",
            'resources: {limits: {"nvidia.com/gpu": 1}}',
        ),
    ],
)
def test_each_runtime_has_its_own_way_to_give_gpus(machine, variables, file, runtime, command):
    machine.leave_gpus_outside()
    machine.environ.update(variables)
    if file is not None:
        machine.file(file, "")
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "container-without-gpus"
    assert runtime in finding.problem
    assert finding.commands == (command,)


def test_a_cpu_build_in_a_container_without_gpus_is_no_fault(machine):
    """With `docker run` of an image for the CPU nobody meant the GPU to be used."""
    machine.leave_gpus_outside()
    machine.file("/.dockerenv", "")
    machine.install_torch("2.13.0", "cpu")
    diagnosis = machine.diagnose(with_checks=False)
    assert diagnosis.is_healthy
    assert names(diagnosis) == ["container-without-gpus"]
    assert find(diagnosis.facts, require_gpu=True)[0].severity is Severity.ERROR


def test_a_library_without_any_gpu_is_no_fault(bare):
    """Images bring libcuda or nvidia-smi along; on a machine without a GPU that says nothing."""
    bare.install_torch()
    bare.install_libraries(status=100)
    diagnosis = bare.diagnose(with_checks=False)
    assert diagnosis.is_healthy
    assert names(diagnosis) == ["no-gpu"]


def test_gpus_hidden_from_a_container_on_purpose(machine):
    machine.leave_gpus_outside()
    machine.file("/.dockerenv", "")
    machine.environ["NVIDIA_VISIBLE_DEVICES"] = "void"
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "container-without-gpus"
    assert "NVIDIA_VISIBLE_DEVICES=void" in finding.evidence
    assert "NVIDIA_VISIBLE_DEVICES=all" in finding.fix


def test_a_container_on_a_machine_without_a_driver_is_told_so(machine):
    machine.remove_driver()
    machine.file("/.dockerenv", "")
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "driver-missing"
    assert "on the machine that runs this container" in finding.fix


def test_what_the_build_has_kernels_for_is_known_without_a_driver(machine):
    """``torch.cuda.get_arch_list()`` is empty then, in the staged torch as in the real one."""
    machine.remove_driver()
    torch = machine.diagnose(with_checks=False).facts.torch
    assert (torch.gpus, torch.architectures[0]) == ((), "sm_50")


def test_nouveau_is_named(machine):
    machine.remove_driver()
    machine.file("/proc/modules", "nouveau 1 0\n")
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "driver-missing"
    assert "nouveau" in " ".join(finding.evidence)


def test_windows_subsystem_without_a_driver(bare):
    bare.install_torch()
    bare.file("/proc/version", "Linux version 5.15.0-microsoft-standard-WSL2\n")
    bare.file("/dev/dxg", "")
    finding = only_error(bare.diagnose(with_checks=False))
    assert finding.name == "driver-missing"
    assert "on Windows" in finding.fix
    assert finding.commands == ("wsl --shutdown",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every file")
def test_device_files_of_somebody_else(machine):
    machine.install_libraries(status=304)
    (machine.root / "dev/nvidia0").chmod(0)
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "gpu-access-denied"


# ---------------------------------------------------------------------------- what is visible


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("0", None),
        ("1,0", None),
        ("GPU-1", None),
        ("MIG-11aa", None),
        ("-1", "visible-devices-empty"),
        (" ", "visible-devices-empty"),
        ("0,7", "visible-devices-wrong"),
        ("all", "visible-devices-wrong"),
        ("cuda:0", "visible-devices-wrong"),
        ("GPU-77", "visible-devices-wrong"),
        ("0;1", "visible-devices-wrong"),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(machine, value, name):
    machine.plug_in(RTX_3060, RTX_3060)
    machine.install_driver()
    machine.environ["CUDA_VISIBLE_DEVICES"] = value
    found = [item.name for item in machine.diagnose(with_checks=False).of(Severity.ERROR)]
    # The staged driver knows numbers alone: what it does not know, torch cannot use.
    if name is None and not value[0].isdigit():
        assert "visible-devices-wrong" not in found
    else:
        assert found == ([] if name is None else [name])


def test_two_gpus_are_each_checked_and_summed_over(machine):
    machine.plug_in(RTX_3060, RTX_3060)
    machine.install_driver()
    diagnosis = machine.diagnose()
    assert names(diagnosis) == []
    reduced = [check for check in diagnosis.facts.checks if check.name == "all-reduce"]
    assert [check.detail for check in reduced] == ["nccl, 2 processes"]
    assert {check.device for check in diagnosis.facts.checks} == {"cuda:0", "cuda:1", "cuda"}


def test_gpus_of_two_kinds_have_two_orders(machine):
    machine.plug_in(RTX_3060, V100)
    machine.install_driver()
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["device-order-differs"]
    assert "cuda:1 is Tesla V100-SXM2-16GB" in diagnosis.findings[0].evidence
    machine.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # what the command sets
    assert names(machine.diagnose(with_checks=False)) == []


def test_one_gpu_of_two_is_too_old_for_the_build(machine):
    machine.plug_in(RTX_3060, V100)
    machine.install_driver("580.65.06", 13000)
    machine.install_torch("2.13.0", "cu130")
    finding = only_error(machine.diagnose())
    assert finding.name == "gpu-not-in-build"
    assert "Tesla V100" in finding.problem
    assert "--torch-backend=cu126" in finding.commands[0]


# ---------------------------------------------------------------------------- nothing there


def test_an_empty_machine_is_examined_all_the_same(tmp_path, bare_python):
    stage = Stage(tmp_path / "stage", bare_python)
    for path in stage.root.iterdir():
        subprocess.run(["rm", "-r", str(path)], check=True, timeout=10)
    stage.environ.clear()
    diagnosis = stage.diagnose()
    assert names(diagnosis) == ["torch-missing", "shared-memory-missing", "no-gpu"]


@pytest.mark.parametrize(
    ("output", "status"),
    [("", 0), ("garbage", 0), ("a, b\n1, 2, 3, 4, 5, 6, 7\n", 0), ("NVIDIA-SMI has failed", 9)],
)
def test_an_nvidia_smi_that_talks_nonsense_is_survived(machine, output, status):
    program = machine.bin / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{output}'\nexit {status}\n")
    program.chmod(0o755)
    assert machine.diagnose(with_checks=False).is_healthy


def test_an_old_driver_without_compute_cap_is_asked_again(machine):
    program = machine.bin / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\ncase $1 in *compute_cap*) echo \'Field "compute_cap" is not a valid field to '
        "query.'; exit 2;; *compute-apps*) ;; *) echo '0, GPU-1, 450.80.02, 12288, 12000, Old';; "
        "esac\n"
    )
    smi = machine.diagnose(with_checks=False).facts.smi
    assert [(gpu.name, gpu.capability) for gpu in smi.gpus] == [("Old", None)]
    assert smi.driver == "450.80.02"
