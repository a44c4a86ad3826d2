"""Which of several kernels PyTorch chooses, by its version and the settings of the user."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from torchgauge.trace.torch_internals.modes import DispatchMode, without_modes
from torchgauge.trace.torch_internals.onednn import lstm_workspace_bytes


def cpu_chooses_flash(*, grouped: bool) -> bool:
    """Return whether the CPU would run its flash attention now, for tensors that it can take.

    ``sdpa_kernel`` and ``enable_flash_sdp`` switch it off, and 2.6 has none for ``grouped``
    queries. ``torch._fused_sdp_choice``, ``torch._C._SDPBackend``: 2.6–2.13.
    """
    with without_modes():
        query = torch.empty((1, 2, 1, 8), device="cpu")
        key = query[:, :1] if grouped else query
        chosen = torch._fused_sdp_choice(query, key, key, enable_gqa=grouped)
    flash: int = torch._C._SDPBackend.FLASH_ATTENTION.value
    return chosen == flash


@functools.cache
def packed_lstm_takes_onednn() -> bool:
    """Return whether the CPU gives an LSTM over packed sequences of one length to oneDNN.

    Yes in 2.13, no in 2.6; seen by running one.
    """
    seen: list[str] = []

    class Watch(DispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with without_modes(), torch.no_grad():
        data, state = torch.zeros((2, 1), device="cpu"), torch.zeros((1, 1, 1), device="cpu")
        weight, sizes = torch.zeros((4, 1), device="cpu"), torch.ones(2, dtype=torch.int64)
        with Watch():
            torch.lstm(data, sizes, [state, state], [weight, weight], False, 1, 0.0, False, False)
    return any("mkldnn_rnn_layer" in name for name in seen)


@functools.cache
def has_early_onednn() -> bool:
    """Return whether oneDNN's LSTM keeps as much as up to version 3.7; seen by running one.

    ``lstm_workspace_bytes`` says what it keeps. Yes in 2.6 and 2.9, no in 2.13.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    with without_modes(), torch.autocast("cpu", enabled=False):
        source, state = torch.zeros((1, 1, 1), device="cpu"), torch.zeros((1, 1), device="cpu")
        weight, bias = torch.zeros((4, 1), device="cpu"), torch.zeros(4, device="cpu")
        try:
            layer = torch.ops.aten.mkldnn_rnn_layer(
                source, weight, weight, bias, bias, state, state, False, [], 2, 1, 1, True, False,
                False, True,
            )  # fmt: skip
        except RuntimeError:  # a build whose oneDNN has no such kernel
            return False
    return bool(layer[3].nbytes > lstm_workspace_bytes(1, 1, 1, 1))


def enabled_attention() -> frozenset[str]:
    """Return the attention kernels that ``sdpa_kernel`` has not switched off for CUDA."""
    cuda = torch.backends.cuda
    switches: dict[str, Callable[[], bool]] = {
        "flash": cuda.flash_sdp_enabled,
        "efficient": cuda.mem_efficient_sdp_enabled,
        "cudnn": cuda.cudnn_sdp_enabled,
        "math": cuda.math_sdp_enabled,
    }
    return frozenset(name for name, is_enabled in switches.items() if is_enabled())


_ATTENTION_BACKENDS = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn"}
"""Numbers of ``torch._C._SDPBackend`` (2.6–2.13); others have no kernel on CUDA."""
_ATTENTION_AT_START = ("flash", "efficient", "math", "cudnn")
"""``sdp_priority_order`` in ``aten/src/ATen/Context.h``; nothing changes it without a GPU."""


def attention_order_of_the_user() -> tuple[str, ...] | None:
    """Return the order that ``sdpa_kernel(…, set_priority=True)`` asks for, ``None`` without it.

    ``torch._C._get_sdp_priority_order``: 2.6–2.13. In 2.6 its last place is empty, which reads as a
    second "math".
    """
    order = torch._C._get_sdp_priority_order()
    known = dict.fromkeys(number for number in order if number in _ATTENTION_BACKENDS)
    names = tuple(_ATTENTION_BACKENDS[number] for number in known)
    return None if names == _ATTENTION_AT_START else names
