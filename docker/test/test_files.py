"""The files of docker/ under the checkers of their own kind, and against each other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("IMAGE_TEST_WORK", ROOT / "build" / "image-test")) / "tools" / "bin"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
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


def test_compose_schema() -> None:
    done = check(
        str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "compose.yaml"
    )
    assert done.returncode == 0, done.stdout


def compose_config(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return check("docker-compose", "--file", str(folder / "compose.yaml"), *options, "config")


def test_compose_config() -> None:
    done = compose_config(ROOT, "--profile", "cpu")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {"gpu", "cpu"}
    devices = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert "deploy" not in services["cpu"]
    # Without the profile's name only the GPU's service starts.
    assert services["cpu"]["profiles"] == ["cpu"]
    assert "profiles" not in services["gpu"]
    for service in services.values():
        assert f"{ROOT}:/workspace:rw" in service["volumes"]
        # To this machine alone: a token is no reason to face the network.
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


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
    done = compose_config(tmp_path)
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


def test_compose_has_the_dockerfiles_defaults() -> None:
    text = (ROOT / "compose.yaml").read_text()
    known = arguments()
    used = dict(re.findall(r"\$\{(\w+):?-([^}]*)\}", text))
    for name in known.keys() & used.keys():
        assert used[name] == known[name], name
    services = documents("compose.yaml")[0]["services"]
    for service in services.values():
        named = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
        assert set(service["build"]["args"]) <= named


def test_the_documentation_has_every_argument_and_setting() -> None:
    text = (ROOT / "docs" / "image.md").read_text()
    named = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    entry_point = (ROOT / "docker" / "entrypoint.sh").read_text().split("set -euo")[0]
    named |= set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", entry_point))
    assert {name for name in named if f"`{name}`" not in text} == set()


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
