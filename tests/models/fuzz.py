"""Run many random programs by hand, in shards that can be resumed: ``fuzz.py --help``."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from program_checks import differences
from random_programs import Program, programs

SHARD = 25
"""Programs to a shard; a shard's number is hypothesis's seed."""


def run_shard(number: int) -> list[dict[str, object]]:
    """Run a shard; return what differed."""
    failures: list[dict[str, object]] = []

    @seed(number)
    @settings(
        max_examples=SHARD, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs())
    def check(program: Program) -> None:
        try:
            found = differences(program)
        except Exception as error:
            found = [f"crash: {error!r:.500}"]
        if found:
            failures.append({"shard": number, "found": found, "program": repr(program)})

    check()
    return failures


def main() -> None:
    """Run the shards that the log does not have yet, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="first shard")
    parser.add_argument("--shards", type=int, default=800, help=f"shards of {SHARD} programs")
    parser.add_argument("--log", type=Path, default=Path("fuzz.jsonl"))
    parser.add_argument("--seconds", type=float, default=1e9, help="start no shard after these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done: dict[int, list[dict[str, object]]] = {}
    if options.log.exists():
        lines = map(json.loads, options.log.read_text(encoding="utf-8").splitlines())
        done = {line["shard"]: line["failures"] for line in lines}
    started = time.monotonic()
    for number in range(options.first, options.first + options.shards):
        if number in done or time.monotonic() - started > options.seconds:
            continue
        done[number] = run_shard(number)
        with options.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"shard": number, "failures": done[number]}) + "\n")
    failures = [failure for found in done.values() for failure in found]
    for failure in failures:
        print(failure["shard"], failure["found"], failure["program"], sep="\n    ")
    words = Counter(str(text).split(":")[0] for f in failures for text in f["found"])
    print(f"{len(done) * SHARD} programs, {len(failures)} with a difference: {dict(words)}")


if __name__ == "__main__":
    main()
