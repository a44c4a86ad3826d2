"""Plain data back to a report; every missing or wrong field is named in the error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from torchgauge.errors import ReportFormatError, ScenarioError
from torchgauge.facts.guess import with_guesses
from torchgauge.facts.memory import AliveTensor, MemoryEstimate, PhaseMemory, TimelinePoint
from torchgauge.facts.report import CallCost, ModuleReport, ModuleTable, Report, Totals
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.time import (
    Bottleneck,
    Interval,
    Measurement,
    OpTime,
    StepTime,
    TimePrediction,
)
from torchgauge.facts.trace import (
    Execution,
    Failure,
    NamedValue,
    NotCounted,
    ParameterInfo,
    Phase,
    Role,
    TensorSpec,
)

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def decode_report(data: Mapping[str, Any]) -> Report:
    """Return the report.

    Raises:
        ReportFormatError: a field is missing or of a wrong type; the message names it.
    """
    report = _Fields(data, "")
    model = report.fields("model")
    modules = report.each("modules", _module)
    if not any(module.path == "" for module in modules):
        raise _damaged("modules", "has no root (path '')")
    return Report(
        tool_version=report.fields("tool").text("version"),
        torch_version=report.text("torch_version"),
        execution=report.member("execution", Execution),
        model_name=model.text("name"),
        model_spec=model.text_or_none("spec"),
        scenario=_scenario(report.fields("scenario")),
        inputs=report.each("inputs", _value),
        outputs=report.each("outputs", _value),
        totals=_totals(report.fields("totals")),
        memory=report.optional("memory", _memory),
        modules=ModuleTable(modules),
        not_counted=report.each("not_counted", _not_counted),
        assumptions=with_guesses(
            report.texts("assumptions"), report.texts("guesses") if report.has("guesses") else ()
        ),
        warnings=report.texts("warnings"),
        batch_size=report.integer_or_none("batch_size"),
        failure=report.optional("failure", _failure),
        time=report.optional("time", _time) if report.has("time") else None,
        phase_memory=(
            report.each("phase_memory", _phase_memory) if report.has("phase_memory") else ()
        ),
    )


class _Fields:
    """A JSON object that is read field by field; ``where`` is its place in the file."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise _damaged(where, "is not an object")
        self._data = data
        self.where = where

    def place(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def raw(self, name: str) -> Any:
        if name not in self._data:
            raise _damaged(self.place(name), "is missing")
        return self._data[name]

    def has(self, name: str) -> bool:
        return name in self._data

    def names(self) -> tuple[str, ...]:
        return tuple(self._data)

    def integer(self, name: str) -> int:
        return _integer(self.raw(name), self.place(name))

    def integer_or_none(self, name: str) -> int | None:
        value = self.raw(name)
        return None if value is None else _integer(value, self.place(name))

    def integer_if_there(self, name: str) -> int | None:
        return self.integer(name) if self.has(name) else None

    def number(self, name: str) -> float:
        return _number(self.raw(name), self.place(name))

    def number_if_there(self, name: str) -> float | None:
        return self.number(name) if self.has(name) else None

    def number_or_none(self, name: str) -> float | None:
        value = self.raw(name)
        return None if value is None else _number(value, self.place(name))

    def text(self, name: str) -> str:
        return _text(self.raw(name), self.place(name))

    def text_or_none(self, name: str) -> str | None:
        value = self.raw(name)
        return None if value is None else _text(value, self.place(name))

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(_text(item, place) for item, place in self.items(name))

    def flag(self, name: str) -> bool:
        value = self.raw(name)
        if not isinstance(value, bool):
            raise _damaged(self.place(name), "is neither true nor false")
        return value

    def member(self, name: str, kind: type[E]) -> E:
        return _member(self.raw(name), kind, self.place(name))

    def fields(self, name: str) -> _Fields:
        return _Fields(self.raw(name), self.place(name))

    def items(self, name: str) -> Iterator[tuple[Any, str]]:
        value = self.raw(name)
        if not isinstance(value, list):
            raise _damaged(self.place(name), "is not a list")
        for index, item in enumerate(value):
            yield item, f"{self.place(name)}[{index}]"

    def each(self, name: str, read: Callable[[_Fields], T]) -> tuple[T, ...]:
        return tuple(read(_Fields(item, place)) for item, place in self.items(name))

    def optional(self, name: str, read: Callable[[_Fields], T]) -> T | None:
        return None if self.raw(name) is None else read(self.fields(name))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(_integer(item, place) for item, place in self.items(name))

    def pairs(self, name: str) -> tuple[tuple[int, int], ...]:
        found = []
        for item, place in self.items(name):
            if not isinstance(item, list) or len(item) != 2:
                raise _damaged(place, "is not a pair")
            found.append((_integer(item[0], place), _integer(item[1], place)))
        return tuple(found)


def _damaged(place: str, what: str) -> ReportFormatError:
    return ReportFormatError(
        f"the report is damaged: {place or 'the file'} {what}",
        hint="make the report again; it is not repaired by guessing",
    )


def _integer(value: object, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _damaged(place, "is not an integer")
    return value


def _number(value: object, place: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _damaged(place, "is not a number")
    return float(value)


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _damaged(place, "is not a text")
    return value


def _member(value: object, kind: type[E], place: str) -> E:
    try:
        return kind(_text(value, place))
    except ValueError:
        raise _damaged(place, f"is {value!r}, which is none of {', '.join(kind)}") from None


def _scenario(data: _Fields) -> Scenario:
    try:
        return Scenario(
            mode=data.text("mode"),
            device=data.text("device"),
            precision=data.text("precision"),
            optimizer=data.text_or_none("optimizer"),
            loss=data.text_or_none("loss"),
            checkpointing=_checkpointing(data),
            accumulation=data.integer("accumulation"),
            **_later_fields(data),
        )
    except ScenarioError as error:
        raise _damaged(data.where, f"makes no sense: {error.message}") from error


def _checkpointing(data: _Fields) -> bool | str:
    """Return a flag, or the name of a kind other than the usual one."""
    if isinstance(data.raw("checkpointing"), str):
        return data.text("checkpointing")
    return data.flag("checkpointing")


def _later_fields(data: _Fields) -> dict[str, Any]:
    """Return the fields that reports written before version 0.2 do not have."""
    flags = (
        "gradient_clipping", "offload_activations", "ema", "channels_last", "cudnn_benchmark",
        "first_step", "compiled",
    )  # fmt: skip
    texts = ("optimizer_implementation", "zero_grad", "allocator", "torch_release")
    found: dict[str, Any] = {name: data.flag(name) for name in flags if data.has(name)}
    found |= {name: data.text_or_none(name) for name in texts if data.has(name)}
    if data.has("optimizer_options"):
        options = data.fields("optimizer_options")
        found["optimizer_options"] = {name: options.raw(name) for name in options.names()}
    return found


def _totals(data: _Fields) -> Totals:
    return Totals(
        params=data.integer("params"),
        trainable_params=data.integer("trainable_params"),
        non_trainable_params=data.integer("non_trainable_params"),
        param_bytes=data.integer("param_bytes"),
        buffers=data.integer("buffers"),
        buffer_bytes=data.integer("buffer_bytes"),
        forward_macs=data.integer("forward_macs"),
        forward_flops=data.integer("forward_flops"),
        backward_flops=data.integer("backward_flops"),
        optimizer_flops=data.integer("optimizer_flops"),
        elementwise_flops=data.integer("elementwise_flops"),
    )


def _memory(data: _Fields) -> MemoryEstimate:
    peak = data.fields("peak_at")
    roles = data.fields("at_peak")
    return MemoryEstimate(
        input_bytes=data.integer("input_bytes"),
        parameter_bytes=data.integer("parameter_bytes"),
        buffer_bytes=data.integer("buffer_bytes"),
        gradient_bytes=data.integer("gradient_bytes"),
        optimizer_bytes=data.integer("optimizer_bytes"),
        saved_activation_bytes=data.integer("saved_activation_bytes"),
        output_bytes=data.integer("output_bytes"),
        peak_allocated_bytes=data.integer("peak_allocated_bytes"),
        peak_phase=peak.member("phase", Phase),
        peak_module=peak.text("module"),
        peak_op=peak.text("op"),
        at_peak={_member(name, Role, roles.where): roles.integer(name) for name in roles.names()},
        timeline=data.each("timeline", _point),
        alive_at_peak=data.each("alive_at_peak", _alive) if data.has("alive_at_peak") else (),
        peak_reserved_bytes=data.integer_if_there("peak_reserved_bytes"),
        context_bytes=data.integer_if_there("context_bytes"),
        device_bytes=data.integer_if_there("device_bytes"),
        minimum_bytes=data.integer_if_there("minimum_bytes"),
        capacity_bytes=data.integer_if_there("capacity_bytes"),
        fits=data.flag("fits") if data.has("fits") else None,
        intervals=_byte_intervals(data.fields("intervals")) if data.has("intervals") else {},
    )


def _byte_intervals(data: _Fields) -> dict[str, tuple[int, int]]:
    found = {}
    for name in data.names():
        ends = data.shape(name)
        if len(ends) != 2:
            raise _damaged(data.place(name), "is not a pair of numbers")
        found[name] = (ends[0], ends[1])
    return found


def _alive(data: _Fields) -> AliveTensor:
    return AliveTensor(
        nbytes=data.integer("bytes"),
        role=data.member("role", Role),
        label=data.text("label"),
        module=data.text("module"),
        shape=None if data.raw("shape") is None else data.shape("shape"),
        dtype=data.text("dtype"),
        code=data.text("code"),
    )


def _point(data: _Fields) -> TimelinePoint:
    return TimelinePoint(
        op=data.integer("op"),
        phase=data.member("phase", Phase),
        live_bytes=data.integer("live_bytes"),
    )


def _module(data: _Fields) -> ModuleReport:
    return ModuleReport(
        path=data.text("path"),
        type=data.text("type"),
        depth=data.integer("depth"),
        params=data.integer("params"),
        trainable_params=data.integer("trainable_params"),
        param_bytes=data.integer("param_bytes"),
        shared_with=data.text_or_none("shared_with"),
        calls=data.each("calls", _call),
        own_params=data.integer("own_params"),
        own_parameters=data.each("own_parameters", _parameter),
        own_gradient_bytes=data.integer_if_there("own_gradient_bytes") or 0,
        buffers=data.integer("buffers"),
        buffer_bytes=data.integer("buffer_bytes"),
        has_forward=data.flag("has_forward"),
    )


def _call(data: _Fields) -> CallCost:
    return CallCost(
        inputs=data.each("inputs", _value),
        outputs=data.each("outputs", _value),
        forward_macs=data.integer("forward_macs"),
        backward_flops=data.integer("backward_flops"),
        saved_activation_bytes=data.integer("saved_activation_bytes"),
        peak_allocated_bytes=data.integer("peak_allocated_bytes"),
        elementwise_flops=data.integer("elementwise_flops"),
        output_bytes=data.integer("output_bytes"),
        parent=data.text_or_none("parent"),
        recompute=data.flag("recompute"),
        completed=data.flag("completed"),
        time_ms=data.number_if_there("time_ms"),
        backward_time_ms=data.number_if_there("backward_time_ms"),
    )


def _time(data: _Fields) -> StepTime:
    return StepTime(
        forward_ms=data.number("forward_ms"),
        loss_ms=data.number("loss_ms"),
        backward_ms=data.number("backward_ms"),
        optimizer_ms=data.number("optimizer_ms"),
        total_ms=data.number("total_ms"),
        outside_ms=data.number("outside_ms"),
        between_ops_ms=data.number("between_ops_ms"),
        ops=data.each("ops", _op_time),
        measured=data.optional("measured", _measurement),
        predicted=_prediction(data) if data.has("predicted") else None,
    )


def _prediction(time: _Fields) -> TimePrediction:
    data, shares = time.fields("predicted"), time.fields("bound_by")
    return TimePrediction(
        device=data.text("device"),
        error=data.number("error"),
        bound_by={name: shares.number(name) for name in shares.names()},
        samples_per_second=data.number_or_none("samples_per_second"),
        flops_share=data.number_or_none("flops_share"),
        most_joules=data.number_or_none("most_joules"),
        bottlenecks=data.each("bottlenecks", _bottleneck) if data.has("bottlenecks") else (),
    )


def _bottleneck(data: _Fields) -> Bottleneck:
    return Bottleneck(
        op=data.text("op"),
        module=data.text("module"),
        phase=data.member("phase", Phase),
        calls=data.integer("calls"),
        time_ms=data.number("time_ms"),
        roof_ms=data.number("roof_ms"),
        bound_by=data.text("bound_by"),
    )


def _op_time(data: _Fields) -> OpTime:
    return OpTime(
        name=data.text("name"),
        kernel=data.text("kernel"),
        phase=data.member("phase", Phase),
        calls=data.integer("calls"),
        time_ms=data.number("time_ms"),
    )


def _measurement(data: _Fields) -> Measurement:
    intervals = data.fields("intervals")
    return Measurement(
        device=data.text("device"),
        repetitions=data.integer("repetitions"),
        warm_up=data.integer("warm_up"),
        confidence=data.number("confidence"),
        intervals={name: _interval(intervals.fields(name)) for name in intervals.names()},
    )


def _interval(data: _Fields) -> Interval:
    return Interval(
        low_ms=data.number("low_ms"),
        high_ms=data.number("high_ms"),
        fastest_ms=data.number("fastest_ms"),
        slowest_ms=data.number("slowest_ms"),
    )


def _phase_memory(data: _Fields) -> PhaseMemory:
    return PhaseMemory(
        phase=data.member("phase", Phase),
        allocated_bytes=data.integer("allocated_bytes"),
        reserved_bytes=data.integer_or_none("reserved_bytes"),
        device_bytes=data.integer_or_none("device_bytes"),
        resident_bytes=data.integer_or_none("resident_bytes"),
    )


def _parameter(data: _Fields) -> ParameterInfo:
    return ParameterInfo(
        name=data.text("name"),
        shape=data.shape("shape"),
        dtype=data.text("dtype"),
        numel=data.integer("numel"),
        stored_bytes=data.integer("stored_bytes"),
        trainable=data.flag("trainable"),
        is_buffer=data.flag("is_buffer"),
        shared_with=data.text_or_none("shared_with"),
        is_lazy=data.flag("is_lazy"),
    )


def _value(data: _Fields) -> NamedValue:
    text = data.text("text") if data.has("text") else ""
    if data.raw("shape") is None:
        return NamedValue(name=data.text("name"), text=text)
    return NamedValue(
        name=data.text("name"),
        text=text,
        tensor=TensorSpec(
            shape=data.shape("shape"),
            dtype=data.text("dtype"),
            device=data.text("device"),
            nbytes=data.integer("nbytes"),
        ),
        batch_dims=data.pairs("batch_dims"),
    )


def _not_counted(data: _Fields) -> NotCounted:
    return NotCounted(op=data.text("op"), calls=data.integer("calls"), why=data.text("why"))


def _failure(data: _Fields) -> Failure:
    return Failure(
        path=data.text("path"),
        module_type=data.text("module_type"),
        inputs=data.each("inputs", _value),
        error_type=data.text("error_type"),
        error=data.text("error"),
        phase=data.member("phase", Phase),
        hint=data.text("hint"),
        requested_bytes=data.integer_if_there("requested_bytes"),
        free_bytes=data.integer_if_there("free_bytes"),
    )
