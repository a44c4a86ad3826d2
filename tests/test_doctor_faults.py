"""``torchgauge doctor``: faults whose repair cannot be staged, warnings, and things that die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from doctor_stage import COMPILER, RTX_3060, V100, Gpu, Stage
from test_doctor import names, only_error
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


# ---------------------------------------------------------------------------- computing


@pytest.mark.parametrize(
    ("fault", "error", "hint"),
    [
        ("allocation", "CUDA out of memory. Tried to allocate 64 MiB", "free memory"),
        ("convolution", "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", "put cuDNN back"),
        ("matmul", "CUBLAS_STATUS_EXECUTION_FAILED", "report this"),
        ("all-reduce", "NCCL Error 2: unhandled system error", "NCCL_DEBUG=INFO"),
    ],
)
def test_a_failed_check_is_an_error_with_a_hint(machine, fault, error, hint):
    machine.install_torch(faults={fault: error})
    diagnosis = machine.diagnose()
    finding = only_error(diagnosis)
    assert finding.name == "check-failed"
    assert fault in finding.problem
    assert error in finding.evidence[0]
    assert hint in finding.fix
    passed = {check.name for check in diagnosis.facts.checks if check.ok}
    assert passed == {"allocation", "matmul", "convolution", "all-reduce"} - {fault}


def test_wrong_results_are_seen(machine):
    machine.install_torch(faults={"equal": "no"})
    errors = machine.diagnose().of(Severity.ERROR)
    assert [finding.name for finding in errors] == ["check-failed", "check-failed"]
    for finding, check in zip(errors, ("matmul", "convolution"), strict=True):
        assert finding.problem == f"The {check} test on cuda:0 failed."
        assert finding.evidence == ("Wrong: 3 of 65536 elements are wrong",)
        assert "faulty" in finding.fix


def test_a_wrong_sum_over_the_gpus_is_seen(machine):
    machine.plug_in(RTX_3060, RTX_3060)
    machine.install_driver()
    machine.install_torch(faults={"sum": "no"})
    finding = only_error(machine.diagnose())
    assert finding.problem == "The all-reduce test on cuda failed."
    assert "the sum over all ranks must be 3, and is {4.0}" in finding.evidence[0]


def test_a_hanging_all_reduce_is_ended_with_all_its_processes(machine):
    machine.plug_in(RTX_3060, RTX_3060)
    machine.install_driver()
    machine.install_torch(faults={"all-reduce": "hang"})
    diagnosis = machine.diagnose(time_limit_s=3)
    finding = only_error(diagnosis)
    assert finding.name == "check-failed"
    assert "did not answer within the time limit during all-reduce" in finding.evidence[0]
    assert nothing_is_left_of(machine)


def test_an_interrupted_doctor_leaves_no_process_behind(machine):
    machine.install_torch(at_import="hang")
    process = subprocess.Popen(
        [sys.executable, "-m", "torchgauge", "doctor", "--python", machine.python],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(machine.site), *sys.path])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=machine.cwd,
    )
    deadline = time.monotonic() + 30
    while not any("torch_build.py" in line for line in alive(machine)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, b"torchgauge: interrupted\n")
    assert nothing_is_left_of(machine)


def nothing_is_left_of(stage: Stage) -> bool:
    """Wait until every killed process is gone: on a busy machine that is not at once."""
    deadline = time.monotonic() + 10
    while alive(stage) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(stage)


def alive(stage: Stage) -> list[str]:
    """Return the command lines of the processes that run a stage's interpreter."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_text().replace("\0", " "))
    return [line for line in lines if line.startswith(stage.python) and "probes" in line]


def test_checks_that_a_known_fault_explains_are_not_reported_again(machine):
    machine.plug_in(V100)
    machine.install_driver("580.65.06", 13000)
    machine.install_torch("2.13.0", "cu130")
    diagnosis = machine.diagnose()
    assert [check.ok for check in diagnosis.facts.checks].count(False) >= 3
    assert only_error(diagnosis).name == "gpu-not-in-build"


# ---------------------------------------------------------------------------- importing torch


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("libcublas.so.*[0-9] not found in the system path", "cuda-wheels-missing"),
        ("libcudnn.so.9: cannot open shared object file", "cuda-wheels-missing"),
        ("libtorch_cuda.so: undefined symbol: ncclCommRegister", "foreign-cuda-library"),
        ("/lib/libc.so.6: version `GLIBC_2.28' not found", "system-too-old"),
        ("libtorch_cpu.so: undefined symbol: iJIT_NotifyEvent", "mkl-too-new"),
        ("libgomp.so.1: cannot allocate memory in static TLS block", "static-tls"),
        ("numpy.core.multiarray failed to import", "numpy-too-new"),
        ("libtorch_cpu.so: cannot open shared object file", "torch-incomplete"),
        ("something nobody has seen", "torch-import-failed"),
    ],
)
def test_messages_of_a_failed_import(machine, said, name):
    machine.install_torch(at_import=said)
    diagnosis = machine.diagnose()
    finding = only_error(diagnosis)
    assert finding.name == name
    assert said in " ".join(finding.evidence)
    assert diagnosis.facts.checks == ()


