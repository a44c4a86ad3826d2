"""The whole way on the CPU (`make gpu-truth-dry`): record, be killed, resume, read, compare."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu_truth.cases import DRY_CASES
from benchmarks.gpu_truth.compare import Comparison, compare_all, line
from benchmarks.gpu_truth.record import RUNNING
from benchmarks.gpu_truth.schema import count

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0


def dry_run(folder: Path, kill_after: int = 2) -> list[Comparison]:
    """Record the dry cases into a folder, killing the recorder once, and compare them.

    Raises:
        RuntimeError: when the recorder ends on its own, hangs, or records what was there again.
    """
    first = _recorder(folder)
    _wait(lambda: count(folder) >= kill_after and (folder / RUNNING).exists(), first)
    first.kill()  # SIGKILL: nothing can be tidied up
    first.communicate(timeout=PATIENCE)  # its worker, which has the same pipe, ends with it
    kept = _contents(folder)
    second = _recorder(folder)
    _, errors = second.communicate(timeout=PATIENCE)
    if second.returncode != 0:
        raise RuntimeError(f"the recorder failed: {errors.decode()}")
    after = _contents(folder)
    if any(after.get(name) != stamp for name, stamp in kept.items()):
        raise RuntimeError("a record that was there was written again")
    if count(folder) != len(DRY_CASES):
        raise RuntimeError(f"{count(folder)} records for {len(DRY_CASES)} cases")
    return list(compare_all(folder))


def _recorder(folder: Path) -> subprocess.Popen[bytes]:
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "benchmarks.gpu_truth.record", "--device", "cpu", "--dry",
               "--output", str(folder), "--minutes", "5"]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            _, errors = process.communicate()
            raise RuntimeError(f"the recorder did not get going: {errors.decode()}")
        time.sleep(0.02)


def _contents(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json.xz")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="where to keep the records")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        comparisons = dry_run(options.output or Path(temporary))
    print("\n".join(line(comparison) for comparison in comparisons))
    print(f"recorded, killed, resumed, read and compared: {len(comparisons)} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
