"""Public figures of the device memory that a torch process holds outside its allocator: data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ComputeCapability = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRow:
    """One public figure of what a torch process holds outside the caching allocator."""

    device: str
    """Start of the name that the driver gives; what follows it (``-SXM4-40GB``) is left out where
    the source does not say it."""
    compute_capability: ComputeCapability
    sm_count: int
    mib: float
    """Memory of the process less what the allocator reserved."""
    after_work: bool
    """Read when a model had run (from the figures of an out-of-memory message, which are
    rounded to 0.01 GiB: ±10 MiB), or of a context without any kernel loaded by a model."""
    torch_release: str
    """Empty where the source does not say."""
    date: str
    source: str


CONTEXT_ROWS: Final[tuple[ContextRow, ...]] = (
    ContextRow(
        device="Tesla T4",
        compute_capability=(7, 5),
        sm_count=40,
        mib=135.2,
        after_work=True,
        torch_release="",
        date="2025-11-25",
        source="github.com/Zheng-Chong/CatVTON/issues/133: 4.11 GiB - 3.72 GiB - 264.21 MiB",
    ),
    ContextRow(
        device="NVIDIA RTX A4000",
        compute_capability=(8, 6),
        sm_count=48,
        mib=210.1,
        after_work=True,
        torch_release="",
        date="2025-07-14",
        source="github.com/DengKaiCQ/VGGT-Long/issues/6: 15.51 GiB - 15.01 GiB - 301.92 MiB",
    ),
    ContextRow(
        device="NVIDIA A10",
        compute_capability=(8, 6),
        sm_count=72,
        mib=223.7,
        after_work=True,
        torch_release="",
        date="2023-12-22",
        source="github.com/zai-org/CogVLM/issues/236: 21.91 GiB - 21.69 GiB - 1.55 MiB",
    ),
    ContextRow(
        device="NVIDIA L4",
        compute_capability=(8, 9),
        sm_count=58,
        mib=235.5,
        after_work=True,
        torch_release="",
        date="2025-11-14",
        source="github.com/ArcInstitute/evo2/issues/190: 20.78 GiB - 18.66 GiB - 1.89 GiB",
    ),
    ContextRow(
        device="NVIDIA A100",
        compute_capability=(8, 0),
        sm_count=108,
        mib=501.1,
        after_work=True,
        torch_release="",
        date="2025-01-10",
        source="github.com/TianheWu/CoSeR/issues/10: 14.25 GiB - 12.87 GiB - 912.01 MiB",
    ),
    ContextRow(
        device="NVIDIA A100",
        compute_capability=(8, 0),
        sm_count=108,
        mib=408.8,
        after_work=True,
        torch_release="",
        date="2025-12-18",
        source="github.com/HiDream-ai/VAREdit/issues/6: 16.54 GiB - 15.94 GiB - 205.65 MiB",
    ),
    ContextRow(
        device="NVIDIA GeForce RTX 4090",
        compute_capability=(8, 9),
        sm_count=128,
        mib=472.7,
        after_work=True,
        torch_release="",
        date="2024-08-12",
        source="github.com/pinokiofactory/flux-webui/issues/11: 22.69 - 21.72 GiB - 520.54 MiB",
    ),
    ContextRow(
        device="NVIDIA GeForce RTX 4090",
        compute_capability=(8, 9),
        sm_count=128,
        mib=479.3,
        after_work=True,
        torch_release="",
        date="2025-07-03",
        source="github.com/lrzjason/T2ITrainer/issues/37: 22.39 GiB - 21.58 GiB - 350.11 MiB",
    ),
    ContextRow(
        device="NVIDIA GeForce RTX 4090",
        compute_capability=(8, 9),
        sm_count=128,
        mib=503.6,
        after_work=True,
        torch_release="",
        date="2025-08-10",
        source="github.com/3DTopia/Phidias-Diffusion/issues/8: 14.56 - 13.86 GiB - 213.20 MiB",
    ),
    ContextRow(
        device="NVIDIA GeForce RTX 4090",
        compute_capability=(8, 9),
        sm_count=128,
        mib=449.8,
        after_work=True,
        torch_release="",
        date="2026-01-09",
        source="github.com/Soul-AILab/SoulX-FlashTalk/issues/5: 21.61 - 21.16 GiB - 11.05 MiB",
    ),
    ContextRow(
        device="NVIDIA RTX 6000 Ada Generation",
        compute_capability=(8, 9),
        sm_count=142,
        mib=429.1,
        after_work=True,
        torch_release="",
        date="2025-07-18",
        source="github.com/DINGYANB/MTVCrafter/issues/21: 44.40 GiB - 43.94 GiB - 41.95 MiB",
    ),
    ContextRow(
        device="NVIDIA RTX 6000 Ada Generation",
        compute_capability=(8, 9),
        sm_count=142,
        mib=426.0,
        after_work=False,
        torch_release="2.10.0+cu130",
        date="2026-08-12",
        source="github.com/unslothai/unsloth-zoo/pull/1053: nvidia-smi after mem_get_info",
    ),
    ContextRow(
        device="NVIDIA L40",
        compute_capability=(8, 9),
        sm_count=142,
        mib=506.6,
        after_work=True,
        torch_release="",
        date="2026-06-04",
        source="github.com/QwenLM/Qwen3-VL/issues/2097: 11.13 GiB - 10.25 GiB - 394.50 MiB",
    ),
    ContextRow(
        device="NVIDIA H100 NVL",
        compute_capability=(9, 0),
        sm_count=132,
        mib=675.8,
        after_work=True,
        torch_release="",
        date="2025-05-16",
        source="github.com/ali-vilab/VACE/issues/56: 91.91 GiB - 86.10 GiB - 5.15 GiB",
    ),
    ContextRow(
        device="NVIDIA GeForce RTX 5090",
        compute_capability=(12, 0),
        sm_count=170,
        mib=595.0,
        after_work=True,
        torch_release="",
        date="2025-07-03",
        source="github.com/Wan-Video/Wan2.1/issues/465: 31.34 GiB - 30.74 GiB - 19.41 MiB",
    ),
)
"""One process on one GPU, kernels loaded lazily (torch 1.13 and newer). Messages where another
library evidently held gigabytes, or of several communicating processes, are left out.
Multiprocessors: CUDA cores of NVIDIA's datasheet over the cores per multiprocessor."""
