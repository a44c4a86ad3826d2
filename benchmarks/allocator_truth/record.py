r"""Record what PyTorch's own allocator counts over the programs of ``programs.py``.

    python -m benchmarks.allocator_truth.record --torch DIR --cuda DIR \
        [--fuzz SECONDS | --loops RELEASE]

``--torch`` holds a directory per release (``DIR/2.13.0/``) with ``torch/lib/libc10*.so`` and
``torch/include`` unpacked from that release's CUDA wheel. ``--cuda`` holds ``12/include`` and
``13/include``, the headers of the packages nvidia-cuda-runtime-cu12 12.8, nvidia-cuda-runtime
13.0 and nvidia-cuda-crt. Needs g++; no GPU, no driver, and nothing of torch is loaded here.

Writes ``tests/golden/allocator.json``. With ``--loops RELEASE`` it writes ``allocator_loops.json``
instead: what that one release counts in training loops under ``cudnn.benchmark`` (``loops.py``).
With ``--fuzz`` it compares new programs with the model for so many seconds and writes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.allocator_truth.programs import (
    RELEASES,
    Case,
    Row,
    Step,
    cases,
    loop_cases,
    run_model,
)

HERE = Path(__file__).parent
GOLDEN = HERE.parents[1] / "tests" / "golden" / "allocator.json"
LOOPS = GOLDEN.with_name("allocator_loops.json")
CUDA_MAJOR = {"2.11.0": 13, "2.12.0": 13, "2.13.0": 13}
"""Of the releases' wheels; 12 for the others."""
EVERY = 50
"""Rows kept of each program, so that a difference can be placed; a digest covers all of them."""


def build(torch: Path, cuda: Path, target: Path, releases: Sequence[str]) -> None:
    """Build the fakes for the CUDA majors of the releases, and the driver for each release."""
    for major in {CUDA_MAJOR.get(release, 12) for release in releases}:
        fakes = target / str(major)
        fakes.mkdir(parents=True)
        versions = fakes / "versions"
        versions.write_text(f"libcudart.so.{major} {{ *; }};")
        runtime = fakes / f"libcudart.so.{major}"
        include = f"-I{cuda / str(major) / 'include'}"
        _library(runtime, "fake_cuda.cpp", include, f"-Wl,--version-script={versions}")
        for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
            _library(fakes / name, "fake_driver.cpp", str(runtime))
    for release in releases:
        major = CUDA_MAJOR.get(release, 12)
        home = torch / release / "torch"
        old = release.startswith(("2.6", "2.7"))
        _compile(
            HERE / "replay.cpp",
            "-o",
            target / release,
            *(["-DEMPTY_CACHE_OF_ALL"] if old else []),
            f"-D_GLIBCXX_USE_CXX11_ABI={int(not release.startswith('2.6'))}",
            f"-I{home / 'include'}",
            f"-I{cuda / str(major) / 'include'}",
            f"-L{home / 'lib'}",
            "-lc10_cuda",
            "-lc10",
            target / str(major) / f"libcudart.so.{major}",
            f"-Wl,-rpath,{target / str(major)},-rpath,{home / 'lib'}",
            "-Wl,--allow-shlib-undefined,-z,lazy",
        )


def _library(path: Path, source: str, *options: str) -> None:
    _compile(HERE / source, "-fPIC", "-shared", "-o", path, f"-Wl,-soname,{path.name}", *options)


def _compile(*arguments: object) -> None:
    subprocess.run(["g++", "-std=c++20", "-O1", "-w", *map(str, arguments)], check=True)


def run_torch(case: Case, built: Path) -> list[Row]:
    """Return what torch's allocator counts after each step."""
    done = run_program(case, case.steps(), built)
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


def run_program(case: Case, steps: Sequence[Step], built: Path) -> subprocess.CompletedProcess[str]:
    """Run a program on a case's device: counters on its output, messages of errors beside it."""
    fakes = built / str(CUDA_MAJOR.get(case.release, 12))
    done = subprocess.run(
        [str(built / case.release), str(case.fraction)],
        input="".join(f"{' '.join(map(str, step))}\n" for step in steps),
        env=os.environ
        | {
            "PYTORCH_CUDA_ALLOC_CONF": case.settings,
            "FAKE_DEVICE_BYTES": str(case.device_bytes),
            "LD_PRELOAD": f"{fakes / 'libcuda.so.1'}:{fakes / 'libnvidia-ml.so.1'}",
            "LD_LIBRARY_PATH": str(fakes),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr[:2000]}")
    return done


def summary(rows: list[Row]) -> dict[str, object]:
    """Return a digest of all rows, some of them, and the highest of each counter."""
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    return {
        "steps": len(rows),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "highest": [max(column) for column in zip(*rows, strict=True)],
        "rows": [list(row) for row in rows[EVERY - 1 :: EVERY]],
    }


def fuzz(built: Path, seconds: float) -> None:
    """Compare the model with torch over new programs until the time is up."""
    end, runs, steps, first = time.monotonic() + seconds, 0, 0, 1_000_000
    while time.monotonic() < end:
        for case in cases(1, first=first):
            real, model = run_torch(case, built), run_model(case)
            runs, steps = runs + 1, steps + len(real)
            if real != model:
                pairs = enumerate(zip(real, model, strict=True))
                at = next(index for index, (row, other) in pairs if row != other)
                print(f"{case} differs at {at}: {real[at]} is {model[at]}")
        first += 1_000
    print(f"{runs} programs, {steps} steps compared")


def write(path: Path, wanted: Sequence[Case], built: Path) -> None:
    """Write what torch counts over the programs of cases."""
    names = ("release", "settings", "seed", "device_bytes", "fraction")
    found = [
        {name: getattr(case, name) for name in names} | summary(run_torch(case, built))
        for case in wanted
    ]
    lines = ",\n".join(json.dumps(record) for record in found)
    path.write_text(f"[\n{lines}\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", type=Path, required=True)
    parser.add_argument("--cuda", type=Path, required=True)
    parser.add_argument("--fuzz", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--loops", metavar="RELEASE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder)
        releases = (options.loops,) if options.loops else RELEASES
        build(options.torch.resolve(), options.cuda.resolve(), built, releases)
        if options.fuzz:
            fuzz(built, options.fuzz)
        elif options.loops:
            write(LOOPS, loop_cases(options.loops, 24), built)
        else:
            write(GOLDEN, cases(1), built)


if __name__ == "__main__":
    main()
