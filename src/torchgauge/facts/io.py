"""Reports as JSON, by a contract that other programs rely on, and back.

Reading gives back an equal report. Fields that are derived (``total_flops``) are written and not
read; fields that are not known are passed over, so that a later version may add some without a
new schema version.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from torchgauge.errors import ReportFormatError
from torchgauge.facts.decode import decode_report
from torchgauge.facts.guess import guesses
from torchgauge.facts.memory import AliveTensor, MemoryEstimate, PhaseMemory
from torchgauge.facts.report import SCHEMA_VERSION, CallCost, ModuleReport, Report, Totals
from torchgauge.facts.time import (
    Bottleneck,
    Interval,
    Measurement,
    OpTime,
    StepTime,
    TimePrediction,
)
from torchgauge.facts.trace import Failure, NamedValue, ParameterInfo, TensorSpec

_AGAIN = "save the report again, with report.save(…) or --format json"


GPU_FIELDS = (
    "peak_reserved_bytes", "context_bytes", "device_bytes", "minimum_bytes", "capacity_bytes",
    "fits",
)  # fmt: skip
"""Of the memory: only there for a step on a GPU."""


def report_to_dict(report: Report) -> dict[str, Any]:
    """Return the report as plain data, in the order of the JSON contract."""
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "torchgauge", "version": report.tool_version},
        "torch_version": report.torch_version,
        "execution": str(report.execution),
        "model": {"name": report.model_name, "spec": report.model_spec},
        "scenario": report.scenario.to_dict(),
        "inputs": _values(report.inputs),
        "outputs": _values(report.outputs),
        "totals": _totals(report.totals),
        "memory": None if report.memory is None else _memory(report.memory),
        "time": None if report.time is None else _time(report.time),
        "phase_memory": [_phase_memory(item) for item in report.phase_memory],
        "modules": [_module(module) for module in report.modules.values()],
        "not_counted": [
            {"op": entry.op, "calls": entry.calls, "why": entry.why} for entry in report.not_counted
        ],
        "assumptions": list(report.assumptions),
        "warnings": list(report.warnings),
        "batch_size": report.batch_size,
        "failure": None if report.failure is None else _failure(report.failure),
        "guesses": list(guesses(report.assumptions)),
    }
    for name in ("time", "phase_memory", "guesses"):  # left out, not empty, where there is none
        if not data[name]:
            del data[name]
    return data


def report_from_dict(data: object) -> Report:
    """Return the report that ``report_to_dict`` made ``data`` from.

    Raises:
        ReportFormatError: of another schema version, or something is missing or of a wrong type.
    """
    if not isinstance(data, dict) or "schema_version" not in data:
        raise ReportFormatError(
            "this is no torchgauge report: it has no schema_version", hint=_AGAIN
        )
    version = data["schema_version"]
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ReportFormatError(
            f"schema_version {version!r} is not known, this torchgauge reads {SCHEMA_VERSION}",
            hint="use the torchgauge that wrote it, or a newer one",
        )
    return decode_report(data)


def report_to_json(report: Report, *, indent: int | None = 2) -> str:
    """Return the report as strict JSON text."""
    data = report_to_dict(report)
    text = json.dumps(data, indent=indent, allow_nan=False, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair in a name
        return json.dumps(data, indent=indent, allow_nan=False)
    return text


def report_from_json(text: str) -> Report:
    """Return the report from its JSON text.

    Raises:
        ReportFormatError: the text is not JSON, or not a report that this version can read.
    """
    try:
        data = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ReportFormatError(f"the report is not valid JSON: {error}", hint=_AGAIN) from error
    return report_from_dict(data)


def save_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report to a file, which is then whole or as it was before.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(path, report_to_json(report) + "\n")


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write text to a file, which is then whole or as it was before; links stay links.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a pipe or a device cannot be replaced
        target.write_text(text, encoding="utf-8")
        return
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(name, _permissions(target))
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_report(path: str | os.PathLike[str]) -> Report:
    """Read a report that ``save_report`` wrote.

    Raises:
        ReportFormatError: there is no such file, it is damaged, or of an unknown schema version.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReportFormatError(f"{path} is no text in UTF-8", hint=_AGAIN) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReportFormatError(f"cannot read {path}: {reason}", hint="check the path") from error
    try:
        return report_from_json(text)
    except ReportFormatError as error:
        raise ReportFormatError(f"{path}: {error.message}", hint=error.hint) from error


