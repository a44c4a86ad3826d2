"""The files of docker/ under the checkers of their own kind, and against each other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("IMAGE_TEST_WORK", ROOT / "build" / "image-test")) / "tools" / "bin"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = ("compose.yaml", "compose.cpu.yaml")
SCRIPTS = sorted(path.relative_to(ROOT) for path in (ROOT / "docker").rglob("*.sh"))


def check(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
    )


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / path).read_text()))


# ---------------------------------------------------------------- the checkers


def test_hadolint() -> None:
    done = check(str(TOOLS / "hadolint"), "--no-color", "docker/Dockerfile")
    assert done.returncode == 0, done.stdout


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN apt-get install curl\n")
    done = check(str(TOOLS / "hadolint"), "--no-color", str(bad))
    assert done.returncode == 1
    assert "DL3006" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_shellcheck(script: Path) -> None:
    done = check("shellcheck", str(script))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", COMPOSE)
def test_compose_schema(file: str) -> None:
    done = check(str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", file)
    assert done.returncode == 0, done.stdout


def compose_config(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return check("docker-compose", "--file", str(path), "config", *options)


@pytest.mark.parametrize("file", COMPOSE)
def test_compose_config(file: str) -> None:
    done = compose_config(ROOT / file)
    assert done.returncode == 0, done.stderr
    service = yaml.safe_load(done.stdout)["services"]["torchgauge"]
    assert f"{ROOT}:/workspace:rw" in service["volumes"]
    # To this machine alone: a token is no reason to face the network.
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("file", COMPOSE)
def test_compose_starts_one_service_and_no_profile_another(file: str) -> None:
    """Both are one service of one project: what the one has started, the other replaces."""
    assert compose_config(ROOT / file, "--services").stdout == "torchgauge\n"
    assert compose_config(ROOT / file, "--profiles").stdout.strip() == ""


def test_the_cpu_compose_file_differs_only_in_the_gpu() -> None:
    gpu, cpu = (documents(file)[0] for file in COMPOSE)
    of_gpu, of_cpu = (content["services"].pop("torchgauge") for content in (gpu, cpu))
    assert gpu == cpu
    devices = of_gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert (of_gpu.pop("image"), of_cpu.pop("image")) == (
        "torchgauge:torch${TORCH_VERSION:-2.6.0}-cuda${CUDA_VERSION:-11.8}",
        "torchgauge:torch${TORCH_VERSION:-2.6.0}-cpu",
    )
    builds = of_gpu["build"], of_cpu["build"]
    assert [build.pop("target") for build in builds] == ["${TARGET:-runtime}", "cpu"]
    assert [build["args"].pop("PYTORCH_INDEX_URL") for build in builds] == [
        "${PYTORCH_INDEX_URL:-}",
        "${PYTORCH_CPU_INDEX_URL:-}",
    ]
    assert of_gpu["build"]["args"].pop("CUDA_VERSION") == "${CUDA_VERSION:-11.8}"
    assert of_gpu == of_cpu


def test_every_compose_command_that_is_told_is_one_that_works() -> None:
    told = [ROOT / "README.md", ROOT / "README.zh-CN.md", *(ROOT / file for file in COMPOSE)]
    told += [*(ROOT / "docs").glob("*.md"), *(ROOT / "examples" / "notebooks").glob("*.ipynb")]
    commands = [
        (path.name, command)
        for path in told
        for command in re.findall(r"docker compose ([^`#)\n]*?)(?:[`#)\n]|  )", path.read_text())
    ]
    assert len(commands) >= 8
    for page, command in commands:
        found = re.fullmatch(r"(?:-f (\S+) )?(?:up|build|down)(?: --?\w+)*", command.strip())
        assert found, (page, command)
        assert (found[1] or "compose.yaml") in COMPOSE, (page, command)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("shm_size", "shm_sizes"),
        ("restart: unless-stopped", "restart: [1]"),
        ("ports:", "ports: 7 #"),
    ],
)
def test_a_wrong_compose_file_is_refused(tmp_path: Path, good: str, bad: str) -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert good in text
    (tmp_path / "compose.yaml").write_text(text.replace(good, bad))
    done = compose_config(tmp_path / "compose.yaml")
    schema = check(
        *(str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"),
        str(tmp_path / "compose.yaml"),
    )
    assert done.returncode != 0 or schema.returncode != 0


# ---------------------------------------------------------------- against each other


def stages() -> set[str]:
    return set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))


def arguments() -> dict[str, str]:
    """Every build argument that has a default value; a stage may not have another."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE):
        assert found.setdefault(name, value) == value, name
    return found


def test_the_default_target_is_the_runtime() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)[-1] == "runtime"
    assert {"runtime", "devel", "cpu"} <= stages()


def test_the_cpu_target_differs_from_the_runtime_only_in_cuda() -> None:
    """Two stages that must stay twins: what one installs, the other does, too."""

    def steps(stage: str) -> list[str]:
        body = DOCKERFILE.split(f" AS {stage}\n")[1].split("# -----")[0]
        lines = [line for line in body.splitlines() if re.match(r"(RUN|COPY) ", line)]
        return [line.replace("RUN CUDA_VERSION=cpu ", "RUN ") for line in lines]

    assert steps("cpu") == steps("runtime")


