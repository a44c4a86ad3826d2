"""A torch for staged machines: what the doctor's probes ask of it, answered as the real one does.

It becomes ``torch/__init__.py`` of a staged environment, beside a ``version.py`` and a
``staged.json``. It finds GPUs through ``libcuda.so.1``, so that CUDA_VISIBLE_DEVICES, an old driver
or none at all have their real effects. Its tensors hold one number; they cannot compute.
"""

import ctypes
import json
import os
import signal
import sys
import time
import types
from pathlib import Path

from torch import version

_STAGED = json.loads((Path(__file__).parent / "staged.json").read_text())
__version__ = version.__version__
float64 = "float64"

if _STAGED["at_import"] == "abort":
    os.abort()
if _STAGED["at_import"].startswith("SIG"):
    os.kill(os.getpid(), getattr(signal, _STAGED["at_import"]))
if _STAGED["at_import"] == "hang":
    time.sleep(600)
if _STAGED["at_import"]:
    raise ImportError(_STAGED["at_import"])


class _Driver:
    """What the CUDA runtime finds; raises as torch does."""

    def __init__(self):
        if version.cuda is None:
            raise AssertionError("Torch not compiled with CUDA enabled")
        try:
            library = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise RuntimeError("Found no NVIDIA driver on your system.") from None
        number = ctypes.c_int()
        library.cuDriverGetVersion(ctypes.byref(number))
        if number.value // 1000 < int(version.cuda.split(".")[0]):
            raise RuntimeError(
                "The NVIDIA driver on your system is too old (found version "
                f"{number.value}). Please update your GPU driver"
            )
        status = library.cuInit(0)
        if status == 100:
            raise RuntimeError("No CUDA GPUs are available")
        if status:
            raise RuntimeError(f"Unexpected error from cudaGetDeviceCount(): {status}")
        settings = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
        for pair in filter(None, settings.split(",")):
            key = pair.split(":")[0]
            if key not in ("max_split_size_mb", "backend") and "expandable_segments" not in key:
                raise RuntimeError(f"Unrecognized key '{key}' in CUDA allocator config.")
        library.cuDeviceGetCount(ctypes.byref(number))
        _fault("init")
        self.gpus = [self._gpu(library, index) for index in range(number.value)]

    @staticmethod
    def _gpu(library, index):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        library.cuDeviceGet(ctypes.byref(device), index)
        name, total = ctypes.create_string_buffer(256), ctypes.c_size_t()
        library.cuDeviceGetName(name, 256, device)
        library.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        library.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        library.cuDeviceTotalMem_v2(ctypes.byref(total), device)
        return types.SimpleNamespace(
            name=name.value.decode(),
            major=major.value,
            minor=minor.value,
            total_memory=total.value,
        )


def _gpus():
    try:
        return _Driver().gpus
    except (AssertionError, RuntimeError):
        return []


def _fail_without_kernels(device):
    if not device.startswith("cuda"):
        return
    gpu = _Driver().gpus[int(device.partition(":")[2] or 0)]
    for name in _STAGED["architectures"]:
        major, minor = int(name.split("_")[1][:-1]), int(name[-1])
        if major == gpu.major and minor <= gpu.minor:
            return
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device")


class Tensor:
    """One number that stands for a tensor."""

    def __init__(self, value=0.0, device="cpu"):
        _fail_without_kernels(device)
        self.value, self.device = value, device

    def to(self, device):
        return Tensor(self.value, device)

    def item(self):
        return self.value

    def numel(self):
        return 65536

    def __ne__(self, other):
        return Tensor(3)

    def __int__(self):
        return int(self.value)

    __hash__ = None

    def _same(self, *arguments):
        return self

    sum = min = max = cpu = double = float = reshape = __mod__ = _same


def get_num_threads():
    return int(os.environ.get("OMP_NUM_THREADS", "8"))


def _fault(name):
    if _STAGED["faults"].get(name) == "hang":
        time.sleep(600)
    if name in _STAGED["faults"]:
        raise RuntimeError(_STAGED["faults"][name])


def ones(count, device="cpu"):
    _fault("allocation")
    return Tensor(count, device)


def arange(count, dtype=None):
    return Tensor(count)


def full(shape, value, device="cpu"):
    return Tensor(value, device)


def matmul(left, right):
    _fault("matmul")
    return Tensor(left.value, left.device)


def _conv2d(image, weight, padding):
    _fault("convolution")
    return Tensor(image.value, image.device)


def equal(left, right):
    return "equal" not in _STAGED["faults"]


def _module(name, **content):
    module = types.ModuleType(f"torch.{name}")
    vars(module).update(content)
    sys.modules[module.__name__] = module
    return module


def _all_reduce(tensor):
    _fault("all-reduce")
    world = distributed.world_size
    tensor.value = world * (world + 1) / 2 + ("sum" in _STAGED["faults"])


def _init_process_group(backend, init_method, rank, world_size, timeout):
    distributed.world_size = world_size


backends = types.SimpleNamespace(
    mps=types.SimpleNamespace(is_available=lambda: False),
    cudnn=types.SimpleNamespace(version=lambda: 90100),
)
_C = types.SimpleNamespace(_cuda_getArchFlags=lambda: " ".join(_STAGED["architectures"]) or None)
cuda = _module(
    "cuda",
    is_available=lambda: bool(_gpus()),
    init=_Driver,
    device_count=lambda: len(_gpus()),
    get_device_properties=lambda index: _gpus()[index],
    mem_get_info=lambda index: (_gpus()[index].total_memory, _gpus()[index].total_memory),
    set_device=lambda index: None,
    get_arch_list=lambda: list(_STAGED["architectures"]) if _gpus() else [],
    nccl=types.SimpleNamespace(version=lambda: (2, 21, 5)),
)
nn = types.SimpleNamespace(functional=types.SimpleNamespace(conv2d=_conv2d))
distributed = _module(
    "distributed",
    is_available=lambda: True,
    is_backend_available=lambda name: True,
    init_process_group=_init_process_group,
    all_reduce=_all_reduce,
    destroy_process_group=lambda: None,
    world_size=1,
)