# ---------------------------------------------------------------------------- writing


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        "params": totals.params,
        "trainable_params": totals.trainable_params,
        "non_trainable_params": totals.non_trainable_params,
        "param_bytes": totals.param_bytes,
        "buffers": totals.buffers,
        "buffer_bytes": totals.buffer_bytes,
        "forward_macs": totals.forward_macs,
        "forward_flops": totals.forward_flops,
        "backward_flops": totals.backward_flops,
        "total_flops": totals.total_flops,
        "optimizer_flops": totals.optimizer_flops,
        "elementwise_flops": totals.elementwise_flops,
    }


def _memory(memory: MemoryEstimate) -> dict[str, Any]:
    data: dict[str, Any] = {
        "input_bytes": memory.input_bytes,
        "parameter_bytes": memory.parameter_bytes,
        "gradient_bytes": memory.gradient_bytes,
        "optimizer_bytes": memory.optimizer_bytes,
        "saved_activation_bytes": memory.saved_activation_bytes,
        "peak_allocated_bytes": memory.peak_allocated_bytes,
        "peak_at": {
            "phase": str(memory.peak_phase),
            "module": memory.peak_module,
            "op": memory.peak_op,
        },
        "at_peak": {str(role): nbytes for role, nbytes in memory.at_peak.items()},
        "timeline": [
            {"op": point.op, "phase": str(point.phase), "live_bytes": point.live_bytes}
            for point in memory.timeline
        ],
        "buffer_bytes": memory.buffer_bytes,
        "output_bytes": memory.output_bytes,
    }
    if memory.alive_at_peak:
        data["alive_at_peak"] = [_alive(tensor) for tensor in memory.alive_at_peak]
    if memory.intervals:
        data["intervals"] = {name: list(ends) for name, ends in memory.intervals.items()}
    for name in GPU_FIELDS:  # left out where the step does not run on a GPU
        value = getattr(memory, name)
        if value is not None:
            data[name] = value
    return data


def _alive(tensor: AliveTensor) -> dict[str, Any]:
    return {
        "bytes": tensor.nbytes,
        "role": str(tensor.role),
        "label": tensor.label,
        "module": tensor.module,
        "shape": None if tensor.shape is None else list(tensor.shape),
        "dtype": tensor.dtype,
        "code": tensor.code,
    }


def _module(module: ModuleReport) -> dict[str, Any]:
    return {
        "path": module.path,
        "type": module.type,
        "depth": module.depth,
        "params": module.params,
        "trainable_params": module.trainable_params,
        "param_bytes": module.param_bytes,
        "shared_with": module.shared_with,
        "calls": [_call(call) for call in module.calls],
        "own_params": module.own_params,
        "own_gradient_bytes": module.own_gradient_bytes,
        "own_parameters": [_parameter(item) for item in module.own_parameters],
        "buffers": module.buffers,
        "buffer_bytes": module.buffer_bytes,
        "has_forward": module.has_forward,
    }


def _call(call: CallCost) -> dict[str, Any]:
    data: dict[str, Any] = {
        "inputs": _values(call.inputs),
        "outputs": _values(call.outputs),
        "forward_macs": call.forward_macs,
        "backward_flops": call.backward_flops,
        "saved_activation_bytes": call.saved_activation_bytes,
        "peak_allocated_bytes": call.peak_allocated_bytes,
        "elementwise_flops": call.elementwise_flops,
        "output_bytes": call.output_bytes,
        "parent": call.parent,
        "recompute": call.recompute,
        "completed": call.completed,
    }
    if call.time_ms is not None:
        data["time_ms"] = call.time_ms
        data["backward_time_ms"] = call.backward_time_ms
    return data


