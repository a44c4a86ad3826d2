"""What can be read off a device. A CPU answers ``None`` where it has nothing of the kind."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from benchmarks.gpu_truth.schema import AllocatorHistory, CapSearch, Environment, PhaseMemory

_LIBRARIES = ("torchvision", "timm", "transformers", "diffusers", "torch_geometric", "triton")
_CAP_TRIES = 6
_HISTORY_ENTRIES = 400_000
_PAGE = 2 * 1024 * 1024


class Gauge:
    """A device without memory statistics: the CPU."""

    name = "cpu"
    has_allocator = False

    def synchronize(self) -> None:
        """Wait until the device has done everything that it was given."""

    def clean(self) -> None:
        """Leave nothing of one case to the next."""
        gc.collect()

    def before_op(self) -> Any:
        """Return what ``after_op`` needs."""
        return None

    def after_op(self, before: Any) -> tuple[int | None, int | None]:
        """Return bytes allocated by the op and its transient bytes."""
        return None, None

    def reset_peaks(self) -> None:
        """Start a phase."""

    def phase_memory(self, step: int, phase: str) -> PhaseMemory | None:
        """Return the statistics at the end of a phase."""
        return None

    def start_history(self) -> None:
        """Keep the allocator's events from now on."""

    def mark_history(self, step: int, phase: str) -> None:
        """Note the end of a phase among the events."""

    def stop_history(self) -> AllocatorHistory | None:
        """Return the events since ``start_history``."""
        return None

    def search_cap(self, run: Callable[[], None], low: int, high: int) -> CapSearch | None:
        """Return the smallest cap between two byte counts under which ``run`` still works."""
        return None

    def environment(self) -> Environment:
        """Return the machine and the versions."""
        capability = torch.backends.cpu.get_cpu_capability()
        properties = {"threads": torch.get_num_threads(), "capability": capability}
        return _environment(self.name, platform.machine(), properties)


