"""Record real steps: ``python -m benchmarks.gpu_truth.record --device cuda --output FOLDER``.

A worker process does the recording and this one watches it: when the worker dies or hangs, the
case that it was at is recorded as such and a new worker goes on with the next. Cases whose record
is there are passed over, so that the same command resumes after anything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu_truth.cases import DRY_CASES, Case, cases
from benchmarks.gpu_truth.schema import (
    Environment,
    Record,
    Status,
    read_all,
    record_path,
    write_record,
)

RUNNING, LOG = ".running.json", ".worker.log"
CASE_SECONDS = 90.0
"""A case that takes longer is recorded as timed out."""
START_SECONDS = 120.0
"""A worker that has not begun a case by then is started again, three times at most."""
LEAST_SECONDS = 5.0
_POLL = 0.1


def selected(options: argparse.Namespace) -> list[Case]:
    """Return the cases asked for, in order of value."""
    every = DRY_CASES if options.dry else cases()
    found = [case for case in every if options.only is None or options.only in case.id]
    return found if options.kind is None else [c for c in found if c.kind == options.kind]


def remaining(folder: Path, wanted: list[Case]) -> list[Case]:
    """Return the cases without a record."""
    return [case for case in wanted if not record_path(folder, case.id).exists()]


# ------------------------------------------------------------------------- the worker


def work(options: argparse.Namespace) -> int:
    """Record cases until none is left or the time is up."""
    _die_with_parent()
    from benchmarks.gpu_truth.gauge import gauge_for
    from benchmarks.gpu_truth.measure import record_case

    gauge = gauge_for(options.device)
    environment = gauge.environment()
    folder: Path = options.output
    (folder / RUNNING).write_text(json.dumps({"environment": asdict(environment)}))
    for case in remaining(folder, selected(options)):
        left = options.until - time.time()
        if left < LEAST_SECONDS:
            break
        _replace(folder / RUNNING, {
            "case": case.id, "since": time.time(), "environment": asdict(environment),
        })  # fmt: skip
        record = record_case(case, gauge, environment, min(left, CASE_SECONDS) / 2)
        write_record(folder, record)
        print(f"{record.status:<13} {record.seconds:6.1f} s  {case.id}  {record.message}"[:160],
              flush=True)  # fmt: skip
        if options.isolate:
            break
    (folder / RUNNING).unlink(missing_ok=True)
    return 0


def _die_with_parent() -> None:
    """End this process when the one that watches it is gone: its end of the pipe closes."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _replace(path: Path, data: dict[str, object]) -> None:
    waiting = path.with_name(f"{path.name}.{os.getpid()}")
    waiting.write_text(json.dumps(data))
    waiting.replace(path)


# -------------------------------------------------------------------------- the watch


def supervise(options: argparse.Namespace) -> int:
    """Start workers until everything is recorded or the time is up."""
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUNNING).unlink(missing_ok=True)
    wanted = selected(options)
    print(f"{len(wanted)} cases, {len(wanted) - len(remaining(folder, wanted))} recorded before",
          flush=True)  # fmt: skip
    idle = 0
    while remaining(folder, wanted) and options.until - time.time() > LEAST_SECONDS and idle < 3:
        before = len(remaining(folder, wanted))
        with (folder / LOG).open("ab") as log:
            worker = subprocess.Popen(_command(options), stdin=subprocess.PIPE, stderr=log)
            status = _watch(worker, folder, options)
        if status is not None:
            _record_end(folder, wanted, status)
        idle = idle + 1 if len(remaining(folder, wanted)) == before else 0
    if idle >= 3:
        print(f"the worker does not start: see {LOG} in the output folder", file=sys.stderr)
        return 1
    (folder / LOG).unlink(missing_ok=True)
    _print_summary(folder, wanted)
    return 0


def _command(options: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_truth.record", "--worker",
               "--device", options.device, "--output", str(options.output),
               "--until", str(options.until)]  # fmt: skip
    for name in ("dry", "isolate"):
        command += [f"--{name}"] if getattr(options, name) else []
    for name in ("only", "kind"):
        command += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    return command


def _watch(
    worker: subprocess.Popen[bytes], folder: Path, options: argparse.Namespace
) -> Status | None:
    """Wait for a worker; return how the case that it was at ended if it did not end well."""
    started = time.time()
    while worker.poll() is None:
        now = time.time()
        since = _running(folder).get("since")
        if now > options.until:
            return _kill(worker, None)  # out of time: the case is taken up by the next run
        if since is not None and now - since > CASE_SECONDS:
            return _kill(worker, Status.TIMEOUT)
        if since is None and now - started > START_SECONDS:
            return _kill(worker, None)
        time.sleep(_POLL)
    return Status.CRASH if worker.returncode != 0 else None


def _kill(worker: subprocess.Popen[bytes], status: Status | None) -> Status | None:
    worker.kill()
    worker.wait()
    return status


def _running(folder: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads((folder / RUNNING).read_text())
    except (OSError, ValueError):
        return {}
    return found


def _record_end(folder: Path, wanted: list[Case], status: Status) -> None:
    """Write down that a case took its process with it."""
    running = _running(folder)
    (folder / RUNNING).unlink(missing_ok=True)
    at = [case for case in wanted if case.id == running.get("case")]
    environment = running.get("environment")
    if at and isinstance(environment, dict) and not record_path(folder, at[0].id).exists():
        message = _last_lines(folder / LOG)
        record = Record(
            case=asdict(at[0]),
            status=status,
            message=message,
            environment=Environment(**environment),
        )
        write_record(folder, record)
        print(f"{status:<13}           {at[0].id}", flush=True)


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines if not line.startswith("USDT:"))[-500:]


def _print_summary(folder: Path, wanted: list[Case]) -> None:
    left = remaining(folder, wanted)
    counts = Counter(str(record.status) for record in read_all(folder))
    size = sum(path.stat().st_size for path in folder.rglob("*.json.xz"))
    ended = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    print(f"{ended or 'nothing'}; {len(left)} left to do; {size / 1e6:.2f} MB", flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_truth.record",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, required=True, help="folder of the records")
    parser.add_argument("--minutes", type=float, default=8.0, help="stop after (default 8)")
    parser.add_argument("--dry", action="store_true", help="a few small cases, for the CPU")
    parser.add_argument("--only", help="cases whose id has this text")
    parser.add_argument("--kind", choices=("model", "micro"), help="models or kernels alone")
    parser.add_argument("--isolate", action="store_true", help="a process of its own per case")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.until = options.until or time.time() + options.minutes * 60
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.list:
        print("\n".join(case.id for case in selected(options)))
        return 0
    return work(options) if options.worker else supervise(options)


if __name__ == "__main__":
    sys.exit(main())
