"""Try inputs on a model, and read from the error what else the model wants."""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.report.model import Failure
    from torchgauge.trace.inputs import InputTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What came of one try."""

    error: Exception | None
    failure: Failure | None = None
    outputs: tuple[tuple[int, ...], ...] = ()
    """Shapes of the tensors that came back."""

    @property
    def runs(self) -> bool:
        """Return whether the inputs are right, as far as a run without data can tell."""
        from torchgauge.trace.missing_data import needs_values

        return self.error is None or needs_values(self.error)


def probe(model: nn.Module, inputs: Mapping[str, InputTensor]) -> Probe:
    """Run the model's forward once, on tensors without data; nothing of it is kept."""
    from torchgauge.report.model import Execution
    from torchgauge.report.scenario import Scenario
    from torchgauge.trace.inputs import InputPlan
    from torchgauge.trace.isolation import collector_paused, unheard
    from torchgauge.trace.session import Request, Session

    request = Request(
        model=model,
        plan=InputPlan(kwargs=dict(inputs), batch_size=1),
        scenario=Scenario(),
        model_name=type(model).__name__,
        simulated_only=True,
    )
    with collector_paused(), unheard():
        outcome = Session(request, Execution.SIMULATED, keep_ops=False).run()
    trace = outcome.trace
    shapes = tuple(value.tensor.shape for value in trace.outputs if value.tensor is not None)
    return Probe(error=outcome.error, failure=trace.failure, outputs=shapes)


# ---------------------------------------------------------------------------- what is missing


def missing_arguments(
    error: Exception, arguments: Iterable[str], given: Iterable[str]
) -> Iterator[str]:
    """Return arguments of the forward that the error asks for, the surest first."""
    absent = [name for name in arguments if name not in set(given)]
    text = str(error)
    if match := re.search(r"missing \d+ required .*arguments?: (.*)", text):
        named = re.findall(r"'(\w+)'", match[1])
        yield from (name for name in named if name in absent)
    for frame, line in _frames(error):
        for word in re.findall(r"[A-Za-z_]\w*", line):
            if word in frame.f_locals and frame.f_locals[word] is None:
                yield from (n for n in absent if n == word or n.endswith(f"_{word}"))
    words = re.findall(r"\w+", text)
    yield from sorted((name for name in absent if name in words), key=words.index)


def _frames(error: Exception) -> Iterator[tuple[FrameType, str]]:
    """Return the frames of the model's own code, the innermost first, each with its line."""
    found = []
    traceback = error.__traceback__
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith(("torch.", "torchgauge.")):
            found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    for frame, number in reversed(found):
        yield frame, linecache.getline(frame.f_code.co_filename, number)


# ---------------------------------------------------------------------------- what has a wrong size


def wanted_rank(error: Exception) -> int | None:
    """Return how many dimensions the model wanted to unpack, where that is what failed."""
    match = re.search(r"values to unpack \(expected (\d+)", str(error))
    return int(match[1]) if match else None


def repaired(
    model: nn.Module, failure: Failure, inputs: Mapping[str, InputTensor]
) -> InputTensor | None:
    """Return the input with the size that the layer at which the run failed takes.

    Only where the layer got the input as it is, up to its leading dimensions.
    """
    wanted = _wanted_size(model, failure)
    got = next((value.tensor.shape for value in failure.inputs if value.tensor is not None), ())
    if wanted is None or len(got) < wanted[0]:
        return None
    from_end, size = wanted
    for tensor in inputs.values():
        shape = list(tensor.shape)
        if tensor.values is not None or not tensor.dtype.is_floating_point:
            continue
        if len(shape) <= from_end or tuple(shape[-2:]) != tuple(got[-2:]):
            continue
        if size in shape[1:]:  # the dimensions stand in another order
            other = len(shape) - 1 - shape[::-1].index(size)
            shape[-from_end], shape[other] = shape[other], shape[-from_end]
        else:
            shape[-from_end] = size
        if tuple(shape) != tensor.shape:
            return replace(tensor, shape=tuple(shape))
    return None


def _wanted_size(model: nn.Module, failure: Failure) -> tuple[int, int] | None:
    """Return which dimension, counted from the end, the layer wants to have which size."""
    from torch import nn

    try:
        layer = model.get_submodule(failure.path)
    except AttributeError:
        return None
    if isinstance(layer, nn.Linear):
        return (1, layer.in_features)
    if isinstance(layer, nn.LayerNorm):
        return (1, layer.normalized_shape[-1])
    if isinstance(layer, nn.modules.conv._ConvNd):
        return (len(layer.kernel_size) + 1, layer.in_channels)
    return None


def signature(function: Any) -> dict[str, bool]:
    """Return the names of the arguments that a tensor can go to, and which must be given."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind in kinds}
