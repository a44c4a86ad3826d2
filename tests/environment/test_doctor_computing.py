"""``torchgauge doctor``: checks that fail, come out wrong or hang."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from doctor_stage import COMPILER, RTX_3060, V100, Stage, only_error
from torchgauge.environment import Severity

pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="the staged driver is compiled, for Linux"
)


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
