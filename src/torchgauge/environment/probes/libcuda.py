"""Ask the CUDA driver's library what it is and which GPUs it sees. Needs no torch.

Usage: ``libcuda.py OUTPUT``. Creates no context, so it takes no memory of a GPU.
Functions and attribute numbers: CUDA Driver API, https://docs.nvidia.com/cuda/cuda-driver-api/.
"""

from __future__ import annotations

import sys

FOLDER = sys.path.pop(0)  # this file's: nothing is to be imported from there

import ctypes  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402

LIBRARIES = {"win32": ("nvcuda.dll",), "darwin": ()}.get(
    sys.platform,
    # The second is where Windows' subsystem for Linux puts the driver, should ldconfig not know.
    ("libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"),
)
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


def main() -> None:
    """Load it, initialise it, list the GPUs: a line after each step."""
    library = load()
    if library is None:
        return
    version = ctypes.c_int(0)
    if library.cuDriverGetVersion(ctypes.byref(version)) == 0:
        write(cuda=[version.value // 1000, version.value % 1000 // 10])
    status = library.cuInit(0)
    write(init_status=status)
    if status != 0:
        return
    count = ctypes.c_int(0)
    library.cuDeviceGetCount(ctypes.byref(count))
    write(gpus=[describe(library, index) for index in range(count.value)])


def write(**content: object) -> None:
    """Append one line to the output."""
    with open(sys.argv[1], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(content) + "\n")


def load() -> ctypes.CDLL | None:
    """Load the library, writing what came of it."""
    messages = []
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            messages.append(str(error))
            continue
        write(loaded=True, path=loaded_from(name))
        return library
    messages.append("there is no NVIDIA driver for this system")
    write(loaded=False, message=messages[0])
    return None


def loaded_from(name: str) -> str:
    """Return the file that a library was loaded from, as Linux lists it."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                path = line.rstrip("\n").partition("/")[2]
                if os.path.basename(path).startswith("libcuda.so"):
                    return "/" + path
    except OSError:
        pass
    return name


def describe(library: ctypes.CDLL, index: int) -> dict[str, object]:
    """Return one GPU's name, compute capability and memory."""
    device = ctypes.c_int(0)
    library.cuDeviceGet(ctypes.byref(device), index)
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGetName(name, 256, device)
    numbers = []
    for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
        value = ctypes.c_int(0)
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    total = ctypes.c_size_t(0)
    library.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    return {
        "index": index,
        "name": name.value.decode("utf-8", "replace"),
        "capability": numbers,
        "total_bytes": total.value,
    }


if __name__ == "__main__":
    main()
