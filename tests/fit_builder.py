"""Answers to "will it fit?" made by hand for the tests of renderers; no model runs and no torch."""

from __future__ import annotations

from dataclasses import replace

from torchgauge.facts.fit import (
    Alternative,
    CacheFit,
    DeviceFit,
    FitReport,
    Largest,
    LocalFree,
    NotTried,
    Part,
    Tried,
    Verdict,
)
from torchgauge.facts.scenario import Scenario

GIB = 1 << 30
MIB = 1 << 20


def device(
    name: str, usable: float, reserved: float, verdict: Verdict, **changes: object
) -> DeviceFit:
    made = DeviceFit(
        device=name,
        verdict=verdict,
        usable_bytes=int(usable * GIB),
        context_bytes=128 * MIB,
        allocated_bytes=int(reserved * GIB) - 512 * MIB,
        reserved_bytes=int(reserved * GIB),
        minimum_bytes=int(reserved * GIB) - 256 * MIB,
        fits=verdict is not Verdict.DOES_NOT_FIT,
        device_interval=(int(reserved * 0.97 * GIB), int(reserved * 1.05 * GIB)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def alternative(text: str, needed: float, saved: float, **changes: object) -> Alternative:
    made = Alternative(
        name=text.split()[0],
        changes=(text,),
        device_bytes=int(needed * GIB),
        saved_bytes=int(saved * GIB),
        verdict=Verdict.FITS,
        extra_flops=0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def report(**changes: object) -> FitReport:
    """Return a step of training that does not fit."""
    first = device("RTX 3060 12GB", 11.76, 15.25, Verdict.DOES_NOT_FIT)
    made = FitReport(
        tool_version="0.1.0",
        torch_version="2.13.0",
        model_name="ResNet",
        model_spec="torchvision:resnet50",
        scenario=Scenario(mode="training", optimizer="adamw", device=first.device),
        parameter_dtypes=("float32",),
        batch_size=160,
        inputs=("x [160, 3, 224, 224] float32",),
        devices=(first,),
        breakdown={
            Part.PARAMETERS: 98 * MIB,
            Part.GRADIENTS: 8 * MIB,
            Part.OPTIMIZER_STATES: 195 * MIB,
            Part.ACTIVATIONS: 14696 * MIB,
            Part.INPUTS: 92 * MIB,
            Part.TEMPORARIES: 15 * MIB,
            Part.ALLOCATOR: 512 * MIB,
            Part.CONTEXT: 128 * MIB,
        },
        peak_at="backward, layer4.2.relu, aten.threshold_backward.default",
        total_flops=3_887_852_421_120,
        largest_batch=Largest(
            runs=138,
            safe=130,
            full_speed=120,
            tried=tuple(
                Tried(size=size, device_bytes=size * 90 * MIB, verdict=verdict, fits=size < 139)
                for size, verdict in (
                    (120, Verdict.FITS),
                    (130, Verdict.FRAGMENTED),
                    (138, Verdict.TOO_CLOSE),
                    (139, Verdict.DOES_NOT_FIT),
                )
            ),
        ),
        alternatives=(
            alternative("batch 80, gradients accumulated over 2", 7.92, 7.45),
            alternative(
                "checkpointing of the repeated blocks", 9.5, 5.87, extra_flops=1_270_119_137_280
            ),
            alternative(
                "optimizer sgd-momentum", 15.3, 0.07, verdict=Verdict.DOES_NOT_FIT,
                note="needs another learning rate",
            ),
            alternative("allocator: expandable_segments:True", 15.4, -0.03,
                        verdict=Verdict.DOES_NOT_FIT),
        ),
        not_tried=(NotTried(name="lora", why="linear layers hold only 8 % of the parameters"),),
        traces=14,
        assumptions=("loss: mean of all outputs, instead of the real loss",),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def generation() -> FitReport:
    """Return a language model that generates, just about."""
    tight = device("H100-SXM", 79.19, 79.4, Verdict.FRAGMENTED)
    return report(
        model_name="LlamaForCausalLM",
        model_spec="hf:llama",
        scenario=Scenario(precision="bf16", device=tight.device),
        parameter_dtypes=("bfloat16",),
        batch_size=8,
        inputs=("prompt [8, 8191] int64", "token [8, 1] int64"),
        devices=(tight,),
        breakdown={Part.PARAMETERS: 15 * GIB, Part.OUTPUTS: 8 * GIB, Part.CONTEXT: 128 * MIB},
        largest_batch=Largest(runs=5, full_speed=None, is_bound=False, note="6 was refused: why"),
        alternatives=(),
        not_tried=(),
        cache=CacheFit(
            kind="dynamic",
            context=8192,
            cache_bytes=8 * GIB,
            bytes_per_token=128 * 1024,
            prefill_peak_bytes=30 * GIB,
            decode_peak_bytes=24 * GIB,
            largest_context=Largest(runs=27648, safe=27648, full_speed=27648, unit=128),
        ),
        local=(
            LocalFree(
                index=0, name="NVIDIA H100 80GB HBM3", total_bytes=80 * GIB, free_bytes=60 * GIB,
                fits_now=False,
            ),
        ),
    )  # fmt: skip


def close() -> FitReport:
    """Return a step of training that is too close to call beside a desktop."""
    tight = device("RTX 3060 12GB", 11.76, 10.4, Verdict.TOO_CLOSE, other_programs_bytes=1288490188)
    return report(
        scenario=Scenario(
            mode="training", optimizer="adamw", device=tight.device,
            other_programs_bytes=tight.other_programs_bytes,
        ),
        devices=(tight,),
        assumptions=("a desktop and other programs use 1.20 GiB of the GPU",),
    )  # fmt: skip


def many() -> FitReport:
    """Return a step on three devices, one of which lacks the precision."""
    lacking = "T4 has no bf16 arithmetic; torch emulates it, slowly; use fp16"
    return report(
        devices=(
            device("T4", 14.75, 15.25, Verdict.FRAGMENTED, warnings=(lacking,), minimum_bytes=None),
            device("RTX 3060 12GB", 11.76, 15.25, Verdict.DOES_NOT_FIT, minimum_bytes=None),
            device("RTX 4090", 23.62, 15.25, Verdict.FITS, minimum_bytes=None),
        ),
        largest_batch=None,
        alternatives=(),
        not_tried=(),
    )
