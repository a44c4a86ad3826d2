"""What only a machine with an NVIDIA GPU can show about the image; run it there.

    docker run --rm --gpus all --shm-size 8g IMAGE python /opt/torchgauge/check_cuda.py

Each line is one check, done for real: GPUs visible, the build fits them, matrix product and
convolution (cuDNN) against the CPU's results, an all-reduce (NCCL) over all GPUs, workers that
hand batches over in shared memory. Exit status: 0 all hold, 1 one does not, 2 there is no GPU here
and nothing was shown. ``--rehearse`` runs the same code on the CPU with gloo, to test this script:
it shows nothing about GPUs and says so.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.utils.data import DataLoader, TensorDataset

# fp32 against fp32 with TF32 switched off: what is left is the order of the sums.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}
REHEARSAL_PROCESSES = 2
ALL_REDUCE_ELEMENTS = 1 << 22
WAIT_SECONDS = 120


def devices(rehearse: bool) -> list[torch.device]:
    if rehearse:
        return [torch.device("cpu")] * REHEARSAL_PROCESSES
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


def visible(device: torch.device) -> str:
    if device.type == "cpu":
        return "the CPU"
    capability = torch.cuda.get_device_capability(device)
    free, total = torch.cuda.mem_get_info(device)
    major = capability[0]
    # A build runs on a GPU if it has code for the same major architecture, not newer than the
    # GPU's, or PTX (compute_NN) that the driver translates (CUDA C++ Programming Guide, 5.8).
    for arch in torch.cuda.get_arch_list():
        kind, _, number = arch.partition("_")
        built = int(number.rstrip("af"))
        if kind == "sm" and built // 10 == major and built <= major * 10 + capability[1]:
            break
        if kind == "compute" and built <= major * 10 + capability[1]:
            break
    else:
        raise AssertionError(f"sm_{major}{capability[1]} is not in {torch.cuda.get_arch_list()}")
    return (
        f"{torch.cuda.get_device_name(device)}, sm_{major}{capability[1]}, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )


def matrix_product(device: torch.device) -> str:
    torch.manual_seed(0)
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    torch.testing.assert_close((a.to(device) @ b.to(device)).cpu(), a @ b, **TOLERANCE)
    return "512 x 512 equals the CPU's"


def convolution(device: torch.device) -> str:
    torch.manual_seed(0)
    layer, x = torch.nn.Conv2d(16, 32, 3), torch.randn(4, 16, 64, 64)
    expected = layer(x)
    torch.testing.assert_close(layer.to(device)(x.to(device)).cpu(), expected, **TOLERANCE)
    return f"3 x 3 equals the CPU's, cuDNN {torch.backends.cudnn.version()}"


def reduce_on(rank: int, targets: list[torch.device], port: int) -> None:
    """One process of the all-reduce: its result must be the sum over all ranks."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    device, count = targets[rank], len(targets)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", rank=rank, world_size=count
    )
    try:
        tensor = torch.full((ALL_REDUCE_ELEMENTS,), float(rank + 1), device=device)
        dist.all_reduce(tensor)
        expected = count * (count + 1) / 2
        if not bool((tensor == expected).all()):
            raise AssertionError(f"rank {rank}: {tensor[0].item()} instead of {expected}")
    finally:
        dist.destroy_process_group()


def all_reduce(targets: list[torch.device]) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.spawn(
        reduce_on, args=(targets, port), nprocs=len(targets), join=False
    )
    end = time.monotonic() + WAIT_SECONDS
    while not context.join(timeout=1):  # it returns whenever one of the processes has ended
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            raise AssertionError(f"no end after {WAIT_SECONDS} s: NCCL_DEBUG=INFO tells more")
    library = "gloo"
    if targets[0].type == "cuda":
        library = "NCCL " + ".".join(str(part) for part in torch.cuda.nccl.version())
    return f"{len(targets)} processes, {library}"


def shared_memory() -> str:
    # Two workers with batches of 38 MB each: more than Docker's default of 64 MB.
    data = TensorDataset(torch.zeros(256, 3, 224, 224))
    batches = sum(1 for _ in DataLoader(data, batch_size=64, num_workers=2))
    room = os.statvfs("/dev/shm")
    return f"{batches} batches from 2 workers, /dev/shm {room.f_blocks * room.f_frsize >> 20} MiB"


def checks(targets: list[torch.device]) -> Iterator[tuple[str, Callable[[], str]]]:
    for device in dict.fromkeys(targets):
        yield f"{device} visible", lambda device=device: visible(device)
        yield f"{device} matrix product", lambda device=device: matrix_product(device)
        yield f"{device} convolution", lambda device=device: convolution(device)
    yield "all-reduce", lambda: all_reduce(targets)
    yield "shared memory", shared_memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, to test this script")
    rehearse = parser.parse_args().rehearse
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    targets = devices(rehearse)
    if not targets:
        print(
            "NOTHING SHOWN: torch sees no GPU. Start the container with --gpus all on a machine "
            "with NVIDIA's driver and container toolkit; `torchgauge doctor` says what is wrong."
        )
        return 2
    failed = 0
    for name, check in checks(targets):
        try:
            print(f"ok      {name}: {check()}", flush=True)
        except Exception as error:  # any failure is a finding; the others are still checked
            failed += 1
            print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
    if rehearse:
        print("A rehearsal on the CPU: nothing was shown about GPUs.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