def test_missing_cuda_wheels_are_named_and_installing_them_helps(machine):
    needs = ('nvidia-cublas-cu12==12.4.5.8; platform_system == "Linux"', "nvidia-nccl-cu12==2.21.5")
    machine.install_torch(at_import="libcublas.so.*[0-9] not found in the system path")
    machine.metadata("torch", "2.6.0+cu124", requires=needs)
    machine.metadata("nvidia-nccl-cu12", "2.21.5")
    finding = only_error(machine.diagnose())
    assert finding.commands == (f"{machine.python} -m pip install nvidia-cublas-cu12==12.4.5.8",)


@pytest.mark.parametrize(
    ("at_import", "how"),
    [("abort", "was killed by SIGABRT"), ("hang", "did not answer within the time limit")],
)
def test_a_torch_that_dies_or_hangs_is_a_finding(machine, at_import, how):
    machine.install_torch(at_import=at_import)
    diagnosis = machine.diagnose(time_limit_s=4)
    finding = only_error(diagnosis)
    assert finding.name == "torch-import-failed"
    assert f"the process {how} during import torch" in finding.evidence[0]


@pytest.mark.parametrize(
    ("signal_name", "name"), [("SIGILL", "cpu-too-old"), ("SIGKILL", "out-of-memory")]
)
def test_a_signal_tells_why_the_import_died(machine, signal_name, name):
    machine.install_torch(at_import=signal_name)
    finding = only_error(machine.diagnose())
    assert finding.name == name
    assert f"was killed by {signal_name}" in finding.evidence[0]


def test_a_torch_that_cannot_use_a_gpu_for_no_known_reason(machine):
    machine.install_torch(faults={"init": "CUDA unknown error"})
    finding = only_error(machine.diagnose())
    assert finding.name == "cuda-not-available"
    assert finding.evidence[0] == "torch: RuntimeError: CUDA unknown error"


def test_a_question_that_torch_fails_leaves_the_rest_known(machine):
    (machine.site / "torch/version.py").write_text("__version__ = '2.6.0'\n")
    torch = machine.diagnose(with_checks=False).facts.torch
    assert torch.imported.ok
    assert any("has no attribute 'cuda'" in problem for problem in torch.problems)


def test_a_torch_for_another_python(machine):
    machine.install_torch(at_import="No module named 'torch._C'")
    machine.metadata("torch", "2.6.0+cu124", tag="cp38-cp38-manylinux1_x86_64")
    finding = only_error(machine.diagnose())
    assert finding.name == "python-abi-mismatch"
    assert "cp38-cp38" in finding.evidence[0]


def test_a_broken_interpreter(machine):
    machine.python = "/bin/false"
    finding = only_error(machine.diagnose())
    assert finding.name == "interpreter-broken"
    machine.python = str(machine.folder / "no-such-python")
    finding = only_error(machine.diagnose())
    assert finding.name == "interpreter-broken"
    assert "could not be started" in finding.evidence[0]


# ---------------------------------------------------------------------------- packages


def test_a_torchvision_of_another_build(machine):
    machine.install_companion("torchvision", "0.21.0", "cpu", "2.6.0")
    finding = only_error(machine.diagnose())
    assert finding.name == "torchvision-mismatch"
    assert "torchvision is built for cpu, torch for cu124" in finding.evidence
    assert '--torch-backend=cu124 "torchvision==0.21.*"' in finding.commands[0]


def test_a_torchvision_that_fails_for_another_reason(machine):
    machine.install_companion("torchvision", "0.21.0", "cu124", "2.6.0")
    (machine.site / "torchvision/__init__.py").write_text("import no_such_module\n")
    finding = only_error(machine.diagnose())
    assert finding.name == "torchvision-import-failed"


def test_a_companion_that_kills_the_process_keeps_nothing_else_from_being_seen(machine):
    machine.install_companion("torchvision", "0.21.0", "cu124", "2.6.0")
    machine.install_companion("torchaudio", "2.6.0", "cu124", "2.6.0")
    (machine.site / "torchvision/__init__.py").write_text("import os\nos.abort()\n")
    diagnosis = machine.diagnose()
    assert only_error(diagnosis).name == "torchvision-import-failed"
    assert [item.ok for item in diagnosis.facts.torch.companions] == [False, True]
    assert diagnosis.facts.torch.gpus