def _time(time: StepTime) -> dict[str, Any]:
    data: dict[str, Any] = {
        "forward_ms": time.forward_ms,
        "loss_ms": time.loss_ms,
        "backward_ms": time.backward_ms,
        "optimizer_ms": time.optimizer_ms,
        "total_ms": time.total_ms,
        "outside_ms": time.outside_ms,
        "between_ops_ms": time.between_ops_ms,
        "ops": [_op_time(item) for item in time.ops],
        "measured": None if time.measured is None else _measurement(time.measured),
    }
    if time.predicted is not None:
        data["bound_by"] = dict(time.predicted.bound_by)
        data["predicted"] = _prediction(time.predicted)
    return data


def _prediction(predicted: TimePrediction) -> dict[str, Any]:
    return {
        "device": predicted.device,
        "error": predicted.error,
        "samples_per_second": predicted.samples_per_second,
        "flops_share": predicted.flops_share,
        "most_joules": predicted.most_joules,
        "bottlenecks": [_bottleneck(item) for item in predicted.bottlenecks],
    }


def _bottleneck(item: Bottleneck) -> dict[str, Any]:
    return {
        "op": item.op,
        "module": item.module,
        "phase": item.phase,
        "calls": item.calls,
        "time_ms": item.time_ms,
        "roof_ms": item.roof_ms,
        "gain_ms": item.gain_ms,
        "bound_by": item.bound_by,
    }


def _op_time(item: OpTime) -> dict[str, Any]:
    return {
        "name": item.name,
        "kernel": item.kernel,
        "phase": str(item.phase),
        "calls": item.calls,
        "time_ms": item.time_ms,
    }


def _measurement(measured: Measurement) -> dict[str, Any]:
    return {
        "device": measured.device,
        "repetitions": measured.repetitions,
        "warm_up": measured.warm_up,
        "confidence": measured.confidence,
        "intervals": {name: _interval(item) for name, item in measured.intervals.items()},
    }


def _interval(item: Interval) -> dict[str, Any]:
    return {
        "low_ms": item.low_ms,
        "high_ms": item.high_ms,
        "fastest_ms": item.fastest_ms,
        "slowest_ms": item.slowest_ms,
    }


def _phase_memory(item: PhaseMemory) -> dict[str, Any]:
    return {
        "phase": str(item.phase),
        "allocated_bytes": item.allocated_bytes,
        "reserved_bytes": item.reserved_bytes,
        "device_bytes": item.device_bytes,
        "resident_bytes": item.resident_bytes,
    }


def _parameter(item: ParameterInfo) -> dict[str, Any]:
    return {
        "name": item.name,
        "shape": list(item.shape),
        "dtype": item.dtype,
        "numel": item.numel,
        "stored_bytes": item.stored_bytes,
        "trainable": item.trainable,
        "is_buffer": item.is_buffer,
        "shared_with": item.shared_with,
        "is_lazy": item.is_lazy,
    }


def _failure(failure: Failure) -> dict[str, Any]:
    data: dict[str, Any] = {
        "path": failure.path,
        "module_type": failure.module_type,
        "inputs": _values(failure.inputs),
        "error_type": failure.error_type,
        "error": failure.error,
        "phase": str(failure.phase),
        "hint": failure.hint,
    }
    for name in ("requested_bytes", "free_bytes"):
        if (nbytes := getattr(failure, name)) is not None:
            data[name] = nbytes
    return data


def _values(values: tuple[NamedValue, ...]) -> list[dict[str, Any]]:
    return [_value(value, value.tensor) for value in values]


def _value(value: NamedValue, tensor: TensorSpec | None) -> dict[str, Any]:
    if tensor is None:
        return {"name": value.name, "shape": None, "dtype": None, "text": value.text}
    data: dict[str, Any] = {
        "name": value.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "device": tensor.device,
        "nbytes": tensor.nbytes,
        "batch_dims": [list(pair) for pair in value.batch_dims],
    }
    if value.text:
        data["text"] = value.text
    return data


def _permissions(target: Path) -> int:
    """Return the mode of the file to be replaced, or that of a file made with ``open``."""
    if target.exists():
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
