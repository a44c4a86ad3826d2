"""How the releases of torch word an out-of-memory error: patterns of their texts.

Source: the message of ``DeviceCachingAllocator::malloc`` in ``c10/cuda/CUDACachingAllocator.cpp``
and of ``mallocAsync`` in ``CUDAMallocAsyncAllocator.cpp`` of pytorch/pytorch, release by release.
Sizes are those of ``format_size``: two decimals of KiB, MiB or GiB, whole bytes below.
"""

from __future__ import annotations

import re
from typing import Final

SIZE: Final = r"(-?\d+(?:\.\d+)?) (bytes|KiB|MiB|GiB)"
UNITS: Final = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
START: Final = re.compile(
    r"(?:(\w+) )?[Oo]ut of memory\. Tried to allocate|Allocation on device \d+ would exceed allowed"
)
FIGURES: Final = {
    "tried": (rf"Tried to allocate {SIZE}", rf"Requested\s*: {SIZE}"),
    "capacity": (
        rf"{SIZE} total capacity", rf"total capaci?ty of {SIZE}", rf"Device limit\s*: {SIZE}",
    ),
    "allocated": (
        rf"{SIZE} already allocated", rf"Of the allocated memory {SIZE} is allocated",
        rf"Currently allocated\s*: {SIZE}",
    ),
    "free": (
        rf"{SIZE} free;", rf"of which {SIZE} ?is free", rf"Free \(according to CUDA\)\s*: {SIZE}"
    ),
    "allowed": (rf"{SIZE} allowed;",),
    "reserved": (rf"{SIZE} reserved in total", rf"{SIZE} reserved by PyTorch\)"),
    "unallocated": (rf"{SIZE} is reserved by PyTorch but", rf"{SIZE} cached"),
    "private": (rf"{SIZE} allocated in private pools",),
}  # fmt: skip
"""By figure: how the releases write it, the older first."""
PROCESS: Final = re.compile(rf"(?:Process (\d+)|this process) has {SIZE} memory in use")
WORDINGS: Final = (
    ("Currently allocated :", "2.0+, cudaMallocAsync"),
    ("bytes inactive)", "1.3"),
    ("iB inactive)", "1.3"),
    (" cached)", "1.0–1.2"),
    ("PYTORCH_ALLOC_CONF", "2.10+"),
    ("expandable_segments:True to avoid", "2.2+"),
    ("total capacty of", "2.1"),
    ("reserved by PyTorch but unallocated", "2.1+"),
    ("max_split_size_mb to avoid", "1.10–2.0"),
    ("reserved in total by PyTorch)", "1.4–1.9"),
)
"""What only some releases write, and which; the first that a message holds counts."""
GPU: Final = re.compile(r"\b(?:GPU|NPU|MLU|on device) (\d+)")
