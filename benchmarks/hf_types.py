"""Every model type of the installed transformers, by its name alone: does ``summary hf:TYPE`` run?

``python -m benchmarks.hf_types`` analyses each type with its default configuration, one after the
other, each in a process of its own with a limit on time and memory, and writes a row per type to
``hf_types.csv``. ``--types detr,llava`` tries some, ``--sample 50`` as many drawn by chance.
Needs Linux (``fork``: the libraries are imported once).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import multiprocessing
import os
import random
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

import torchgauge as tg
from torchgauge.analyze import analyze_model
from torchgauge.errors import TorchGaugeError
from torchgauge.models.requests import with_build
from torchgauge.models.spec import build_model, parse_model_spec
from torchgauge.models.torchvision_operators import define_missing_operators
from torchgauge.request import Request

OUTPUT = Path(__file__).with_name("hf_types.csv")
COLUMNS = ("type", "outcome", "model", "execution", "seconds", "peak_mb", "inputs", "message")
SECONDS, MEGABYTES = 60.0, 2500
"""Of one type, computing time; what takes more is stopped."""


def model_types() -> list[str]:
    """Return the types that have a model of their own: bare, or a language model with its head."""
    define_missing_operators()
    import transformers
    from transformers.models.auto import modeling_auto

    transformers.logging.set_verbosity_error()
    mapped = {*modeling_auto.MODEL_MAPPING_NAMES, *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    return sorted(name for name in transformers.CONFIG_MAPPING if name in mapped)


def outcome(name: str) -> dict[str, Any]:
    """Return the row of one type: ``works``, ``none`` (no inputs), ``fails`` or ``no build``."""
    start = time.process_time()
    row: dict[str, Any] = {"type": name, "outcome": "no build"}
    try:
        build = build_model(parse_model_spec(f"hf:{name}"))
        row |= {"model": build.name, "outcome": "none", "message": "; ".join(build.notes)}
        if build.default_inputs is not None:
            row |= {"outcome": "fails", "inputs": build.default_inputs.why}
            report = analyze_model(with_build(Request(spec=build.spec), build))
            row |= {"outcome": "works", "execution": str(report.execution)}
    except TorchGaugeError as error:
        row["message"] = error.message
    except Exception as error:
        row["message"] = f"{type(error).__name__}: {error}"
    row["message"] = " ".join(str(row.get("message", "")).split())[:300]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row | {"seconds": round(time.process_time() - start, 1), "peak_mb": peak}


def outcomes(names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Return the row of each type, each from a process of its own."""
    context = multiprocessing.get_context("fork")
    for name in names:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(name, sender))
        process.start()
        sender.close()
        yield _await(name, process, receiver)
        process.kill()
        process.join()


def _answer(name: str, sender: Connection) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sender.send(outcome(name))


def _await(name: str, process: Any, receiver: Connection) -> dict[str, Any]:
    stopped = {"type": name, "outcome": "stopped"}
    while not receiver.poll(0.1):
        seconds, megabytes = _computed_seconds(process.pid), _resident_mb(process.pid)
        if seconds > SECONDS:
            return stopped | {"seconds": SECONDS, "message": f"more than {SECONDS:.0f} seconds"}
        if megabytes > MEGABYTES:
            return stopped | {"seconds": round(seconds, 1), "message": f"more than {MEGABYTES} MB"}
    try:
        row: dict[str, Any] = receiver.recv()
    except EOFError:
        return stopped | {"message": "the process ended without an answer"}
    return row


def _computed_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize() >> 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--types", help="only these, with commas between")
    parser.add_argument("--sample", type=int, help="as many, drawn with a fixed seed")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    known = model_types()
    names = arguments.types.split(",") if arguments.types else known
    if arguments.sample:
        names = random.Random(0).sample(names, min(arguments.sample, len(names)))
    import transformers

    torch.set_num_threads(1)
    outcome("bert")  # imports what all types share, before the processes part
    with arguments.output.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# {datetime.date.today()}, torchgauge {tg.__version__}, torch {torch.__version__}, "
            f"transformers {transformers.__version__}, {len(names)} of {len(known)} types\n"
        )
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        works = 0
        for number, row in enumerate(outcomes(names), 1):
            writer.writerow(row)
            file.flush()
            works += row["outcome"] == "works"
            print(
                f"{number}/{len(names)} {row['type']}: {row['outcome']}; {works} work", flush=True
            )


if __name__ == "__main__":
    main()
