"""``torchgauge doctor``: control groups, places without room, environments without pip."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from doctor_stage import COMPILER, names, only_error
from torchgauge.cli.main import main
from torchgauge.environment import Facts, Surroundings
from torchgauge.environment.facts import Host, Python, Space
from torchgauge.environment.host import read_host
from torchgauge.environment.limits import cpu_limit_of, memory_limit_of
from torchgauge.environment.page import doctor_page
from torchgauge.environment.rules import find
from torchgauge.environment.surroundings import scratch_folder
from torchgauge.render import get_format

pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="the staged driver is compiled, for Linux"
)

GIB = 1 << 30


# ---------------------------------------------------------------------------- control groups


def group(stage, own: str, files: dict[str, str]) -> Surroundings:
    stage.file("/proc/self/cgroup", own)
    for path, text in files.items():
        stage.file(f"/sys/fs/cgroup/{path}", text)
    return stage.surroundings()


@pytest.mark.parametrize(
    ("own", "files", "memory", "cpus"),
    [
        # Version 2: in a container the root, elsewhere the lowest limit on the way up.
        ("0::/\n", {"memory.max": "4294967296\n", "cpu.max": "150000 100000\n"}, 4 * GIB, 1.5),
        ("0::/\n", {"memory.max": "max\n", "cpu.max": "max 100000\n"}, None, None),
        (
            "0::/job/step\n",
            {
                "job/memory.max": str(2 * GIB),
                "job/step/memory.max": "max",
                "job/cpu.max": "4000 1000",
            },
            2 * GIB,
            4.0,
        ),
        # Version 1, seen from the host and from a container, where the path leads nowhere.
        (
            "4:memory:/docker/ab\n1:cpu,cpuacct:/docker/ab\n",
            {
                "memory/docker/ab/memory.limit_in_bytes": str(GIB),
                "cpu/docker/ab/cpu.cfs_quota_us": "50000",
                "cpu/docker/ab/cpu.cfs_period_us": "100000",
            },
            GIB,
            0.5,
        ),
        (
            "4:memory:/docker/ab\n1:cpu,cpuacct:/docker/ab\n",
            {
                "memory/memory.limit_in_bytes": str(GIB),
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            GIB,
            None,
        ),
        ("0::/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None, None),
        ("", {}, None, None),
        ("nonsense", {"memory.max": "", "cpu.max": "1"}, None, None),
        ("0::/\n", {"cpu.max": "1 0"}, None, None),
    ],
)
def test_what_a_control_group_may_use(bare, own, files, memory, cpus):
    surroundings = group(bare, own, files)
    assert memory_limit_of(surroundings) == memory
    assert cpu_limit_of(surroundings) == cpus


def test_more_threads_than_cpu_time_and_the_variable_that_helps(machine):
    group(machine, "0::/\n", {"cpu.max": "250000 100000\n", "memory.max": str(4 * GIB)})
    machine.file("/proc/meminfo", "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n")
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["threads-exceed-cpu-limit"]
    assert "8 threads on the CPU, and the time of 2.5 CPUs" in diagnosis.findings[0].problem
    text = get_format("text").render(doctor_page(diagnosis))
    assert "32.00 GiB, 16.00 GiB available · limited to 4.00 GiB" in text
    assert "limited to the time of 2.5" in text
    machine.execute(diagnosis.findings[0].commands[0])
    assert machine.environ["OMP_NUM_THREADS"] == "2"
    assert names(machine.diagnose(with_checks=False)) == []


# ---------------------------------------------------------------------------- places


def test_without_shared_memory_no_worker_starts(machine):
    (machine.root / "dev/shm").rmdir()
    diagnosis = machine.diagnose(with_checks=False)
    assert names(diagnosis) == ["shared-memory-missing"]
    assert "there is no /dev/shm" in diagnosis.findings[0].problem
    machine.file("/.dockerenv", "")
    assert machine.diagnose(with_checks=False).findings[0].commands == (
        "docker run --shm-size=8g …",
    )


def test_shared_memory_that_is_mounted_for_reading_only():
    space = Space(
        purpose="shared memory", path="/dev/shm", total_bytes=8 * GIB, free_bytes=8 * GIB,
        exists=True, writable=False, read_only=True,
    )  # fmt: skip
    (finding,) = (
        finding
        for finding in find(Facts(host=Host(shared_memory=space), python=Python(version="3.11.7")))
        if finding.name.startswith("shared-memory")
    )
    assert finding.name == "shared-memory-missing"
    assert "/dev/shm cannot be written to" in finding.problem
    assert finding.evidence == ("mounted read-only",)


def test_a_place_without_a_size_is_not_a_full_disk(monkeypatch):
    """Such as /proc, where the home folder of some system users is said to be."""
    here = Surroundings(environ={"HOME": "/proc/nowhere", "TMPDIR": "/tmp"})
    spaces = {space.purpose: space for space in read_host(here).caches}
    assert spaces["torch.hub downloads"].total_bytes is None
    assert spaces["torch.hub downloads"].exists is False
    facts = Facts(host=Host(caches=tuple(spaces.values())), python=Python(version="3.11.7"))
    assert "disk-full" not in [finding.name for finding in find(facts)]


def caches(**given: bool) -> tuple[Space, ...]:
    rest = {"total_bytes": 8 * GIB, "free_bytes": 8 * GIB}
    return (
        Space(purpose="torch.hub downloads", path="/home/a b/.cache/torch", **given, **rest),
        Space(purpose="temporary files", path="/tmp", writable=True, exists=True, **rest),
    )


@pytest.mark.parametrize(
    ("space", "command"),
    [
        ({"exists": True}, "sudo chown -R \"$(id -un)\" '/home/a b/.cache/torch'"),
        ({"exists": False}, "sudo install -d -o \"$(id -un)\" '/home/a b/.cache/torch'"),
        ({"exists": True, "read_only": True}, "export TORCH_HOME=/tmp/torch_home"),
    ],
)
def test_a_cache_that_is_closed_is_opened_made_or_moved(space, command):
    facts = Facts(
        host=Host(caches=caches(writable=False, **space)), python=Python(version="3.11.7")
    )
    (finding,) = (item for item in find(facts) if item.name == "cache-not-writable")
    assert finding.commands == (command,)
    assert shlex.split(command)
    assert ("sudo" in command) == finding.fix.startswith("give the folders")


def test_everything_read_only_but_shared_memory():
    """As `docker run --read-only` leaves it: what is closed moves to where there is room."""
    rest = {"total_bytes": GIB, "free_bytes": GIB}
    host = Host(
        shared_memory=Space(
            purpose="shared memory", path="/dev/shm", writable=True, exists=True, **rest
        ),
        caches=tuple(
            Space(purpose=purpose, path="/x", writable=False, exists=True, read_only=True, **rest)
            for purpose in ("Hugging Face downloads", "temporary files")
        ),
    )
    found = find(Facts(host=host, python=Python(version="3.11.7")))
    (finding,) = (item for item in found if item.name == "cache-not-writable")
    assert finding.commands == ("export HF_HOME=/dev/shm/hf_home", "export TMPDIR=/dev/shm")


def no_temporary_folder() -> str:
    raise FileNotFoundError("No usable temporary directory found")


def test_without_a_temporary_folder_the_doctor_uses_shared_memory(machine, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", no_temporary_folder)
    assert scratch_folder() == "/dev/shm"
    assert names(machine.diagnose(with_checks=False)) == []


def test_nothing_at_all_that_can_be_written_to(monkeypatch, capsys):
    monkeypatch.setattr("tempfile.gettempdir", no_temporary_folder)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["doctor", "--no-checks"]) == 2
    assert "no folder is writable" in capsys.readouterr().err


def test_a_shell_in_a_folder_that_was_removed_is_told_so(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["doctor", "--no-checks"]) == 2
    assert "the current folder was removed" in capsys.readouterr().err


# ---------------------------------------------------------------------------- environments


@pytest.mark.parametrize("name", ["typing.py", "json.py", "random.py"])
def test_a_file_named_like_a_module_that_the_probes_need_too(machine, name):
    """They have some of Python's own modules before they look at torch; a script has none."""
    package = machine.site / "torch/__init__.py"
    package.write_text(f"import {name[:-3]}\n" + package.read_text())
    (machine.cwd / name).write_text("raise ImportError('not the real one')\n")
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "standard-module-shadowed"
    assert "not the real one" in " ".join(finding.evidence)
    machine.execute(finding.commands[0])
    assert names(machine.diagnose(with_checks=False)) == []


