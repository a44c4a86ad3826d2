"""``torchgauge doctor`` from the command line: formats, exit statuses, usage, real packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import torchgauge
from doctor_stage import COMPILER, FILES
from torchgauge.cli.commands import doctor as command
from torchgauge.cli.main import main
from torchgauge.environment import Surroundings
from torchgauge.environment.versions import parse_requirement

PROBES = Path(torchgauge.__file__).parent / "environment" / "probes"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command on a stage and return status, stdout and stderr."""

    def call(stage, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(
            command.Surroundings, "here", lambda **kwargs: stage.surroundings(), raising=True
        )
        status = main(["doctor", *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


needs_compiler = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="the staged driver is compiled, for Linux"
)


@needs_compiler
def test_a_healthy_machine(run, machine):
    status, out, err = run(machine)
    assert (status, err) == (0, "")
    out = " ".join(out.split())
    assert "torch 2.6.0+cu124 · built for CUDA 12.4 · cuDNN 9.1.0 · NCCL 2.21.5" in out
    assert "Driver NVIDIA 550.54.14 · CUDA up to 12.4" in out
    assert "GPU 0 NVIDIA GeForce RTX 3060 · compute capability 8.6" in out
    assert "11.00 GiB of 12.00 GiB free" in out
    assert "cuda:0 NVIDIA GeForce RTX 3060 · ✓ allocation · ✓ matmul · ✓ convolution" in out
    assert "cuda ✓ all-reduce (nccl, 1 process)" in out
    assert out.startswith("PyTorch environment Verdict healthy Machine Linux")


@needs_compiler
def test_a_fault_is_shown_with_what_was_seen_and_the_fix(run, machine):
    machine.environ["CUDA_VISIBLE_DEVICES"] = ""
    status, out, _ = run(machine, "--no-checks", "--width", "100")
    assert status == 1
    assert "\n Variable  CUDA_VISIBLE_DEVICES=\n" in out
    assert "Checks    not run" in out
    assert (
        "\n Verdict  1 error\n"
        "\n error visible-devices-empty\n"
        '   CUDA_VISIBLE_DEVICES="" hides every GPU from CUDA.\n'
        "   seen   one GPU is here, number 0\n"
        "   fix    Unset it, or name the GPUs to use.\n"
        "   $ unset CUDA_VISIBLE_DEVICES\n"
    ) in out


@needs_compiler
def test_text_keeps_to_its_width_and_commands_are_never_cut(run, machine):
    machine.install_torch("2.13.0", "cpu")
    _, out, _ = run(machine, "--no-checks", "--width", "60")
    lines = out.splitlines()
    assert max(len(line) for line in lines if "$ " not in line) <= 60
    assert any(line.startswith("   $ uv pip install --python") for line in lines)


@needs_compiler
def test_ascii_and_color(run, machine):
    machine.environ["CUDA_VISIBLE_DEVICES"] = "7"
    _, out, _ = run(machine, "--ascii")
    assert out.isascii()
    _, out, _ = run(machine, "--no-checks", "--color", "always")
    assert "\x1b[31;1merror\x1b[0m visible-devices-wrong" in out
    _, out, _ = run(machine, "--no-checks")
    assert "\x1b" not in out


@needs_compiler
def test_json_has_every_fact_and_finding(run, machine):
    machine.environ["CUDA_VISIBLE_DEVICES"] = "7"
    machine.environ["SECRET_TOKEN"] = "hunter2"
    status, out, _ = run(machine, "--format", "json")
    assert status == 1
    assert "hunter2" not in out
    content = json.loads(out)
    assert content["schema_version"] == 1
    assert content["healthy"] is False
    assert content["tool"]["name"] == "torchgauge"
    (finding,) = content["findings"]
    assert set(finding) == {
        "name", "severity", "problem", "evidence", "fix", "commands", "alternative", "source",
    }  # fmt: skip
    assert (finding["name"], finding["severity"]) == ("visible-devices-wrong", "error")
    facts = content["facts"]
    assert facts["torch"]["architectures"][0] == "sm_50"
    assert facts["libcuda"]["gpus"][0]["capability"] == [8, 6]
    assert facts["variables"]["CUDA_VISIBLE_DEVICES"] == "7"
    assert {check["device"] for check in facts["checks"]} == {"cpu"}


@needs_compiler
def test_markdown_and_files(run, machine, tmp_path):
    status, out, _ = run(machine, "--no-checks", "--output", str(tmp_path / "report.md"))
    assert (status, out) == (0, "")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("**PyTorch environment**\n\n- **Verdict**: healthy\n")
    assert "- **torch**: 2.6.0+cu124" in text
    run(machine, "--no-checks", "--output", str(tmp_path / "report.json"))
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["healthy"]


@needs_compiler
def test_strict_fails_for_a_warning(run, machine):
    machine.environ["CUDA_LAUNCH_BLOCKING"] = "1"
    assert run(machine, "--no-checks")[0] == 0
    status, out, _ = run(machine, "--no-checks", "--strict")
    assert status == 1
    assert "Verdict  healthy · 1 warning" in out


def test_a_gpu_that_is_asked_for_and_missing_is_an_error(run, bare):
    bare.install_torch("2.13.0", "cpu")
    status, out, _ = run(bare, "--no-checks")
    assert status == 0
    assert "notice no-gpu\n" in out
    assert "torch 2.13.0+cpu is a CPU build. Models run on the CPU." in " ".join(out.split())
    status, out, _ = run(bare, "--no-checks", "--require-gpu")
    assert status == 1
    assert "error no-gpu\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "pdf"], "unknown name 'pdf'"),
        (["--output", "report.pdf"], "does not say which format it wants"),
        (["--output", "no/such/report.json"], "there is no folder no/such"),
        (["--format", "json", "--width", "80"], "--width has no meaning in json"),
        (["--format", "markdown", "--color", "always"], "--color has no meaning in markdown"),
        (["--timeout", "0"], "is not a whole number of 1 or more"),
        (["--python", "no-such-python"], "there is no program no-such-python"),
        (["--chekcs"], "unknown argument '--chekcs'"),
        (["model.py:Net"], "unknown argument 'model.py:Net'"),
    ],
)
def test_bad_usage(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status = main(["doctor", *arguments])
    shown = capsys.readouterr()
    assert (status, shown.out) == (2, "")
    assert message in shown.err


@pytest.mark.parametrize("probe", sorted(PROBES.glob("*.py")), ids=lambda path: path.name)
def test_probes_parse_under_the_oldest_python(probe):
    import ast

    ast.parse(probe.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_the_doctor_itself_never_imports_torch(bare):
    bare.install_torch("2.13.0", "cpu")
    code = (
        "import sys\nfrom torchgauge.cli.main import main\n"
        f"status = main(['doctor', '--no-checks', '--quiet', '--python', {bare.python!r}])\n"
        "heavy = {'torch', 'numpy', 'torchvision'} & set(sys.modules)\n"
        "print('status', status, 'imported', sorted(heavy))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(bare.site), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False,
        env=environ,
    )  # fmt: skip
    assert "imported []" in done.stdout, done.stderr
    assert "2.13.0+cpu" in done.stdout


# ---------------------------------------------------------------------------- really here


def linked(folder: Path, *names: str, source: Path | None = None) -> None:
    """Link installed distributions, and what they need, into a folder for PYTHONPATH."""
    paths = {"path": [str(source)]} if source else {}
    folder.mkdir(exist_ok=True)
    waiting, done = list(names), set()
    while waiting:
        name = waiting.pop()
        found = next(iter(metadata.distributions(name=name, **paths)), None)
        if found is None or name in done:
            continue
        done.add(name)
        for part in {Path(file).parts[0] for file in found.files or () if ".." not in str(file)}:
            target = folder / part
            if part != "__pycache__" and not target.exists():
                target.symlink_to(found.locate_file(part))
        waiting += [
            parse_requirement(text)[0] for text in found.requires or () if "extra ==" not in text
        ]


def real_surroundings(python: str, site: Path, **variables: str) -> Surroundings:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return Surroundings(
        environ={**environ, "PYTHONPATH": str(site), **variables},
        python=python,
        directory=site,
        time_limit_s=120,
    )


def is_cpu_build() -> bool:
    return metadata.version("torch").endswith("+cpu")


@pytest.mark.slow
@pytest.mark.skipif(not is_cpu_build(), reason="this torch is not a CPU build")
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_the_real_torch_computes_and_nothing_is_wrong(tmp_path, bare_python, monkeypatch, capsys):
    """A CPU build without a GPU: exactly that is said, everything is computed, the status is 0."""
    site = tmp_path / "site"
    linked(site, "torch", "numpy")
    here = real_surroundings(bare_python, site)
    monkeypatch.setattr(command.Surroundings, "here", lambda **kwargs: here)
    status = main(["doctor", "--format", "json"])
    content = json.loads(capsys.readouterr().out)
    errors = [item["name"] for item in content["findings"] if item["severity"] == "error"]
    assert (status, errors) == (0, [])
    assert "no-gpu" in [item["name"] for item in content["findings"]]
    torch = content["facts"]["torch"]
    assert torch["version"] == metadata.version("torch")
    assert torch["cuda"] is None
    checks = content["facts"]["checks"]
    assert [(check["name"], check["ok"]) for check in checks] == [
        ("allocation", True), ("matmul", True), ("convolution", True), ("all-reduce", True),
    ]  # fmt: skip
    assert checks[-1]["detail"] == "gloo, 2 processes"


def torchvision_is_of_another_build() -> bool:
    try:
        module = Path(str(metadata.distribution("torchvision").locate_file("torchvision")))
    except metadata.PackageNotFoundError:
        return False
    return "+cu" in (module / "version.py").read_text(encoding="utf-8") and is_cpu_build()


@pytest.mark.slow
@pytest.mark.skipif(
    not torchvision_is_of_another_build(), reason="this torchvision is of torch's own build"
)
def test_the_real_torchvision_for_cuda_beside_the_real_torch_for_the_cpu(tmp_path, bare_python):
    """Both wheels are real, and really fail; removing torchvision, the other way out, mends it."""
    from torchgauge.environment import Severity, diagnose

    site = tmp_path / "site"
    linked(site, "torch", "torchvision")
    here = real_surroundings(bare_python, site)
    (finding,) = diagnose(here, with_checks=False).of(Severity.ERROR)
    assert finding.name == "torchvision-mismatch"
    assert "operator torchvision::nms does not exist" in " ".join(finding.evidence)
    # The environment of these tests has no pip, like those that uv makes.
    assert finding.alternative == (f"uv pip uninstall --python {bare_python} torchvision",)
    for path in site.glob("torchvision*"):
        path.unlink()
    assert diagnose(here, with_checks=False).is_healthy


ROOT = Path(__file__).resolve().parents[2]
TORCH26 = ROOT / os.environ.get("TORCHGAUGE_TORCH26", ".venv-torch26") / "lib"


def torch26_site() -> Path | None:
    return next((path.parent for path in TORCH26.glob("python3*/site-packages/torch")), None)


@pytest.fixture
def torch26(tmp_path):
    """The real torch 2.6.0 with its CUDA 12.4, which `make test-torch26` installs."""
    source = torch26_site()
    if source is None or not (source / "torch/lib/libtorch_cuda.so").exists():
        pytest.skip("there is no .venv-torch26 with a CUDA build")
    site = tmp_path / "site"
    linked(site, "torch", source=source)
    return site


@needs_compiler
def test_the_real_cuda_runtime_and_a_driver_that_is_too_old(torch26, bare_python, tmp_path):
    """CUDA's own runtime judges the staged libcuda; both ways of mending it are offered."""
    from torchgauge.environment import Severity, diagnose

    lib = tmp_path / "lib"
    lib.mkdir()
    compile_driver(lib, cuda=11040)
    here = real_surroundings(bare_python, torch26, LD_LIBRARY_PATH=str(lib))
    diagnosis = diagnose(here, with_checks=False)
    (finding,) = diagnosis.of(Severity.ERROR)
    assert finding.name == "driver-too-old"
    assert "too old (found version 11040)" in diagnosis.facts.torch.cuda_error
    assert "525.60.13 or newer" in finding.fix
    assert '--torch-backend=cu118 "torch==2.6.0"' in finding.commands[0]


def own_folders(link: Path, *names: str) -> None:
    """Make a linked folder, and some in it, real: ``..`` leads out of a link's target otherwise."""
    source = link.resolve()
    link.unlink()
    link.mkdir()
    for path in source.iterdir():
        (link / path.name).symlink_to(path)
    for name in names:
        own_folders(link / name)


@needs_compiler
def test_the_real_torch_without_its_cuda_wheels(torch26, bare_python):
    from torchgauge.environment import Severity, diagnose

    own_folders(torch26 / "torch", "lib")
    (torch26 / "nvidia").unlink()
    for path in torch26.glob("nvidia_*"):
        path.unlink()
    (finding,) = diagnose(real_surroundings(bare_python, torch26)).of(Severity.ERROR)
    assert finding.name == "cuda-wheels-missing"
    assert "nvidia-cublas-cu12==12.4.5.8" in finding.commands[0]
    assert "nvidia-cudnn-cu12==9.1.0.70" in finding.commands[0]


def test_the_real_cuda_build_on_a_machine_without_a_gpu(torch26, bare_python):
    from torchgauge.environment import diagnose

    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    diagnosis = diagnose(real_surroundings(bare_python, torch26), with_checks=False)
    assert diagnosis.is_healthy
    assert diagnosis.facts.torch.architectures[:2] == ("sm_50", "sm_60")
    assert "Found no NVIDIA driver" in diagnosis.facts.torch.cuda_error
    assert "built for CUDA 12.4" in diagnosis.findings[0].problem


def compile_driver(folder: Path, cuda: int) -> None:
    subprocess.run(
        [
            str(COMPILER), "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"),
            str(FILES / "libcuda.c"), f"-DCUDA={cuda}", "-DSTATUS=0", "-DCOUNT=1",
            '-DGPUS={"NVIDIA GeForce RTX 3060", 8, 6, 12}',
        ],
        check=True,
        timeout=60,
    )  # fmt: skip
