"""Model + inputs + scenario + devices → ``FitReport``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torchgauge.analyze import as_module, described, model_error, virtual_device_of
from torchgauge.changes.step import Step, step_of
from torchgauge.errors import InputError, ScenarioError, UsageError
from torchgauge.estimate.compute.modules import never_used
from torchgauge.estimate.memory.device import breakdown
from torchgauge.estimate.memory.lifetimes import LiveBytes, live_bytes
from torchgauge.estimate.memory.pipeline import estimate_memory, estimate_on_gpu
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.facts.fit import CacheFit, DeviceFit, FitReport, Largest, LocalFree
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.precision import dtypes_of
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import NamedValue, Role, Trace
from torchgauge.fit.alternatives import Finder
from torchgauge.fit.devices import AttentionWatch, ManyDevices, device_fit, named_devices
from torchgauge.fit.sizes import Sample, SizeSearch
from torchgauge.fit.variants import Variant, VariantTracer, Weighed, Workload
from torchgauge.fit.workloads import (
    GenerationRun,
    PlainRun,
    check_generates,
    longest_context,
)
from torchgauge.reports import report_of
from torchgauge.request import Request
from torchgauge.target import Target, platform_of, target_of
from torchgauge.trace.inputs.plan import plan_inputs
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
class FitOptions:
    """What is asked beside the verdict."""

    search: bool = True
    """Look for the largest batch."""
    alternatives: bool = True
    context: int | None = None
    """Tokens in the cache of a language model that generates."""
    cache: str = "dynamic"


@collector_paused()
def fit_model(asked: Request, devices: Sequence[str], options: FitOptions) -> FitReport:
    """Trace a step and others like it; see ``torchgauge.fits``."""
    names = named_devices(list(devices))
    scenario = replace(asked.scenario, device=names[0])
    model = as_module(asked.model)
    workload: PlainRun | GenerationRun
    if options.context is not None:
        _check_generation(asked, options)
        check_generates(model, options.context)
        workload = GenerationRun(model=model, kind=options.cache)
        batch = asked.inputs.batch_size or 1
        variant = Variant(scenario=scenario, batch=batch, context=options.context)
    else:
        plan = plan_inputs(model, asked.inputs)
        if plan is None:
            raise InputError(
                "a step needs inputs, and none were given",
                hint="add a size: (3, 224, 224), --input-size 3,224,224",
            )
        workload = PlainRun(model=model, plan=plan)
        variant = Variant(scenario=scenario)
    tracer = tracer_of(replace(asked, model=model), workload)
    return _Answer(tracer, variant, options, names, asked).report()


def tracer_of(asked: Request, workload: Workload) -> VariantTracer:
    """Return what traces the workload of a request, one variant after another."""
    return VariantTracer(
        workload=workload,
        model_name=asked.name or type(unwrap(asked.model)).__name__,
        loss=asked.loss,
        real_run=asked.real_run,
        on_progress=asked.on_progress,
    )


def _check_generation(asked: Request, options: FitOptions) -> None:
    if asked.scenario.is_training:
        raise ScenarioError(
            "a context belongs to generation, not to training",
            hint="use mode='inference', or give the length as an input size: (1, 2048)",
        )
    if asked.inputs.size is not None or asked.inputs.data is not None:
        raise UsageError(
            "both an input and a context were given",
            hint="leave the input out: the prompt is made from the context and the batch size",
        )
    if options.cache not in CACHES:
        raise UsageError(f"unknown cache {options.cache!r}", hint="one of " + ", ".join(CACHES))


class _Answer:
    """One question on its way to an answer."""

    def __init__(
        self,
        tracer: VariantTracer,
        variant: Variant,
        options: FitOptions,
        names: list[str],
        asked: Request,
    ) -> None:
        self._tracer = tracer
        self._options = options
        self._names = names
        self._asked = asked
        self._watch = AttentionWatch()
        self._target = self._gpu_target(variant.scenario)
        outcome = self._first_trace(variant)
        workload = tracer.workload
        self._trace: Trace = outcome.trace
        if isinstance(workload, GenerationRun):
            self._trace = workload.with_cache_as_output(outcome.trace)
        if isinstance(workload, PlainRun):  # from here on with the reading that worked
            workload.plan = replace(outcome.plan or workload.plan, alternatives=())
            variant = replace(variant, batch=self._trace.batch_size)
        self._variant = variant
        self._live, self._memory = self._estimate()

    def report(self) -> FitReport:
        """Return the answer."""
        assert self._target.gpu is not None
        base = self._tracer.weighed(self._trace, self._target.gpu)
        self._tracer.remember(self._variant, base)
        devices, left_out = self._devices(base)
        largest = cache = None
        finder = Finder(tracer=self._tracer, variant=self._variant, now=self._step(None), base=base)
        if len(devices) == 1:
            if self._options.search and self._variant.batch is not None:
                largest = self._largest_batch(base)
            if self._variant.context is not None:
                cache = self._cache(base)
            if self._options.alternatives:
                finder.now = self._step(largest)
                finder.run()
        trace, memory = self._trace, self._memory
        place = memory.peak_module or trace.model_name
        return FitReport(
            tool_version=__version__,
            torch_version=trace.torch_version,
            model_name=trace.model_name,
            model_spec=self._asked.spec,
            scenario=trace.scenario,
            parameter_dtypes=dtypes_of(trace),
            batch_size=self._variant.batch,
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
            traces=self._tracer.traces,
            not_counted=(*base.not_counted, *trace.not_counted, *never_used(trace)),
            assumptions=(
                *self._asked.assumptions,
                *trace.assumptions,
                *self._device_assumptions(base),
            ),
            warnings=(
                *self._asked.warnings,
                *trace.warnings,
                *self._target.warnings_of(trace),
                *left_out,
            ),
        )

    # ------------------------------------------------------------------ the step itself

    def _gpu_target(self, scenario: Scenario) -> Target:
        target = target_of(scenario)
        if target.gpu is None:
            raise ScenarioError(
                "`fit` predicts GPU memory; the CPU is not one of its devices",
                hint="name a GPU: device='RTX 3060 12GB' (torchgauge devices lists them)",
            )
        return target

    def _first_trace(self, variant: Variant) -> Outcome:
        self._tracer.say(variant)
        outcome = self._tracer.outcome(
            variant, self._watch.watched(virtual_device_of(self._target))
        )
        if outcome.error is not None:
            trace = described(outcome.trace, self._asked, self._target)
            report = report_of(trace, self._target)
            raise model_error(outcome, report) from outcome.error
        return outcome

    def _estimate(self) -> tuple[LiveBytes, MemoryEstimate]:
        """Return the live bytes, and the memory on the device if it had no end."""
        trace, gpu = self._trace, self._target.gpu
        assert gpu is not None
        live = live_bytes(trace, workspaces_for(platform_of(self._target, trace)))
        boundless = replace(gpu, usable_bytes=None)
        steps = self._tracer.workload.steps
        return live, estimate_on_gpu(trace, boundless, estimate_memory(trace, live), steps=steps)

    # ------------------------------------------------------------------ devices

    def _devices(self, base: Weighed) -> tuple[list[DeviceFit], list[str]]:
        device = self._target.device
        assert device is not None
        first = replace(
            device_fit(device, base.weight, self._trace, self._target),
            allocated_bytes=self._memory.peak_allocated_bytes,
            minimum_bytes=self._memory.minimum_bytes,
        )
        if len(self._names) == 1:
            return [first], []
        many = ManyDevices(
            tracer=self._tracer,
            variant=self._variant,
            trace=self._trace,
            target=self._target,
            depends_on_device=self._watch.asked,
        )
        rows = [first, *many.run(self._names[1:])]
        return rows, many.left_out

    def _device_assumptions(self, base: Weighed) -> tuple[str, ...]:
        if len(self._names) == 1:
            return (*self._target.assumptions, base.weight.spread.assumption)
        release = self._target.platform.torch_release
        return (
            f"kernels, allocator and CUDA context of each device under PyTorch {release}; "
            "name one device to see which figures are measured",
            *self._target.assumptions[1:],
        )

    def _step(self, largest: Largest | None) -> Step:
        known = None if largest is None else largest.safe or 0
        step = step_of(self._trace, self._target.device)
        return replace(step, batch=self._variant.batch, largest_batch=known)

    # ------------------------------------------------------------------ larger and smaller

    def _largest_batch(self, base: Weighed) -> Largest:
        def sample(size: int) -> Sample:
            return _sample(self._tracer.weigh(replace(self._variant, batch=size)))

        assert self._variant.batch is not None
        search = self._search(sample, self._variant.batch, base)
        return search.run(self._guess())

    def _largest_context(self, base: Weighed) -> Largest:
        def sample(size: int) -> Sample:
            return _sample(self._tracer.weigh(replace(self._variant, context=size)))

        assert self._variant.context is not None
        search = self._search(sample, self._variant.context, base)
        search.unit = _CONTEXT_UNIT
        workload = self._tracer.workload
        assert isinstance(workload, GenerationRun)
        limit = longest_context(workload.model)
        if limit is not None:
            search.limit = max(limit, self._variant.context)
        return search.run()

    def _search(self, sample: Callable[[int], Sample], size: int, base: Weighed) -> SizeSearch:
        gpu = self._target.gpu
        assert gpu is not None and gpu.capacity_bytes is not None
        return SizeSearch(
            sample=sample, capacity_bytes=gpu.capacity_bytes, samples={size: _sample(base)}
        )

    def _guess(self) -> int | None:
        """Return a first guess of the largest batch, from what grows with it."""
        memory, gpu, batch = self._memory, self._target.gpu, self._variant.batch
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
        trace, variant = self._trace, self._variant
        assert variant.context is not None and variant.batch is not None
        kept = [v.tensor for v in trace.outputs if v.name.startswith("cache.") and v.tensor]
        nbytes = sum(tensor.nbytes for tensor in kept)
        forwards = [call for call in trace.calls if call.path == "model"]
        peaks = [self._live.peak_between(call.first_event, call.end_event) for call in forwards]
        return CacheFit(
            kind=self._options.cache,
            context=variant.context,
            cache_bytes=nbytes,
            bytes_per_token=nbytes / (variant.context * variant.batch),
            prefill_peak_bytes=peaks[0],
            decode_peak_bytes=peaks[-1],
            largest_context=self._largest_context(base) if self._options.search else None,
        )


def _sample(weighed: Weighed) -> Sample:
    weight = weighed.weight
    return Sample(
        allocated_bytes=weight.allocated_bytes,
        most_allocated_bytes=weight.most_allocated_bytes,
        reserved_bytes=weight.reserved_bytes,
        device_bytes=weight.device_bytes,
        fits=weight.fits,
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
