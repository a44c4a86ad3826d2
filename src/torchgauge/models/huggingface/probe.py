"""Try inputs on a model, and read from the error what else the model wants."""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.facts.trace import Failure
    from torchgauge.trace.inputs.plan import InputTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What came of one try."""

    error: Exception | None
    failure: Failure | None = None
    outputs: tuple[tuple[int, ...], ...] = ()
    """Shapes of the tensors that came back."""
    calls: int = 0
    """How many modules had been called."""

    @property
    def runs(self) -> bool:
        """Return whether the inputs are right, as far as a run without data can tell."""
        from torchgauge.trace.failures.missing_data import needs_values

        return self.error is None or needs_values(self.error)


def probe(model: nn.Module, inputs: Mapping[str, InputTensor]) -> Probe:
    """Run the model's forward once, on tensors without data; nothing of it is kept."""
    from torchgauge.facts.scenario import Scenario
    from torchgauge.facts.trace import Execution
    from torchgauge.trace.inputs.plan import InputPlan
    from torchgauge.trace.isolate.isolation import collector_paused, unheard
    from torchgauge.trace.run.run_plan import RunPlan
    from torchgauge.trace.run.session import Session

    request = RunPlan(
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
    return Probe(error=outcome.error, failure=trace.failure, outputs=shapes, calls=len(trace.calls))


# ---------------------------------------------------------------------------- what is missing


def missing_arguments(
    error: Exception, arguments: Iterable[str], given: Iterable[str]
) -> Iterator[str]:
    """Return arguments of the forward that the error asks for, the surest first."""
    known = set(given)
    of_video = any("video" in name for name in known)
    absent = sorted(  # of image_grid_thw and video_grid_thw the one beside which it would stand
        (name for name in arguments if name not in known),
        key=lambda name: (name.startswith("video") != of_video, name),
    )
    text = str(error)
    if match := re.search(r"missing \d+ required .*arguments?: (.*)", text):
        named = re.findall(r"'(\w+)'", match[1])
        yield from (name for name in named if name in absent)
    is_of_none = "None" in text or "'bool' object" in text  # what ``None == -1`` gives
    for frame, line in _frames(error) if is_of_none else ():
        for word in re.findall(r"[A-Za-z_]\w*", line):
            if word in frame.f_locals and frame.f_locals[word] is None:
                yield from (n for n in absent if n == word or n.endswith(f"_{word}"))
    words = re.findall(r"\w+", text)
    yield from sorted((name for name in absent if name in words), key=words.index)


def missing_parts(error: Exception) -> Iterator[str]:
    """Return what a layer did not get: names that are ``None`` where it failed, outermost first.

    Such a name reaches it through ``**kwargs`` of the model (Voxtral Realtime's ``t_cond``).
    """
    if "not NoneType" in str(error):
        for frame, line in reversed([*_frames(error)]):
            for word in re.findall(r"[A-Za-z_]\w*", line):
                is_none = frame.f_locals.get(word, word) is None
                if is_none and not word.endswith("mask"):  # no layer needs a mask
                    yield word


def takes_more(function: Any) -> bool:
    """Return whether a function takes arguments that it does not name."""
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


def _frames(error: Exception) -> Iterator[tuple[FrameType, str]]:
    """Return the frames of the model's own code, the innermost first, each with what it called."""
    found = []
    traceback = error.__traceback__
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith(("torch.", "torchgauge.")):
            found.append((traceback.tb_frame, traceback.tb_lineno, traceback.tb_lasti))
        traceback = traceback.tb_next
    for frame, first, instruction in reversed(found):
        last = first
        if hasattr(frame.f_code, "co_positions"):  # since Python 3.11: a call over several lines
            position = next(islice(frame.f_code.co_positions(), instruction // 2, None), None)
            last = (position[1] if position else None) or first
        lines = (linecache.getline(frame.f_code.co_filename, n) for n in range(first, last + 1))
        yield frame, " ".join(lines)


# ---------------------------------------------------------------------------- what has a wrong size


def wanted_rank(error: Exception) -> tuple[int, int] | None:
    """Return how many dimensions the model wanted, and how many it got where that is known."""
    pattern = r"values to unpack \(expected (\d+)(?:, got (\d+))?|\b(\d)D tensor"
    match = re.search(pattern, str(error))
    return (int(match[1] or match[3]), int(match[2] or 0)) if match else None


_PAIRS = (
    r"Expected (?:size )?(\d+) .*?but got (?:size )?(\d+)",
    r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\)",
    r"dimension of length (\d+) at .*?broadcastable to \[.*?(\d+)(?=, \d+\]|\]$)",
    r"(\d+)\)? doesn't match\D*(\d+)",
    r"sequence length`?: (\d+) and max_position_embeddings: (\d+)",
)
"""Texts of two sizes that should be one."""


def repaired(
    model: nn.Module, failed: Probe, inputs: Mapping[str, InputTensor]
) -> Iterator[InputTensor]:
    """Return inputs with the size that the layer wants at which the run failed."""
    free = [tensor for tensor in inputs.values() if tensor.values is None]
    if failed.failure is not None and (wanted := _wanted_size(model, failed.failure)):
        yield from _for_layer(failed.failure, wanted, free)
    if match := re.search(r"multiple of [^.,]*?(\d+)\D*(?:[.,]|$)", str(failed.error)):
        step = int(match[1])
        for tensor in free:
            longest = max(tensor.shape[1:], default=0)
            yield _resized(tensor, longest, -(-longest // step) * step)
    for pattern in _PAIRS:
        if match := re.search(pattern, str(failed.error)):
            first, second = int(match[1]), int(match[2])
            for got, size in ((first, second), (second, first)):
                yield from (_resized(tensor, got, size) for tensor in free if size)


def _resized(tensor: InputTensor, got: int, size: int) -> InputTensor:
    shape = (tensor.shape[0], *(size if n == got else n for n in tensor.shape[1:]))
    return replace(tensor, shape=shape)


def _for_layer(
    failure: Failure, wanted: tuple[int, int], free: list[InputTensor]
) -> Iterator[InputTensor]:
    got = next((value.tensor.shape for value in failure.inputs if value.tensor is not None), ())
    from_end, size = wanted
    if len(got) < from_end:
        return
    for tensor in free:
        shape = list(tensor.shape)
        if not tensor.dtype.is_floating_point or len(shape) <= from_end:
            continue
        if from_end == 1 and len(shape) > 3:  # an image, where the layer wants patches
            continue
        if shape[-from_end] == got[-from_end]:  # it came to the layer as it is
            if size in shape[1:]:  # the dimensions stand in another order
                other = len(shape) - 1 - shape[::-1].index(size)
                shape[-from_end], shape[other] = shape[other], shape[-from_end]
            else:
                shape[-from_end] = size
            yield replace(tensor, shape=tuple(shape))
        elif len(shape) == 3 and shape[-1] * size % got[-from_end] == 0:
            # The bins of a spectrogram, halved and multiplied by channels on their way.
            yield replace(tensor, shape=(*shape[:-1], shape[-1] * size // got[-from_end]))


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


def has_forward(model: nn.Module) -> bool:
    """Return whether the model's class says what its forward does (Bark's does not)."""
    from torch import nn

    return type(model).forward is not nn.Module.forward


def signature(function: Any) -> dict[str, bool]:
    """Return the names of the arguments that a tensor can go to, and which must be given."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind in kinds}
