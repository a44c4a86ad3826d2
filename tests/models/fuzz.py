"""Run many random programs by hand, from the repository's root; see ``--help``.

A program's number is its seed. The log keeps what is done, so that a run can be resumed or split
over machines (``--first``); each failing program is printed as Python.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path

import torch
from program_checks import differences
from random_programs import BLOCKS, INPUTS, KINDS, OPTIMIZERS, RETURNS, Program, Step

SHARD = 20
"""Programs to a line of the log."""


def random_program(number: int) -> Program:
    """Return the program of that number, from the same choices as the strategy's."""
    source = random.Random(number)

    def steps(most: int, depth: int) -> tuple[Step, ...]:
        return tuple(step(depth) for _ in range(source.randint(1, most)))

    def step(depth: int) -> Step:
        is_block = depth > 0 and source.random() < 0.25
        kind = source.choice(BLOCKS if is_block else KINDS)
        numbers = (source.randrange(8), source.randrange(8), source.randrange(64))
        return Step(kind, *numbers, steps(5, depth - 1) if is_block else ())

    return Program(
        inputs=tuple(source.choice(tuple(INPUTS)) for _ in range(source.randint(1, 2))),
        steps=steps(12, 2),
        returns=source.choice(RETURNS),
        training=source.random() < 0.5,
        optimizer=source.choice(OPTIMIZERS),
        given_as=source.choice(("tensors", "sizes")),
        raises=source.random() < 0.15,
    )


def run(numbers: range) -> list[dict[str, object]]:
    """Run some programs; return what differed."""
    failures: list[dict[str, object]] = []
    for number in numbers:
        program = random_program(number)
        try:
            found = differences(program)
        except Exception as error:
            found = [f"crash: {error!r:.500}"]
        if found:
            failures.append({"number": number, "found": found, "program": repr(program)})
    return failures


def main() -> None:
    """Run the programs that the log does not have yet, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--count", type=int, default=20_000, help="how many programs")
    parser.add_argument("--log", type=Path, default=Path("fuzz.jsonl"), help="what is done")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing after these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done: dict[int, list[dict[str, object]]] = {}
    if options.log.exists():
        lines = map(json.loads, options.log.read_text(encoding="utf-8").splitlines())
        done = {line["first"]: line["failures"] for line in lines}
    started = time.monotonic()
    for first in range(options.first, options.first + options.count, SHARD):
        if first in done or time.monotonic() - started > options.seconds:
            continue
        done[first] = run(range(first, first + SHARD))
        with options.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"first": first, "failures": done[first]}) + "\n")
    failures = [failure for found in done.values() for failure in found]
    for failure in failures:
        print(failure["number"], failure["found"], failure["program"], sep="\n    ")
    words = Counter(str(text).split(":")[0] for f in failures for text in f["found"])
    print(f"{len(done) * SHARD} programs, {len(failures)} with a difference: {dict(words)}")


if __name__ == "__main__":
    main()
