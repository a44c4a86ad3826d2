"""Sum a tensor over processes, as data-parallel training does at every step.

Usage: ``all_reduce.py OUTPUT BACKEND PROCESSES`` starts that many processes and checks their sums:
one per GPU with ``nccl``, on the CPU with ``gloo``. With RANK and STORE after these it is one of
them. They meet over a file, so no port is taken.
"""

from __future__ import annotations

import sys

FOLDER = sys.path.pop(0)  # this file's: nothing is to be imported from there

import datetime  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

sys.path.insert(0, os.getcwd())  # as for the user's own script; after the imports above

ELEMENTS = 1 << 20  # 4 MiB: NCCL goes through shared memory between GPUs without peer access
PATIENCE_S = 60
NOT_BUILT = 77


def main() -> None:
    """Start the processes, wait for them, write one line."""
    backend, processes = sys.argv[2], int(sys.argv[3])
    write(begin="all-reduce")
    start = time.perf_counter()
    folder = tempfile.mkdtemp(dir=os.path.dirname(sys.argv[1]))  # where there is room for it
    try:
        error = together(backend, processes, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if error is None:
        return
    on = "cpu" if backend == "gloo" else "cuda"
    noun = "process" if processes == 1 else "processes"
    write(
        check={
            "device": on,
            "name": "all-reduce",
            "ok": not error,
            "detail": f"{backend}, {processes} {noun}",
            "error": error,
            "seconds": time.perf_counter() - start,
        }
    )


def write(**content: object) -> None:
    """Append one line to the output."""
    with open(sys.argv[1], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(content) + "\n")


def together(backend: str, processes: int, folder: str) -> str | None:
    """Run all ranks; return what went wrong, empty if nothing, ``None`` if not in this build."""
    store = os.path.join(folder, "store")
    logs = [os.path.join(folder, f"rank{rank}") for rank in range(processes)]
    ranks = []
    for rank, log in enumerate(logs):
        arguments = [*sys.argv[:4], str(rank), store]
        with open(log, "wb") as stream:
            ranks.append(
                subprocess.Popen(
                    [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=stream
                )
            )
    statuses = [process.wait() for process in ranks]
    if NOT_BUILT in statuses:
        return None
    for rank, (status, log) in enumerate(zip(statuses, logs)):  # noqa: B905 - strict came in 3.10
        if status != 0:
            with open(log, encoding="utf-8", errors="replace") as stream:
                lines = [line.strip() for line in stream if line.strip()]
            # torch destroys the group at exit and says so after the error that matters.
            errors = [line for line in lines if "Error" in line.split(":")[0]]
            last = (errors or lines or [f"ended with status {status}"])[-1]
            return f"rank {rank}: {last}"
    return ""


def take_part(backend: str, processes: int, rank: int, store: str) -> None:
    """Be one rank: sum ``rank + 1`` over all of them."""
    torch = importlib.import_module("torch")
    distributed = importlib.import_module("torch.distributed")
    if not (distributed.is_available() and distributed.is_backend_available(backend)):
        sys.exit(NOT_BUILT)
    device = "cpu"
    if backend == "nccl":
        torch.cuda.set_device(rank)
        device = f"cuda:{rank}"
    distributed.init_process_group(
        backend,
        init_method="file://" + store,
        rank=rank,
        world_size=processes,
        timeout=datetime.timedelta(seconds=PATIENCE_S),
    )
    tensor = torch.full((ELEMENTS,), float(rank + 1), device=device)
    distributed.all_reduce(tensor)
    expected = processes * (processes + 1) // 2
    got = {float(tensor.min().item()), float(tensor.max().item())}
    distributed.destroy_process_group()
    if got != {float(expected)}:
        raise RuntimeError(f"the sum over all ranks must be {expected}, and is {got}")


if __name__ == "__main__":
    if len(sys.argv) > 4:
        take_part(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        main()
