"""``torchgauge doctor`` on staged machines: each fault named, nothing else, and its fix works."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from doctor_stage import COMPILER, RTX_3060, RTX_5090, V100, Stage, names, only_error

pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="the staged driver is compiled, for Linux"
)


def test_a_healthy_machine_has_no_findings(machine):
    diagnosis = machine.diagnose()
    assert names(diagnosis) == []
    assert {(check.device, check.name) for check in diagnosis.facts.checks} == {
        ("cuda:0", "allocation"),
        ("cuda:0", "matmul"),
        ("cuda:0", "convolution"),
        ("cuda", "all-reduce"),
    }
    assert all(check.ok for check in diagnosis.facts.checks)


# ---------------------------------------------------------------------------- faults


def no_driver(stage: Stage) -> None:
    stage.remove_driver()


def old_driver(stage: Stage) -> None:
    stage.install_driver("470.57.02", 11040)


def cpu_build(stage: Stage) -> None:
    stage.install_torch("2.13.0", "cpu")


def hidden_gpus(stage: Stage) -> None:
    stage.environ["CUDA_VISIBLE_DEVICES"] = ""


def gpu_7(stage: Stage) -> None:
    stage.environ["CUDA_VISIBLE_DEVICES"] = "7"


def other_torchvision(stage: Stage) -> None:
    stage.install_companion("torchvision", "0.22.0", "cu124", "2.7.0")


def container_without_gpus(stage: Stage) -> None:
    stage.file("/.dockerenv", "")
    stage.leave_gpus_outside()


def new_gpu(stage: Stage) -> None:
    stage.plug_in(RTX_5090)
    stage.install_driver("580.65.06", 13000)


def old_gpu(stage: Stage) -> None:
    stage.plug_in(V100)
    stage.install_driver("580.65.06", 13000)
    stage.install_torch("2.13.0", "cu130")


def mixed_wheels(stage: Stage) -> None:
    stage.metadata(
        "torch",
        "2.6.0+cu124",
        requires=(
            'nvidia-cublas-cu12 (==12.4.5.8) ; platform_system == "Linux"',
            'nvidia-cudnn-cu12 (==9.1.0.70) ; platform_system == "Linux"',
        ),
    )
    stage.metadata("nvidia-cublas-cu12", "12.4.5.8")
    stage.metadata("nvidia-cudnn-cu12", "9.1.0.70")
    stage.metadata("nvidia-cublas-cu11", "11.11.3.6")
    stage.metadata("nvidia-cudnn-cu11", "8.9.6.50")


def bad_allocator(stage: Stage) -> None:
    stage.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size:128"


def module_not_loaded(stage: Stage) -> None:
    stage.install_libraries(status=999)
    (stage.root / "proc/driver/nvidia/version").unlink()
    stage.file("/proc/modules", "ext4 1 0\n")


def full_gpu(stage: Stage) -> None:
    stage.gpus = (type(RTX_3060)(**{**vars(RTX_3060), "free_gib": 0}),)
    stage.write_smi(holders="GPU-0aa-bb, 4242, 12000, /usr/bin/python3\n")


def no_torch(stage: Stage) -> None:
    stage.uninstall("torch")


def shadowed_torch(stage: Stage) -> None:
    (stage.cwd / "torch.py").write_text("weights = 3\n")


def shadowed_module(stage: Stage) -> None:
    stage.install_torch(at_import="")
    (stage.cwd / "random.py").write_text("raise ImportError('not the real one')\n")
    package = stage.site / "torch/__init__.py"
    package.write_text("import random\n" + package.read_text())


FAULTS = [
    (no_driver, "driver-missing"),
    (old_driver, "driver-too-old"),
    (cpu_build, "cpu-build-on-gpu-machine"),
    (hidden_gpus, "visible-devices-empty"),
    (gpu_7, "visible-devices-wrong"),
    (other_torchvision, "torchvision-mismatch"),
    (container_without_gpus, "container-without-gpus"),
    (new_gpu, "gpu-not-in-build"),
    (old_gpu, "gpu-not-in-build"),
    (mixed_wheels, "mixed-cuda-wheels"),
    (bad_allocator, "allocator-settings-invalid"),
    (module_not_loaded, "driver-not-loaded"),
    (full_gpu, "gpu-memory-full"),
    (no_torch, "torch-missing"),
    (shadowed_torch, "torch-shadowed"),
    (shadowed_module, "standard-module-shadowed"),
]


@pytest.mark.parametrize(
    ("fault", "name"), FAULTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_fault_is_named_alone_and_its_fix_works(
    machine, fault: Callable[[Stage], None], name: str
):
    fault(machine)
    finding = only_error(machine.diagnose())
    assert finding.name == name
    assert finding.evidence
    assert finding.commands
    for command in finding.commands:
        machine.execute(command)
    after = machine.diagnose()
    assert names(after) == []
    assert after.facts.torch.gpus, "the GPU is still not usable"


def test_removing_a_torchvision_that_does_not_match_helps_too(machine):
    other_torchvision(machine)
    (command,) = only_error(machine.diagnose(with_checks=False)).alternative
    machine.execute(command)
    assert names(machine.diagnose()) == []
