"""Machines staged in a folder, broken on purpose, and the commands that repair them.

A stage is a real file tree (``/proc``, ``/sys``, ``/dev``), a real interpreter with packages of its
own, a compiled ``libcuda.so.1``, an ``nvidia-smi`` and a set of variables. :meth:`Stage.execute`
carries out the commands that the doctor prints, so that "a fix that works" is tried, not read.
"""

from __future__ import annotations

import atexit
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from doctor_documentation import documented
from torchgauge.environment import Diagnosis, Finding, Severity, Surroundings, diagnose

FILES = Path(__file__).parent / "staged"
COMPILER = shutil.which("cc") or shutil.which("gcc")

ARCHITECTURES = {
    "cu118": "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90",
    "cu124": "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90",
    "cu126": "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90",
    "cu128": "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120",
    "cu130": "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120",
    "cu132": "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120",
    "cpu": "",
}
"""What the real builds hold (RELEASE.md of pytorch, and seen in 2.6.0+cu124)."""
VISION = {"2.6": "0.21", "2.7": "0.22", "2.12": "0.27", "2.13": "0.28", "2.14": "0.29"}


@dataclass(frozen=True, kw_only=True)
class Gpu:
    name: str = "NVIDIA GeForce RTX 3060"
    major: int = 8
    minor: int = 6
    gib: int = 12
    free_gib: int = 11


RTX_3060 = Gpu()
RTX_5090 = Gpu(name="NVIDIA GeForce RTX 5090", major=12, minor=0, gib=32, free_gib=31)
V100 = Gpu(name="Tesla V100-SXM2-16GB", major=7, minor=0, gib=16, free_gib=15)


