r"""Steps that run out of memory on torch's own allocator, and whether ``explain-oom`` finds where.

    python -m benchmarks.allocator_truth.ooms record --torch DIR --cuda DIR [--release 2.9.1]
    python -m benchmarks.allocator_truth.ooms check

``record`` needs what ``record.py`` needs. It runs each step of :data:`STEPS` on a device with a
share of the memory that it would need, and writes the message of the first allocation that fails,
with its index, to ``tests/golden/allocator_oom.json``. ``check`` compares the messages with the
steps that they are of (each has to be found) and with steps that were changed on purpose (each has
to be refused). A change that comes after the failure, such as another optimizer where the first
forward failed, raises the same message to the digit: no one can tell, and these are counted apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from benchmarks.allocator_truth.loops import program_of
from benchmarks.allocator_truth.programs import Case
from benchmarks.allocator_truth.record import GOLDEN, build, run_program
from torchgauge.analyze import run_model
from torchgauge.estimate.memory.allocator import AllocatorSettings, replay, smallest_cap
from torchgauge.estimate.memory.device import Gpu, loop_of
from torchgauge.estimate.memory.loop import Loop
from torchgauge.facts.trace import Trace
from torchgauge.models.requests import request_of
from torchgauge.oom.message import read_message
from torchgauge.oom.places import Places, find_places
from torchgauge.target import target_of

MESSAGES = GOLDEN.with_name("allocator_oom.json")
DEVICE = "A100 SXM4 40GB"
SHARES = (0.5, 0.75, 0.95)
"""Of the memory that a step runs in: what the device has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A training step."""

    model: str
    batch: int
    optimizer: str = "adamw"
    precision: str = "fp32"


STEPS = (
    Step(model="torchvision:resnet18", batch=32),
    Step(model="torchvision:resnet50", batch=96, optimizer="sgd"),
    Step(model="torchvision:densenet121", batch=64, optimizer="adam"),
    Step(model="torchvision:mobilenet_v3_large", batch=128),
    Step(model="torchvision:vit_b_16", batch=48, precision="bf16-autocast"),
    Step(model="torchvision:convnext_tiny", batch=8, precision="bf16"),
    Step(model="torchvision:efficientnet_b0", batch=160, optimizer="sgd-momentum"),
    Step(model="torchvision:swin_t", batch=40),
    Step(model="torchvision:vgg11", batch=8, optimizer="sgd-momentum"),
    Step(model="torchvision:regnet_y_400mf", batch=64),
)
SHALLOWER = {
    "resnet18": "resnet34", "resnet50": "resnet101", "densenet121": "densenet169",
    "mobilenet_v3_large": "mobilenet_v3_small", "vit_b_16": "vit_b_32",
    "convnext_tiny": "convnext_small", "efficientnet_b0": "efficientnet_b1", "swin_t": "swin_s",
    "vgg11": "vgg13", "regnet_y_400mf": "regnet_y_800mf",
}  # fmt: skip
"""By model: the same one deeper or shallower."""


def changed(step: Step) -> Iterator[tuple[str, Step]]:
    """Yield the step with another batch, precision, optimizer and depth."""
    yield "batch", replace(step, batch=step.batch * 3 // 4)
    yield "batch", replace(step, batch=step.batch + 4)
    yield (
        "precision",
        replace(step, precision="bf16-autocast" if step.precision == "fp32" else "fp32"),
    )
    yield "optimizer", replace(step, optimizer="sgd" if step.optimizer[:3] == "ada" else "adamw")
    family, _, name = step.model.partition(":")
    yield "depth", replace(step, model=f"{family}:{SHALLOWER[name]}")


@cache
def traced(step: Step) -> tuple[Trace, Loop, Gpu]:
    """Return a step as it was traced, its loop and the GPU."""
    options = {
        "mode": "training", "optimizer": step.optimizer, "precision": step.precision,
        "device": DEVICE,
    }  # fmt: skip
    request = request_of(step.model, (step.batch, 3, 224, 224), options)
    outcome = run_model(request).outcome
    gpu = target_of(request.scenario).gpu
    assert outcome.error is None and gpu is not None
    return outcome.trace, loop_of(outcome.trace, gpu), gpu


def found(step: Step, text: str) -> Places:
    """Return where a step matches a message."""
    trace, loop, gpu = traced(step)
    return find_places(trace, loop, gpu.settings, read_message(text))


def record(torch: Path, cuda: Path, release: str) -> None:
    """Write the messages of torch's allocator."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder)
        build(torch.resolve(), cuda.resolve(), built, (release,))
        for number, step in enumerate(STEPS):
            _, loop, _ = traced(step)
            program = program_of(loop)
            enough = smallest_cap(loop.events, AllocatorSettings(torch_release=release))
            for share in SHARES:
                nbytes = int(enough * share)
                case = Case(release=release, settings="", seed=0, device_bytes=nbytes, fraction=0)
                done = run_program(case, program, built)
                rows = done.stdout.splitlines()
                event = next(index for index, row in enumerate(rows) if row.startswith("1 "))
                message = done.stderr.splitlines()[0]
                lines.append(
                    json.dumps(
                        {"step": number, "device_bytes": nbytes, "event": event, "message": message}
                    )
                )
    head = json.dumps({"traced_with": traced(STEPS[0])[0].torch_version, "allocator": release})
    MESSAGES.write_text("[\n" + ",\n".join([head, *lines]) + "\n]\n")


def _outcome(step: Step, device_bytes: int) -> tuple[int, int, int] | None:
    """Return the figures with which a step fails on a device; ``None`` where it runs."""
    _, loop, gpu = traced(step)
    failed = replay(loop.events, gpu.settings, device_bytes).out_of_memory
    if failed is None:
        return None
    return failed.segment_bytes, failed.allocated_bytes, failed.reserved_bytes


def check() -> bool:
    """Print how many messages are found in their own step and refused by the changed ones."""
    _, *records = json.loads(MESSAGES.read_text())
    right, refused, asked, equal = 0, 0, 0, 0
    for item in records:
        step = STEPS[item["step"]]
        own = found(step, item["message"])
        right += bool(own.found) and own.found[0].event == item["event"]
        if not own.found or own.found[0].event != item["event"]:
            print(f"not found: {step} {item} {own}")
        for what, other in changed(step):
            if _outcome(other, item["device_bytes"]) == _outcome(step, item["device_bytes"]):
                equal += 1
                continue
            asked += 1
            places = found(other, item["message"])
            refused += not places.found
            if places.found:
                print(f"taken for it ({what}): {step} at {item['event']}: {places.found[:2]}")
    print(
        f"{right} of {len(records)} found; {refused} of {asked} changed steps refused; "
        f"{equal} more raise the same message"
    )
    return right == len(records) and refused >= 0.9 * asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "check"))
    parser.add_argument("--torch", type=Path)
    parser.add_argument("--cuda", type=Path)
    parser.add_argument("--release", default="2.9.1")
    options = parser.parse_args()
    if options.what == "check":
        sys.exit(0 if check() else 1)
    if options.torch is None or options.cuda is None:
        parser.error("record needs --torch and --cuda")
    record(options.torch, options.cuda, options.release)


if __name__ == "__main__":
    main()
