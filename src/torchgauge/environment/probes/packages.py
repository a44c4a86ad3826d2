"""List the installed distributions that matter here, and which file ``import torch`` would load.

Usage: ``packages.py OUTPUT``. Imports no third-party package.
"""

from __future__ import annotations

import sys

FOLDER = sys.path.pop(0)  # this file's: nothing is to be imported from there

import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import sysconfig  # noqa: E402
from importlib import metadata  # noqa: E402

sys.path.insert(0, os.getcwd())  # as for the user's own script; after the imports above

PREFIXES = ("torch", "nvidia-", "triton", "pytorch-triton", "cuda-")
NAMES = frozenset(
    (
        "numpy", "pillow", "transformers", "timm", "flash-attn", "xformers", "bitsandbytes",
        "deepspeed", "vllm", "accelerate", "tensorflow", "jax", "jaxlib", "onnxruntime-gpu",
    )
)  # fmt: skip


def main() -> None:
    """Write the interpreter, then the distributions, then the origin of torch."""
    write(
        executable=sys.executable,
        version=".".join(str(part) for part in sys.version_info[:3]),
        tag="cp{}{}".format(*sys.version_info[:2]),
        prefix=sys.prefix,
        has_pip=origin("pip") is not None,
        is_managed=is_managed(),
    )
    write(packages=[package for package in map(describe, metadata.distributions()) if package])
    write(torch_origin=origin("torch"), shadowing=shadowing())


def write(**content: object) -> None:
    """Append one line to the output."""
    with open(sys.argv[1], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(content) + "\n")


def describe(distribution: metadata.Distribution) -> dict[str, object] | None:
    """Return what matters of a distribution; ``None`` for one that does not or is damaged."""
    try:
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        requires = [text for text in distribution.requires or [] if "extra ==" not in text]
        wants_torch = any(re.match(r"torch\b(?![-_.])", text) for text in requires)
        if not (name.startswith(PREFIXES) or name in NAMES or wants_torch):
            return None
        wheel = distribution.read_text("WHEEL") or ""
        return {
            "name": name,
            "version": distribution.version or "",
            "location": str(distribution.locate_file("")),
            "requires": requires,
            "tags": re.findall(r"^Tag:\s*(\S+)", wheel, re.MULTILINE),
        }
    except Exception:  # a folder of an interrupted installation
        return None


def is_managed() -> bool:
    """Return whether pip refuses to install here, as PEP 668 says; not in an environment."""
    folder = sysconfig.get_path("stdlib")
    return sys.prefix == sys.base_prefix and os.path.exists(
        os.path.join(folder, "EXTERNALLY-MANAGED")
    )


def shadowing() -> list[str]:
    """Return the user's files that Python takes in the place of its own modules."""
    standard: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())  # from 3.10 on
    folders = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    found = []
    for folder in dict.fromkeys(filter(None, folders)):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            module, suffix = os.path.splitext(name)
            path = os.path.join(folder, name)
            is_package = os.path.exists(os.path.join(path, "__init__.py"))
            if module in standard and (suffix == ".py" or (suffix == "" and is_package)):
                found.append(path)
    return found


def origin(module: str) -> str | None:
    """Return the file that an import would load, without loading it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if spec.origin is not None:
        return spec.origin
    return next(iter(spec.submodule_search_locations or ()), None)


if __name__ == "__main__":
    main()