class Stage:
    """One staged machine; made bare, then furnished."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.python = folder, python
        self.root, self.site = folder / "root", folder / "site"
        self.bin, self.lib, self.cwd = folder / "bin", folder / "lib", folder / "work"
        for path in (self.root, self.site, self.bin, self.lib, self.cwd):
            path.mkdir(parents=True)
        self.gpus: tuple[Gpu, ...] = ()
        self.driver, self.cuda = "550.54.14", 12040
        self.environ = {
            "PATH": str(self.bin),
            "PYTHONPATH": str(self.site),
            "LD_LIBRARY_PATH": str(self.lib),
            "HOME": "/home/user",
        }
        self.file("/proc/modules", "ext4 1 0\n")
        self.file("/proc/1/cgroup", "0::/\n")
        (self.root / "sys/bus/pci/devices").mkdir(parents=True)
        (self.root / "dev/shm").mkdir(parents=True)
        (self.site / "pip").mkdir()
        (self.site / "pip/__init__.py").touch()
        (self.root / "home/user").mkdir(parents=True)
        (self.root / "tmp").mkdir()

    # ------------------------------------------------------------------------ the machine

    def file(self, absolute: str, text: str) -> Path:
        path = self.root / absolute.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def plug_in(self, *gpus: Gpu) -> None:
        """Put GPUs on the bus, without a driver."""
        self.gpus = gpus
        for index in range(len(gpus)):
            device = f"/sys/bus/pci/devices/0000:0{index}:00.0"
            self.file(f"{device}/vendor", "0x10de\n")
            self.file(f"{device}/class", "0x030000\n")

    def load_module(self) -> None:
        self.file(
            "/proc/driver/nvidia/version",
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {self.driver}  Thu Feb 22 2024\n",
        )
        self.file("/proc/modules", "nvidia_uvm 1 0\nnvidia 1 0\n")

    def make_nodes(self) -> None:
        for index in range(len(self.gpus)):
            self.file(f"/dev/nvidia{index}", "")
        self.file("/dev/nvidiactl", "")
        self.file("/dev/nvidia-uvm", "")

    def install_libraries(self, *flags: str, status: int = 0) -> None:
        """Install the driver's library and ``nvidia-smi``."""
        target = self.lib / "libcuda.so.1"
        target.unlink(missing_ok=True)
        shutil.copy(compiled(self.cuda, status, self.gpus, flags), target)
        self.write_smi()

    def write_smi(self, *, holders: str = "", message: str = "", status: int = 0) -> None:
        rows = "".join(
            f"{gpu.major}.{gpu.minor}, {index}, GPU-{index}aa-bb, {self.driver}, "
            f"{gpu.gib << 10}, {gpu.free_gib << 10}, {gpu.name}\n"
            for index, gpu in enumerate(self.gpus)
        )
        program = self.bin / "nvidia-smi"
        program.write_text(
            "#!/bin/sh\n"
            f"if [ {status} != 0 ]; then echo '{message}'; exit {status}; fi\n"
            f"case $1 in *compute-apps*) printf '%s' '{holders}';; *) printf '%s' '{rows}';; esac\n"
        )
        program.chmod(0o755)

    def install_driver(self, driver: str = "550.54.14", cuda: int = 12040) -> None:
        self.driver, self.cuda = driver, cuda
        self.load_module()
        self.make_nodes()
        self.install_libraries()

    def remove_driver(self) -> None:
        shutil.rmtree(self.root / "proc/driver", ignore_errors=True)
        self.file("/proc/modules", "ext4 1 0\n")
        self.leave_gpus_outside()

    def leave_gpus_outside(self) -> None:
        """Take away what ``--gpus all`` puts into a container; the kernel's files stay."""
        for path in (*(self.root / "dev").glob("nvidia*"), *self.lib.iterdir()):
            path.unlink()
        (self.bin / "nvidia-smi").unlink(missing_ok=True)

    # ------------------------------------------------------------------------ packages

    def install_torch(self, version: str = "2.6.0", tag: str = "cu124", **staged: object) -> None:
        self.uninstall("torch")
        cuda = f"{tag[2:4]}.{tag[4:]}" if tag.startswith("cu") else None
        package = self.site / "torch"
        package.mkdir()
        shutil.copy(FILES / "torch_stub.py", package / "__init__.py")
        (package / "version.py").write_text(
            f"__version__ = '{version}+{tag}'\ncuda = {cuda!r}\nhip = None\n"
        )
        content = {
            "architectures": ARCHITECTURES[tag].split(),
            "at_import": "",
            "faults": {},
            **staged,
        }
        (package / "staged.json").write_text(json.dumps(content))
        self.metadata("torch", f"{version}+{tag}")

    def install_companion(self, name: str, version: str, tag: str, needs: str) -> None:
        """Install one that, like the real ones, works with its own torch in its own build alone."""
        self.uninstall(name)
        (self.site / name).mkdir()
        (self.site / name / "__init__.py").write_text(
            f"import torch\n__version__ = '{version}+{tag}'\n"
            f"if torch.__version__ != '{needs}+{tag}':\n"
            "    raise RuntimeError('operator torchvision::nms does not exist')\n"
        )
        (self.site / name / "version.py").write_text(f"__version__ = '{version}+{tag}'\n")
        self.metadata(name, version, requires=(f"torch (=={needs})",))

    def metadata(
        self, name: str, version: str, *, requires: tuple[str, ...] = (), tag: str | None = None
    ) -> None:
        folder = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(exist_ok=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        own = f"cp{sys.version_info.major}{sys.version_info.minor}"
        (folder / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag or f'{own}-{own}-linux'}\n")

    def uninstall(self, name: str) -> None:
        folder = name.replace("-", "_")
        shutil.rmtree(self.site / folder, ignore_errors=True)
        for path in self.site.glob(f"{folder}-*.dist-info"):
            shutil.rmtree(path)

    # ------------------------------------------------------------------------ doctor and repairs

    def surroundings(self, *, time_limit_s: float = 60.0) -> Surroundings:
        return Surroundings(
            root=self.root,
            environ=self.environ,
            python=self.python,
            directory=self.cwd,
            time_limit_s=time_limit_s,
        )

    def diagnose(self, *, with_checks: bool = True, time_limit_s: float = 60.0) -> Diagnosis:
        diagnosis = diagnose(self.surroundings(time_limit_s=time_limit_s), with_checks=with_checks)
        for finding in diagnosis.findings:
            assert (finding.name, finding.severity) in documented()
        return diagnosis

    def execute(self, command: str) -> None:
        """Carry out a command that the doctor printed; one not understood fails the test."""
        words = shlex.split(command)
        if words[0] == "unset":
            self.environ.pop(words[1], None)
            if words[1] == "LD_LIBRARY_PATH":  # the driver stays where the system's loader looks
                self.environ["LD_LIBRARY_PATH"] = str(self.lib)
        elif words[0] == "export":
            name, _, value = words[1].partition("=")
            self.environ[name] = value
        elif words[:3] == ["uv", "pip", "install"]:
            tag = next(word for word in words if word.startswith("--torch-backend="))
            names = [word for word in words[3:] if not word.startswith("-") and "/" not in word]
            self._install(names, tag.partition("=")[2])
        elif words[1:4] == ["-m", "pip", "uninstall"]:
            for name in words[5:]:
                self.uninstall(name)
        elif words[1:4] == ["-m", "pip", "install"]:
            for word in words[4:]:
                if not word.startswith("-"):
                    self._install_wheel(word)
        elif words[0] == "mv":
            Path(words[1]).rename(words[2])
        elif words[:3] == ["docker", "run", "--gpus"]:
            self.make_nodes()
            self.install_libraries()
            self.environ["NVIDIA_VISIBLE_DEVICES"] = "all"
        elif words[:2] == ["sudo", "apt"] and words[2:] == ["install", "nvidia-driver"]:
            self.install_driver()
        elif words == ["sudo", "modprobe", "nvidia"]:
            self.load_module()
            self.make_nodes()
            self.install_libraries()
        elif words[0] == "kill":
            self.gpus = tuple(Gpu(**{**vars(gpu), "free_gib": gpu.gib}) for gpu in self.gpus)
            self.write_smi()
        else:
            raise NotImplementedError(command)

    def _install(self, requirements: list[str], tag: str) -> None:
        for requirement in requirements:
            name, _, wanted = requirement.partition("==")
            version = re.sub(r"\.\*$", ".0", wanted)
            if name == "torch":
                self.install_torch(version, tag)
        for requirement in requirements:
            name, _, wanted = requirement.partition("==")
            if name == "torchvision":
                torch = next(self.site.glob("torch-*.dist-info")).name[6:].partition("+")[0]
                minor = ".".join(torch.split(".")[:2])
                version = re.sub(r"\.\*$", ".0", wanted) or f"{VISION[minor]}.0"
                needs = next(t for t, v in VISION.items() if version.startswith(v + "."))
                self.install_companion(name, version, tag, f"{needs}.0")

    def _install_wheel(self, requirement: str) -> None:
        name, _, version = requirement.partition("==")
        for path in self.site.glob(f"{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(path)
        self.metadata(name, version or "1.26.4")


@cache
def _build_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="staged-libcuda-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def compiled(cuda: int, status: int, gpus: tuple[Gpu, ...], flags: tuple[str, ...]) -> Path:
    """Compile a driver's library, each kind once."""
    assert COMPILER is not None
    target = _build_folder() / f"{abs(hash((cuda, status, gpus, flags)))}.so"
    rows = ", ".join(f'{{"{gpu.name}", {gpu.major}, {gpu.minor}, {gpu.gib}}}' for gpu in gpus)
    subprocess.run(
        [
            COMPILER, "-shared", "-fPIC", "-o", str(target), str(FILES / "libcuda.c"),
            f"-DCUDA={cuda}", f"-DSTATUS={status}", f"-DCOUNT={len(gpus)}", f"-DGPUS={rows}",
            *flags,
        ],
        check=True,
        timeout=60,
    )  # fmt: skip
    return target


def only_error(diagnosis: Diagnosis) -> Finding:
    """Return the one error; fail when there is none or another one."""
    errors = diagnosis.of(Severity.ERROR)
    assert len(errors) == 1, [finding.name for finding in errors]
    return errors[0]


def names(diagnosis: Diagnosis) -> list[str]:
    return [finding.name for finding in diagnosis.findings]
