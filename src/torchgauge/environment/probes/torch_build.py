"""Import torch and say what it is, then import the packages that are built against it.

Usage: ``torch_build.py OUTPUT MODULE…``: first torch, then each module, then CUDA, the likeliest
to end the process. ``begin`` lines say what was going on when it did.
"""

from __future__ import annotations

import sys

FOLDER = sys.path.pop(0)  # this file's: nothing is to be imported from there

import importlib  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import warnings  # noqa: E402
from typing import Any, Callable  # noqa: E402, UP035 - collections.abc has no Callable[] in 3.8

sys.path.insert(0, os.getcwd())  # as for the user's own script; after the imports above

# Loosely typed on purpose: this torch may be any version, or broken.


def main() -> None:
    """Import torch, describe it, then the other modules; a line after each step."""
    torch = attempt("torch")
    if torch is None:
        return
    describe_with(torch, build)
    describe_with(torch, libraries)
    describe_with(torch, threads)
    for module in sys.argv[2:]:
        attempt(module)
    describe_with(torch, cuda)


def describe_with(torch: Any, step: Callable[[Any], dict[str, Any]]) -> None:
    """Write what a step says; a step that this torch fails leaves its facts unknown."""
    try:
        write(**step(torch))
    except Exception as error:
        write(problem=f"{step.__name__}: {said(error)}")


def write(**content: object) -> None:
    """Append one line to the output."""
    with open(sys.argv[1], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(content) + "\n")


def said(error: BaseException) -> str:
    """Return the error as Python prints it last."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def attempt(name: str) -> Any:
    """Import a module, write how it went, return it or ``None``."""
    write(begin="import " + name)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
    except BaseException as error:  # SystemExit too: it is the import that failed
        version = stated_version(name)
        write(imported={"module": name, "ok": False, "version": version, "error": said(error)})
        return None
    version = str(getattr(module, "__version__", ""))
    own = getattr(getattr(module, "version", None), "cuda", None)
    seconds = time.perf_counter() - start
    write(
        imported={
            "module": name,
            "ok": True,
            "version": version,
            "cuda": None if own is None else str(own),
            "seconds": seconds,
        }
    )
    return module


def stated_version(name: str) -> str:
    """Return what ``NAME/version.py`` states; it names the CUDA build, which metadata does not."""
    try:
        spec = importlib.util.find_spec(name)
        folder = os.path.dirname((spec and spec.origin) or "")
        with open(os.path.join(folder, "version.py"), encoding="utf-8") as stream:
            found = re.search(r"__version__ = ['\"]([^'\"]+)", stream.read())
        return found.group(1) if found else ""
    except (ImportError, OSError, ValueError, AttributeError):
        return ""


def build(torch: Any) -> dict[str, Any]:
    """Return version and platform of the build."""
    version = torch.version
    mps = getattr(torch.backends, "mps", None)
    return {
        "version": str(torch.__version__),
        "cuda": None if version.cuda is None else str(version.cuda),
        "hip": getattr(version, "hip", None),
        "architectures": architectures(torch),
        "has_mps": bool(mps is not None and mps.is_available()),
    }


def architectures(torch: Any) -> list[str]:
    """Return what the build has kernels for.

    ``torch.cuda.get_arch_list()`` is empty where no GPU can be used (seen in 2.6 and 2.13), which
    is when it is needed most; what it reads is asked first.
    """
    try:
        flags = torch._C._cuda_getArchFlags()
    except (AttributeError, RuntimeError):
        return list(torch.cuda.get_arch_list())
    return flags.split() if flags else []


def libraries(torch: Any) -> dict[str, Any]:
    """Return the versions of cuDNN and NCCL that the build runs with."""
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return {}
    found = {}
    cudnn = torch.backends.cudnn.version()
    if cudnn is not None:
        found["cudnn"] = str(cudnn)
    try:
        found["nccl"] = ".".join(str(part) for part in torch.cuda.nccl.version())
    except Exception as error:  # built without it
        found["nccl_error"] = said(error)
    return found


def threads(torch: Any) -> dict[str, Any]:
    """Return with how many threads it computes on the CPU."""
    return {"threads": int(torch.get_num_threads())}


def cuda(torch: Any) -> dict[str, Any]:
    """Initialise CUDA and return the GPUs, or what torch says instead."""
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return {"cuda_available": False}
    write(begin="CUDA initialisation")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = bool(torch.cuda.is_available())
    answer = {"cuda_available": available, "cuda_error": "", "gpus": []}
    try:
        torch.cuda.init()
        answer["gpus"] = [describe(torch, index) for index in range(torch.cuda.device_count())]
    except Exception as error:
        answer["cuda_error"] = said(error)
    if not answer["cuda_error"] and not available and caught:
        answer["cuda_error"] = str(caught[-1].message)
    return answer


def describe(torch: Any, index: int) -> dict[str, Any]:
    """Return one GPU; its free memory too, which makes a context on it."""
    properties = torch.cuda.get_device_properties(index)
    gpu = {
        "index": index,
        "name": properties.name,
        "capability": [properties.major, properties.minor],
        "total_bytes": properties.total_memory,
    }
    try:
        gpu["free_bytes"] = torch.cuda.mem_get_info(index)[0]
    except Exception as error:
        gpu["error"] = said(error)
    return gpu


if __name__ == "__main__":
    main()
