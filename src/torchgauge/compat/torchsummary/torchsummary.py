"""``summary`` and ``summary_string`` as torchsummary has them.

Signatures and layout: torchsummary 1.5.1 and the newest version of its repository
(sksq96/pytorch-summary), which adds ``dtypes``, ``summary_string`` and what is returned.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex, TypeAlias

import torch
from torch import nn

from torchgauge.compat.dtypes import dtypes_of
from torchgauge.compat.torchsummary.rows import Row, rows_of
from torchgauge.compat.torchsummary.runs import SummaryRun, run_summary
from torchgauge.errors import InputError
from torchgauge.trace.isolate.isolation import collector_paused

Dtype: TypeAlias = torch.dtype | str | type
_INVALID_DEVICE = "Input device is not valid, please specify 'cuda' or 'cpu'"
_MEBIBYTE = 1024**2
"""What torchsummary calls MB."""
_DASHES, _EQUALS = "-" * 64, "=" * 64


def summary(
    model: nn.Module,
    input_size: Any,
    batch_size: int = -1,
    device: torch.device | str | int | None = "cuda",
    dtypes: Sequence[Dtype] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Print a model's layers in the order in which they finish, and return its parameters.

    Nothing is allocated and the model is not touched: ``device="cuda"`` needs no GPU.

    Args:
        model: any module.
        input_size: shape of the input without the batch, or a list of shapes for several inputs.
        batch_size: the batch that shapes and sizes are for; -1 shows ``-1``, and the sizes are
            those of one sample.
        device: accepted as the original accepts it; the run is simulated.
        dtypes: one per input (``torch.long``, ``torch.LongTensor``); found out when left out.

    Returns:
        ``(total_params, trainable_params)`` as 0-d tensors; each parameter counts once.

    Raises:
        AssertionError: the device is none.
        InputError: the sizes, the batch or the dtypes make no sense.
        ModelError: the model failed; also an instance of the built-in class that it raised.
    """
    text, totals = _answer(model, input_size, batch_size, device, dtypes, with_root=False)
    print(text)
    return totals


def summary_string(
    model: nn.Module,
    input_size: Any,
    batch_size: int = -1,
    device: torch.device | str | int | None = "cuda:0",
    dtypes: Sequence[Dtype] | None = None,
) -> tuple[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the table as text, with a row for the model itself, and its parameters.

    Arguments and errors are those of ``summary``.

    >>> text, (total, trainable) = summary_string(nn.Linear(2, 5), (2,))
    >>> int(total), text.splitlines()[3].split()
    (15, ['Linear-1', '[-1,', '5]', '15'])
    """
    text, totals = _answer(model, input_size, batch_size, device, dtypes, with_root=True)
    return text + "\n", totals


@collector_paused()  # until all that ran is gone
def _answer(
    model: nn.Module,
    input_size: Any,
    batch_size: SupportsIndex,
    device: torch.device | str | int | None,
    dtypes: Sequence[Dtype] | None,
    *,
    with_root: bool,
) -> tuple[str, tuple[torch.Tensor, torch.Tensor]]:
    batch = _batch(batch_size)
    _check_device(device)
    sizes = _sizes(input_size)
    run = run_summary(model, sizes, dtypes_of(dtypes, len(sizes)), abs(batch))
    return _table(run, rows_of(run, batch, with_root=with_root)), _totals(run)


def _batch(batch_size: SupportsIndex) -> int:
    """Return the batch size as a number of Python's own, which shapes show."""
    if not isinstance(batch_size, SupportsIndex) or batch_size == 0:
        raise InputError(
            f"batch_size={batch_size!r} is not a batch size",
            hint="give 1 or more, or -1 to leave it open",
        )
    return operator.index(batch_size)


def _check_device(device: torch.device | str | int | None) -> None:
    """Refuse what is no device, in the original's words; whether it is there does not matter."""
    if not isinstance(device, str):
        return
    try:
        torch.device(device.lower())
    except RuntimeError:
        raise AssertionError(_INVALID_DEVICE) from None


def _sizes(input_size: Any) -> list[tuple[int, ...]]:
    """Return the shape of each input, without the batch."""
    try:
        items = list(input_size)
    except TypeError:
        raise InputError(
            f"input_size {input_size!r} is not a shape", hint="for example (3, 224, 224)"
        ) from None
    if isinstance(input_size, dict):
        raise InputError(
            "torchsummary passes inputs by position; a dict names them",
            hint="give a list of shapes in the order of forward, or call torchgauge.summary",
        )
    several = bool(items) and all(isinstance(item, Iterable) for item in items)
    return [tuple(item) for item in items] if several else [tuple(items)]


def _table(run: SummaryRun, rows: Sequence[Row]) -> str:
    total, trainable = run.params
    sizes = (run.input_bytes, run.pass_bytes, run.param_bytes)
    lines = [
        _DASHES,
        _line("Layer (type)", "Output Shape", "Param #"),
        _EQUALS,
        *(_line(row.name, row.output_shape, f"{row.params:,}") for row in rows),
        _EQUALS,
        f"Total params: {total:,}",
        f"Trainable params: {trainable:,}",
        f"Non-trainable params: {total - trainable:,}",
        _DASHES,
        f"Input size (MB): {_megabytes(sizes[0])}",
        f"Forward/backward pass size (MB): {_megabytes(sizes[1])}",
        f"Params size (MB): {_megabytes(sizes[2])}",
        f"Estimated Total Size (MB): {_megabytes(sum(sizes))}",
        _DASHES,
        *run.notes,
    ]
    return "\n".join(lines)


def _line(name: str, shape: str, params: str) -> str:
    return f"{name:>20}  {shape:>25} {params:>15}"


def _megabytes(size: int) -> str:
    return f"{size / _MEBIBYTE:.2f}"


def _totals(run: SummaryRun) -> tuple[torch.Tensor, torch.Tensor]:
    total, trainable = run.params
    return torch.tensor(total), torch.tensor(trainable)
