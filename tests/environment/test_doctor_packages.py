"""``torchgauge doctor``: a torch that cannot be imported, and packages that do not fit."""

from __future__ import annotations

import os
import sys

import pytest

from doctor_stage import COMPILER, names, only_error
from torchgauge.environment import Severity

pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="the staged driver is compiled, for Linux"
)


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
    # More time is what may help against a hang, and not another installation.
    assert (finding.commands == ("torchgauge doctor --timeout 600",)) == (at_import == "hang")


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
