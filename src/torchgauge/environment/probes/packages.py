"""List the installed distributions that matter here, and which file ``import torch`` would load.

Usage: ``packages.py OUTPUT``. Imports no third-party package.
"""

from __future__ import annotations

import os
import sys

sys.path[0] = os.getcwd()  # as for the user's own script, not this file's folder

import importlib.util  # noqa: E402
import json  # noqa: E402
import re  # noqa: E402
from importlib import metadata  # noqa: E402

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
    )
    write(packages=[package for package in map(describe, metadata.distributions()) if package])
    write(torch_origin=origin("torch"))


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