class CudaGauge(Gauge):
    """A CUDA device, by torch's own statistics."""

    name = "cuda"
    has_allocator = True

    def __init__(self) -> None:
        used_before = _device_used_from_outside()
        self._anchor = torch.zeros(1, device="cuda")
        torch.cuda.synchronize()
        used = _device_used_from_outside()
        reserved = torch.cuda.memory_reserved()
        both = used is not None and used_before is not None
        self._context = used - used_before - reserved if both else None
        self._marks: list[tuple[int, str, int]] = []
        self._segments: list[Any] = []
        self._recording = False

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def clean(self) -> None:
        self._stop_recording()
        gc.collect()
        torch.cuda.synchronize()
        # Workspaces of cuBLAS stay in the allocator; private, 2.0–2.13.
        getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def before_op(self) -> int:
        torch.cuda.reset_peak_memory_stats()
        return _allocated(torch.cuda.memory_stats_as_nested_dict())[0]

    def after_op(self, before: Any) -> tuple[int | None, int | None]:
        after, peak = _allocated(torch.cuda.memory_stats_as_nested_dict())
        return after - before, peak - max(before, after)

    def reset_peaks(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def phase_memory(self, step: int, phase: str) -> PhaseMemory:
        torch.cuda.synchronize()
        stats = torch.cuda.memory_stats()
        free, total = torch.cuda.mem_get_info()
        return PhaseMemory(
            step=step,
            phase=phase,
            allocated_bytes=stats["allocated_bytes.all.current"],
            reserved_bytes=stats["reserved_bytes.all.current"],
            peak_allocated_bytes=stats["allocated_bytes.all.peak"],
            peak_reserved_bytes=stats["reserved_bytes.all.peak"],
            peak_requested_bytes=stats.get("requested_bytes.all.peak"),
            device_bytes=total - free,
        )

    # torch.cuda.memory._record_memory_history and _snapshot: 2.1–2.13, documented but private.

    def start_history(self) -> None:
        self._marks = []
        self._recording = True
        self._segments = torch.cuda.memory._snapshot()["segments"]
        torch.cuda.memory._record_memory_history(
            enabled="all", context=None, stacks="python", max_entries=_HISTORY_ENTRIES
        )

    def mark_history(self, step: int, phase: str) -> None:
        events = torch.cuda.memory._snapshot()["device_traces"]
        self._marks.append((step, phase, len(events[torch.cuda.current_device()])))

    def stop_history(self) -> AllocatorHistory:
        events = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
        self._stop_recording()
        # An event without an address is a failed allocation.
        places = [event.get("addr") or 0 for event in events]
        known = [segment["address"] for segment in self._segments] + places
        base = min((address for address in known if address), default=0)
        history = AllocatorHistory(
            segments=tuple(
                (
                    segment["address"] - base,
                    segment["total_size"],
                    segment["stream"],
                    tuple((b["size"], b["state"] != "inactive") for b in segment["blocks"]),
                )
                for segment in self._segments
            ),
            events=tuple(
                (e["action"], max(0, place - base), e["size"], e["stream"])
                for e, place in zip(events, places, strict=True)
                if e["action"] != "snapshot"
            ),
            marks=_without_snapshots(self._marks, [e["action"] for e in events]),
        )
        self._segments = []
        return history

    def _stop_recording(self) -> None:
        if self._recording:
            torch.cuda.memory._record_memory_history(enabled=None)
            self._recording = False

    def search_cap(self, run: Callable[[], None], low: int, high: int) -> CapSearch:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        best, worst, tries = None, None, 0
        cap = high
        try:
            while tries < _CAP_TRIES:
                self.clean()
                torch.cuda.set_per_process_memory_fraction(min(1.0, cap / total))
                tries += 1
                try:
                    run()
                    torch.cuda.synchronize()
                    best = high = cap
                except torch.cuda.OutOfMemoryError:
                    worst = low = cap
                    if best is None:
                        break  # the uncapped peak should have been enough
                if high - low <= _PAGE:
                    break
                cap = (low + high) // 2 // _PAGE * _PAGE
                if cap <= low:
                    break
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
            self.clean()
        return CapSearch(smallest_ok_bytes=best, largest_failed_bytes=worst, tries=tries)

    def environment(self) -> Environment:
        device = torch.cuda.get_device_properties(torch.cuda.current_device())
        names = ("major", "minor", "total_memory", "multi_processor_count", "L2_cache_size")
        return _environment(
            self.name,
            device.name,
            {name: getattr(device, name) for name in names if hasattr(device, name)},
            context=self._context,
        )


def gauge_for(device: str) -> Gauge:
    """Return the gauge of a device.

    Raises:
        RuntimeError: when torch sees no CUDA device.
    """
    if device == "cpu":
        return Gauge()
    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device: use --device cpu for a dry run")
    return CudaGauge()


def _allocated(stats: dict[str, Any]) -> tuple[int, int]:
    pool = stats["allocated_bytes"]["all"]
    return pool["current"], pool["peak"]


def _without_snapshots(
    marks: list[tuple[int, str, int]], actions: list[str]
) -> tuple[tuple[int, str, int], ...]:
    return tuple((step, phase, end - actions[:end].count("snapshot")) for step, phase, end in marks)


def _device_used_from_outside() -> int | None:
    """Return the bytes in use on the device without making a context of our own."""
    shown = _nvidia_smi("memory.used")
    return int(shown) * 2**20 if shown and shown.isdigit() else None


def _nvidia_smi(field: str) -> str | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = ["nvidia-smi", f"--id={visible}", f"--query-gpu={field}",
               "--format=csv,noheader,nounits"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0].strip() if done.stdout.strip() else None


def _environment(
    device: str, device_name: str, properties: dict[str, Any], context: int | None = None
) -> Environment:
    cuda = device == "cuda"
    return Environment(
        torch=torch.__version__,
        python=platform.python_version(),
        device=device,
        device_name=device_name,
        properties=properties,
        cuda=torch.version.cuda if cuda else None,
        cudnn=torch.backends.cudnn.version() if cuda else None,
        driver=_nvidia_smi("driver_version") if cuda else None,
        context_bytes=context,
        allocator=os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF"),
        libraries={name: found for name in _LIBRARIES if (found := _version(name))},
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
