"""Model + inputs + scenario + devices → ``FitReport``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from torchgauge.analyze import as_module, model_error, report_of
from torchgauge.errors import InputError, ScenarioError, UsageError
from torchgauge.estimate.compute.modules import never_used
from torchgauge.estimate.memory.gpu import estimate_on_gpu, loop_of
from torchgauge.estimate.memory.lifetimes import LiveBytes, estimate_memory, live_bytes
from torchgauge.estimate.memory.limits import breakdown, judge
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.facts.fit import CacheFit, DeviceFit, FitReport, Largest, LocalFree
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.precision import dtypes_of
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import NamedValue, Role, Trace
from torchgauge.fit.alternatives import Finder
from torchgauge.fit.bench import Bench, Setup, Weighed
from torchgauge.fit.candidates import Situation
from torchgauge.fit.devices import AttentionWatch, ManyDevices, named_devices
from torchgauge.fit.sizes import Sample, SizeSearch
from torchgauge.fit.workloads import (
    GenerationRun,
    PlainRun,
    check_generates,
    longest_context,
)
from torchgauge.target import Target, target_of
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.inputs.sizes import InputSize
from torchgauge.trace.inspect.wrappers import unwrap
from torchgauge.trace.isolate.isolation import collector_paused
from torchgauge.trace.local_gpus import local_gpus
from torchgauge.trace.run.run_plan import Outcome
from torchgauge.version import __version__

_CONTEXT_UNIT = 128
"""Tokens by which the largest context is looked for."""
CACHES = ("dynamic", "static")
"""Kinds of a cache of keys and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked beside the verdict."""

    search: bool = True
    """Look for the largest batch."""
    alternatives: bool = True
    context: int | None = None
    """Tokens in the cache of a language model that generates."""
    cache: str = "dynamic"


@collector_paused()
def fit_model(
    model: nn.Module,
    input_size: InputSize | None = None,
    *,
    input_data: Any = None,
    batch_size: int | None = None,
    batch_dim: int | None = None,
    dtypes: Sequence[str | torch.dtype] | None = None,
    scenario: Scenario,
    devices: Sequence[str],
    loss: Callable[[Any], torch.Tensor] | None = None,
    model_name: str | None = None,
    model_spec: str | None = None,
    wishes: Wishes,
    real_run: bool = True,
    on_progress: Callable[[str], None] | None = None,
    forward_kwargs: Mapping[str, Any] | None = None,
) -> FitReport:
    """Trace a step and others like it; see ``torchgauge.fits``."""
    names = named_devices(list(devices))
    scenario = replace(scenario, device=names[0])
    model = as_module(model)
    name = model_name or type(unwrap(model)).__name__
    workload: PlainRun | GenerationRun
    if wishes.context is not None:
        _check_generation(scenario, wishes, input_size, input_data)
        check_generates(model, wishes.context)
        workload = GenerationRun(model=model, kind=wishes.cache)
        setup = Setup(scenario=scenario, batch=batch_size or 1, context=wishes.context)
    else:
        plan = plan_inputs(
            model,
            input_size,
            input_data,
            batch_size=batch_size,
            batch_dim=batch_dim,
            dtypes=dtypes,
            forward_kwargs=forward_kwargs or {},
        )
        if plan is None:
            raise InputError(
                "whether a step fits depends on its inputs, and none were given",
                hint="add a size: (3, 224, 224), --input-size 3,224,224",
            )
        workload = PlainRun(model=model, plan=plan)
        setup = Setup(scenario=scenario)
    bench = Bench(
        workload=workload,
        model_name=name,
        loss=loss,
        real_run=real_run,
        on_progress=on_progress,
    )
    return _Answer(bench, setup, wishes, names, model_spec).report()


def _check_generation(
    scenario: Scenario, wishes: Wishes, input_size: InputSize | None, input_data: Any
) -> None:
    if scenario.is_training:
        raise ScenarioError(
            "a context is what a language model keeps while it generates, not in training",
            hint="use mode='inference', or give the length as an input size: (1, 2048)",
        )
    if input_size is not None or input_data is not None:
        raise UsageError(
            "both an input and a context were given",
            hint="leave the input out: the prompt is made from the context and the batch size",
        )
    if wishes.cache not in CACHES:
        raise UsageError(f"unknown cache {wishes.cache!r}", hint="one of " + ", ".join(CACHES))


class _Answer:
    """One question on its way to an answer."""

    def __init__(
        self,
        bench: Bench,
        setup: Setup,
        wishes: Wishes,
        names: list[str],
        model_spec: str | None,
    ) -> None:
        self._bench = bench
        self._wishes = wishes
        self._names = names
        self._spec = model_spec
        self._watch = AttentionWatch()
        self._target = self._gpu_target(setup.scenario)
        outcome = self._first_trace(setup)
        workload = bench.workload
        self._trace: Trace = outcome.trace
        if isinstance(workload, GenerationRun):
            self._trace = workload.with_cache_as_output(outcome.trace)
        if isinstance(workload, PlainRun):  # from here on with the reading that worked
            workload.plan = replace(outcome.plan or workload.plan, alternatives=())
            setup = replace(setup, batch=self._trace.batch_size)
        self._setup = setup
        self._live, self._memory = self._estimate()

    def report(self) -> FitReport:
        """Return the answer."""
        assert self._target.gpu is not None
        base = self._bench.weighed(self._trace, self._target.gpu)
        self._bench.remember(self._setup, base)
        devices, left_out = self._devices()
        largest = cache = None
        finder = Finder(bench=self._bench, now=self._situation(None), base=base)
        if len(devices) == 1:
            if self._wishes.search and self._setup.batch is not None:
                largest = self._largest_batch(base)
            if self._setup.context is not None:
                cache = self._cache(base)
            if self._wishes.alternatives:
                finder.now = self._situation(largest)
                finder.run()
        trace, memory = self._trace, self._memory
        place = memory.peak_module or trace.model_name
        return FitReport(
            tool_version=__version__,
            torch_version=trace.torch_version,
            model_name=trace.model_name,
            model_spec=self._spec,
            scenario=trace.scenario,
            parameter_dtypes=dtypes_of(trace),
            batch_size=self._setup.batch,
            inputs=tuple(_text(value) for value in trace.inputs),
            devices=tuple(devices),
            breakdown=breakdown(memory),
            peak_at=f"{memory.peak_phase}, {place}, {memory.peak_op or 'before it begins'}",
            total_flops=base.total_flops,
            local=_local(devices),
            largest_batch=largest,
            alternatives=tuple(finder.found),
            not_tried=tuple(finder.not_tried),
            cache=cache,
            traces=self._bench.traces,
            not_counted=(*base.not_counted, *trace.not_counted, *never_used(trace)),
            assumptions=(*trace.assumptions, *self._device_assumptions()),
            warnings=(*trace.warnings, *self._target.warnings_of(trace), *left_out),
        )

    # ------------------------------------------------------------------ the step itself

    def _gpu_target(self, scenario: Scenario) -> Target:
        target = target_of(scenario)
        if target.gpu is None:
            raise ScenarioError(
                "the memory of a CPU is not what this asks about",
                hint="name a GPU: device='RTX 3060 12GB' (torchgauge devices lists them)",
            )
        return target

    def _first_trace(self, setup: Setup) -> Outcome:
        self._bench.say(setup)
        outcome = self._bench.outcome(setup, self._watch.watched(self._target))
        if outcome.error is not None:
            report = report_of(outcome.trace, self._spec, self._target)
            raise model_error(outcome, report) from outcome.error
        return outcome

    def _estimate(self) -> tuple[LiveBytes, MemoryEstimate]:
        """Return the live bytes, and the memory on the device if it had no end."""
        trace, gpu = self._trace, self._target.gpu
        assert gpu is not None
        live = live_bytes(trace, workspaces_for(self._target.platform))
        boundless = replace(gpu, usable_bytes=None)
        steps = self._bench.workload.steps
        return live, estimate_on_gpu(trace, boundless, estimate_memory(trace, live), steps=steps)

    # ------------------------------------------------------------------ devices

    def _devices(self) -> tuple[list[DeviceFit], list[str]]:
        first = self._first_device()
        if len(self._names) == 1:
            return [first], []
        many = ManyDevices(
            bench=self._bench,
            setup=self._setup,
            trace=self._trace,
            target=self._target,
            depends_on_device=self._watch.asked,
        )
        rows = [first, *many.run(self._names[1:])]
        return rows, [f"left out: {text}" for text in many.left_out]

    def _first_device(self) -> DeviceFit:
        target, memory = self._target, self._memory
        assert target.gpu is not None and target.device is not None
        reserved = memory.peak_reserved_bytes or 0
        loop = loop_of(self._trace, target.gpu, self._bench.workload.steps)
        return DeviceFit(
            device=target.device.name,
            verdict=judge(loop, target.gpu, memory.peak_allocated_bytes, reserved),
            usable_bytes=target.device.usable_memory_bytes,
            context_bytes=target.gpu.context_bytes,
            allocated_bytes=memory.peak_allocated_bytes,
            reserved_bytes=reserved,
            minimum_bytes=memory.minimum_bytes,
            warnings=target.warnings_of(self._trace),
        )

    def _device_assumptions(self) -> tuple[str, ...]:
        if len(self._names) == 1:
            return self._target.assumptions
        release = self._target.platform.torch_release
        return (
            f"kernels, allocator and CUDA context of each device under PyTorch {release}; "
            "`--device NAME` alone says what is measured of it",
        )

    def _situation(self, largest: Largest | None) -> Situation:
        assert self._target.device is not None
        known = None if largest is None else largest.runs or 0
        return Situation(
            setup=self._setup,
            device=self._target.device,
            largest_batch=known,
            dtypes=dtypes_of(self._trace),
        )

    # ------------------------------------------------------------------ larger and smaller

    def _largest_batch(self, base: Weighed) -> Largest:
        def sample(size: int) -> Sample:
            return _sample(self._bench.weigh(replace(self._setup, batch=size)))

        assert self._setup.batch is not None
        search = self._search(sample, self._setup.batch, base)
        return search.run(self._guess())

    def _largest_context(self, base: Weighed) -> Largest:
        def sample(size: int) -> Sample:
            return _sample(self._bench.weigh(replace(self._setup, context=size)))

        assert self._setup.context is not None
        search = self._search(sample, self._setup.context, base)
        search.unit = _CONTEXT_UNIT
        workload = self._bench.workload
        assert isinstance(workload, GenerationRun)
        limit = longest_context(workload.model)
        if limit is not None:
            search.limit = max(limit, self._setup.context)
        return search.run()

    def _search(self, sample: Callable[[int], Sample], size: int, base: Weighed) -> SizeSearch:
        gpu = self._target.gpu
        assert gpu is not None and gpu.capacity_bytes is not None
        return SizeSearch(
            sample=sample, capacity_bytes=gpu.capacity_bytes, samples={size: _sample(base)}
        )

    def _guess(self) -> int | None:
        """Return a first guess of the largest batch, from what grows with it."""
        memory, gpu, batch = self._memory, self._target.gpu, self._setup.batch
        assert gpu is not None and gpu.capacity_bytes is not None and batch is not None
        at_peak = memory.at_peak
        growing = memory.input_bytes + max(
            memory.saved_activation_bytes,
            at_peak.get(Role.OUTPUT, 0) + at_peak.get(Role.TEMPORARY, 0),
        )
        fixed = memory.parameter_bytes + memory.buffer_bytes
        fixed += memory.gradient_bytes + memory.optimizer_bytes
        room = gpu.capacity_bytes - fixed
        return max(int(room * batch / growing), 1) if growing else None

    def _cache(self, base: Weighed) -> CacheFit:
        trace, setup = self._trace, self._setup
        assert setup.context is not None and setup.batch is not None
        kept = [v.tensor for v in trace.outputs if v.name.startswith("cache.") and v.tensor]
        nbytes = sum(tensor.nbytes for tensor in kept)
        forwards = [call for call in trace.calls if call.path == "model"]
        peaks = [self._live.peak_between(call.first_event, call.end_event) for call in forwards]
        return CacheFit(
            kind=self._wishes.cache,
            context=setup.context,
            cache_bytes=nbytes,
            bytes_per_token=nbytes / (setup.context * setup.batch),
            prefill_peak_bytes=peaks[0],
            decode_peak_bytes=peaks[-1],
            largest_context=self._largest_context(base) if self._wishes.search else None,
        )


def _sample(weighed: Weighed) -> Sample:
    weight = weighed.weight
    return Sample(
        allocated_bytes=weight.allocated_bytes,
        reserved_bytes=weight.reserved_bytes,
        device_bytes=weight.device_bytes,
        verdict=weight.verdict,
    )


def _local(devices: Sequence[DeviceFit]) -> tuple[LocalFree, ...]:
    needed = {device.device: device.device_bytes for device in devices}
    found = []
    for gpu in local_gpus():
        known = gpu.device
        takes = None if known is None else needed.get(known.name)
        unknown = takes is None or gpu.free_bytes is None
        found.append(
            LocalFree(
                index=gpu.index,
                name=gpu.name,
                total_bytes=gpu.total_bytes,
                free_bytes=gpu.free_bytes,
                fits_now=None if unknown else bool(takes <= gpu.free_bytes),  # type: ignore[operator]
            )
        )
    return tuple(found)


def _text(value: NamedValue) -> str:
    if value.tensor is None:
        return f"{value.name} {value.text}"
    return f"{value.name} {list(value.tensor.shape)} {value.tensor.dtype}"