def test_a_harmless_file_named_like_a_module_is_no_fault(machine):
    (machine.cwd / "calendar.py").write_text("days = 7\n")
    assert names(machine.diagnose(with_checks=False)) == []


def test_an_environment_without_pip_is_repaired_with_uv(machine):
    (machine.site / "pip/__init__.py").unlink()
    (machine.site / "pip").rmdir()
    machine.install_companion("torchvision", "0.22.0", "cu124", "2.7.0")
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.alternative == (f"uv pip uninstall --python {machine.python} torchvision",)


def test_a_build_of_an_index_of_its_own_is_installed_again_from_there(machine):
    """pip's usual index has another build of that release."""
    machine.install_torch("2.6.0", "cu118", at_import="libc10.so: cannot open shared object file")
    finding = only_error(machine.diagnose(with_checks=False))
    assert finding.name == "torch-incomplete"
    (command,) = finding.commands
    assert command.endswith('--reinstall --torch-backend=cu118 "torch==2.6.0"')
    machine.execute(command)
    assert names(machine.diagnose()) == []


def test_the_systems_own_python_is_left_alone():
    python = Python(executable="/usr/bin/python3", version="3.11.2", prefix="/usr", is_managed=True)
    (finding,) = (item for item in find(Facts(python=python)) if item.name == "torch-missing")
    assert finding.commands == (
        "/usr/bin/python3 -m venv .venv",
        "uv pip install --python .venv/bin/python --reinstall --torch-backend=cpu torch",
    )
    assert "pep-0668" in finding.source


def test_whether_this_python_is_the_systems_is_asked_of_itself(bare):
    python = bare.diagnose(with_checks=False).facts.python
    assert not python.is_managed  # an environment
    assert python.has_pip
    assert Path(python.executable).exists()