@pytest.mark.parametrize("file", COMPOSE)
def test_compose_has_the_dockerfiles_defaults(file: str) -> None:
    known = arguments()
    used = dict(re.findall(r"\$\{(\w+):?-([^}]*)\}", (ROOT / file).read_text()))
    for name in known.keys() & used.keys():
        assert used[name] == known[name], name
    service = documents(file)[0]["services"]["torchgauge"]
    named = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert set(service["build"]["args"]) <= named
    assert service["build"]["target"] in (*stages(), "${TARGET:-runtime}")


OCI = "org.opencontainers.image."


def labels(stage: str) -> dict[str, str]:
    body = DOCKERFILE.split(f" AS {stage}\n")[1].split("# -----")[0]
    return dict(re.findall(r'^(?:LABEL| ) +(\S+)="([^"]*)"', body, re.MULTILINE))


def test_labels_say_which_image_this_is() -> None:
    """https://specs.opencontainers.org/image-spec/annotations/, the keys that apply."""
    given = {"version": "${TORCHGAUGE_VERSION}", "revision": "${VCS_REF}", "created": "${CREATED}"}
    for stage in ("cpu", "runtime"):
        own = labels(stage)
        assert {key: own[OCI + key] for key in given} == given, stage
        assert own[OCI + "licenses"] == project()["license"]
    titles = [labels(stage)[OCI + "title"] for stage in ("cpu", "runtime", "devel")]
    descriptions = [labels(stage)[OCI + "description"] for stage in ("cpu", "runtime", "devel")]
    assert len(set(titles)) == len(set(descriptions)) == 3
    # The defaults are what is built; the build itself compares it with the wheel.
    assert (
        f'\n__version__ = "{arguments()["TORCHGAUGE_VERSION"]}"\n'
        in (ROOT / "src" / "torchgauge" / "version.py").read_text()
    )


def test_the_source_label_is_there_when_there_is_an_address() -> None:
    """No repository is published yet. When one is, the label belongs to every target."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    has_address = "urls" in project() or "repository-code" in citation
    for stage in ("cpu", "runtime"):
        assert (OCI + "source" in labels(stage)) == has_address


def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return content["project"]


def test_the_documentation_has_every_argument_and_setting() -> None:
    text = (ROOT / "docs" / "image.md").read_text()
    named = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    entry_point = (ROOT / "docker" / "entrypoint.sh").read_text().split("set -euo")[0]
    named |= set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", entry_point))
    for file in COMPOSE:
        named |= set(re.findall(r"\$\{(\w+)", (ROOT / file).read_text()))
    assert {name for name in named if not re.search(rf"\b{name}\b", text)} == set()


def test_devcontainer() -> None:
    path = ROOT / ".devcontainer" / "devcontainer.json"
    lines = path.read_text().splitlines()
    content = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    build = content["build"]
    assert (path.parent / build["dockerfile"]).resolve() == ROOT / "docker" / "Dockerfile"
    assert (path.parent / build["context"]).resolve() == ROOT
    assert build["target"] in stages()
    assert set(build["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert f" {content['remoteUser']}\n" in (ROOT / "docker/build/install-base.sh").read_text()


def test_kubernetes() -> None:
    by_kind = {document["kind"]: document for document in documents("docker/kubernetes.yaml")}
    pod = by_kind["StatefulSet"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    selector = by_kind["Service"]["spec"]["selector"]
    assert selector.items() <= pod["metadata"]["labels"].items()
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in by_kind["Service"]["spec"]["ports"]} <= ports
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    user = int(arguments()["USER_UID"])
    assert pod["spec"]["securityContext"]["runAsUser"] == user
    assert pod["spec"]["securityContext"]["fsGroup"] == int(arguments()["USER_GID"])
    known = arguments()
    image = f"torchgauge:torch{known['TORCH_VERSION']}-cuda{known['CUDA_VERSION']}"
    assert container["image"] == image
    assert f"\nFrom: {image}\n" in (ROOT / "docker" / "apptainer.def").read_text()


# ---------------------------------------------------------------- requirements_of.py


def requirements_of(extras: str) -> subprocess.CompletedProcess[str]:
    return check(sys.executable, "docker/build/requirements_of.py", "pyproject.toml", extras)


def test_requirements_of_extras() -> None:
    names = {re.split("[>=]", line)[0] for line in requirements_of("all").stdout.split()}
    assert {"rich", "numpy", "jupyterlab", "transformers", "timm", "torch-geometric"} <= names
    assert not names & {"torch", "torchvision", "torchgauge[vision"}
    assert "jupyterlab" not in requirements_of("hf").stdout
    assert "rich" in requirements_of("").stdout


def test_an_unknown_extra_is_named() -> None:
    done = requirements_of("hf,visoin")
    assert done.returncode == 1
    assert "no extra 'visoin'" in done.stderr