def test_torchaudio_from_2_11_on_serves_newer_torches(machine):
    machine.install_torch("2.13.0", "cu126")
    machine.uninstall("torchaudio")
    machine.metadata("torchaudio", "2.11.0")
    (machine.site / "torchaudio").mkdir()
    (machine.site / "torchaudio/__init__.py").write_text("__version__ = '2.11.0+cu126'\n")
    assert names(machine.diagnose(with_checks=False)) == []
    machine.uninstall("torchaudio")
    machine.metadata("torchaudio", "2.10.0")
    (machine.site / "torchaudio").mkdir()
    (machine.site / "torchaudio/__init__.py").write_text("raise OSError('undefined symbol')\n")
    assert only_error(machine.diagnose(with_checks=False)).name == "torchaudio-mismatch"


@pytest.mark.parametrize(
    ("torch", "package", "version"),
    [
        ("2.2.2", "numpy", "2.1.0"),
        ("2.4.0", "transformers", "4.52.3"),
        ("2.9.1", "nvidia-cudnn-cu12", "9.10.2.21"),
    ],
)
def test_known_bad_combinations(machine, torch, package, version):
    machine.install_torch(torch, "cu126")
    machine.metadata(package, version)
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["known-bad-combination"]
    assert version in diagnosis.findings[0].problem


def test_a_package_that_asks_for_another_torch(machine):
    machine.metadata("xformers", "0.0.30", requires=("torch (==2.7.0)", "numpy"))
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["package-wants-other-torch"]
    assert "xformers 0.0.30 asks for torch ==2.7.0" in diagnosis.findings[0].problem


def test_a_changed_cudnn(machine):
    machine.metadata("torch", "2.6.0+cu124", requires=("nvidia-cudnn-cu12 (==9.1.0.70)",))
    machine.metadata("nvidia-cudnn-cu12", "9.8.0.87")
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["cuda-wheels-changed"]
    machine.execute(diagnosis.findings[0].commands[0])
    assert names(machine.diagnose(with_checks=False)) == []


CUDA_13 = (
    'cuda-toolkit[cudart,cufft]==13.0.2; platform_system == "Linux"',
    'nvidia-cublas<=13.1.1.3,>=13.1.0.3; platform_system == "Linux"',
    'nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"',
    'nvidia-cuda-nvrtc-cu12==12.6.77; platform_system == "Windows"',
)
"""From the metadata of torch 2.12.0."""


def test_the_wheels_of_cuda_13_belong_together_with_and_without_a_suffix(machine):
    machine.install_driver("580.65.06", 13000)
    machine.install_torch("2.12.0", "cu130")
    machine.metadata("torch", "2.12.0+cu130", requires=CUDA_13)
    for name, version in {
        "cuda-toolkit": "13.0.2",
        "nvidia-cuda-runtime": "13.0.96",
        "nvidia-cublas": "13.1.1.3",
        "nvidia-cufft": "12.0.0.61",
        "nvidia-cudnn-cu13": "9.20.0.48",
    }.items():
        machine.metadata(name, version)
    assert names(machine.diagnose(with_checks=False)) == []
    machine.metadata("nvidia-nccl-cu12", "2.26.2")
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["mixed-cuda-wheels"]
    assert diagnosis.findings[0].severity is Severity.WARNING
    machine.metadata("nvidia-cudnn-cu12", "9.5.1.17")
    finding = only_error(machine.diagnose(with_checks=False))
    assert "installed twice: nvidia-cudnn" in finding.evidence
    assert finding.commands == (
        f"{machine.python} -m pip uninstall -y nvidia-cudnn-cu12 nvidia-nccl-cu12",
        f"{machine.python} -m pip install --force-reinstall --no-deps "
        "'nvidia-cublas<=13.1.1.3,>=13.1.0.3' nvidia-cudnn-cu13==9.20.0.48",
    )


def test_torch_installed_twice(machine, tmp_path):
    other = tmp_path / "other"
    folder = other / "torch-2.5.1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.5.1\n")
    machine.environ["PYTHONPATH"] += os.pathsep + str(other)
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["torch-installed-twice"]
    assert f"torch 2.5.1 in {other}" in diagnosis.findings[0].evidence


# ---------------------------------------------------------------------------- settings and room


@pytest.mark.parametrize(
    ("value", "is_right"),
    [
        ("max_split_size_mb:128,expandable_segments:True", True),
        ("backend:cudaMallocAsync", True),
        ("expandable_segments:true", False),
        ("max_split_size_mb=128", False),
        ("max_split_size_mb:4", False),
    ],
)
def test_allocator_settings(machine, value, is_right):
    machine.environ["PYTORCH_CUDA_ALLOC_CONF"] = value
    found = names(machine.diagnose(with_checks=False))
    assert found == ([] if is_right else ["allocator-settings-invalid"])


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


# ---------------------------------------------------------------------------- nothing there


def test_an_empty_machine_is_examined_all_the_same(tmp_path, bare_python):
    stage = Stage(tmp_path / "stage", bare_python)
    for path in stage.root.iterdir():
        subprocess.run(["rm", "-r", str(path)], check=True, timeout=10)
    stage.environ.clear()
    diagnosis = stage.diagnose()
    assert names(diagnosis) == ["torch-missing", "no-gpu"]


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
