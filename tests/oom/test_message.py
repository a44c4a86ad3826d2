"""Every wording of an out-of-memory error, with the release it is from.

The texts are those of ``c10/cuda/CUDACachingAllocator.cpp`` (and ``CUDAMallocAsyncAllocator.cpp``)
of the release, as users have posted them; the figures of some are made up.
"""

from __future__ import annotations

import pytest

from torchgauge.errors import UsageError
from torchgauge.facts.trace import Phase
from torchgauge.oom.frames import frames_of
from torchgauge.oom.message import read_message, stated

MIB, GIB = 1 << 20, 1 << 30
_SPLIT = (
    " If reserved memory is >> allocated memory try setting max_split_size_mb to avoid "
    "fragmentation.  See documentation for Memory Management and PYTORCH_CUDA_ALLOC_CONF"
)
_EXPAND = (
    " If reserved but unallocated memory is large try setting {}=expandable_segments:True to "
    "avoid fragmentation.  See documentation for Memory Management  "
    "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
)
MESSAGES = {
    "1.0–1.2": (
        "CUDA out of memory. Tried to allocate 12.50 MiB (GPU 0; 10.92 GiB total capacity; "
        "8.57 GiB already allocated; 9.28 MiB free; 4.68 MiB cached)",
        (12.5 * MIB, 10.92 * GIB, 8.57 * GIB, 9.28 * MIB, 8.57 * GIB + 4.68 * MIB),
    ),
    "1.3": (
        "CUDA out of memory. Tried to allocate 22.79 GiB (GPU 0; 31.75 GiB total capacity; "
        "28.66 GiB already allocated; 1.93 GiB free; 21.30 MiB cached; 0 bytes inactive)",
        (22.79 * GIB, 31.75 * GIB, 28.66 * GIB, 1.93 * GIB, 28.66 * GIB + 21.3 * MIB),
    ),
    "1.4–1.9": (
        "CUDA out of memory. Tried to allocate 102.00 MiB (GPU 0; 7.93 GiB total capacity; "
        "7.14 GiB already allocated; 6.50 MiB free; 7.32 GiB reserved in total by PyTorch)",
        (102 * MIB, 7.93 * GIB, 7.14 * GIB, 6.5 * MIB, 7.32 * GIB),
    ),
    "1.10–2.0": (
        "CUDA out of memory. Tried to allocate 96.00 MiB (GPU 3; 39.99 GiB total capacity; "
        "4.06 GiB already allocated; 36.00 MiB free; 4.09 GiB reserved in total by PyTorch)"
        + _SPLIT,
        (96 * MIB, 39.99 * GIB, 4.06 * GIB, 36 * MIB, 4.09 * GIB),
    ),
    "2.1": (
        "CUDA out of memory. Tried to allocate 250.00 MiB. GPU 0 has a total capacty of 79.15 GiB "
        "of which 16.00 MiB is free. Process 1234 has 79.13 GiB memory in use. Of the allocated "
        "memory 77.01 GiB is allocated by PyTorch, and 1.50 GiB is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting max_split_size_mb "
        "to avoid fragmentation.  See documentation for Memory Management and "
        "PYTORCH_CUDA_ALLOC_CONF",
        (250 * MIB, 79.15 * GIB, 77.01 * GIB, 16 * MIB, 78.51 * GIB),
    ),
    "2.2+": (
        "CUDA out of memory. Tried to allocate 19.68 GiB. GPU 0 has a total capacity of 23.68 GiB "
        "of which 11.88 GiB is free. Including non-PyTorch memory, this process has 11.79 GiB "
        "memory in use. Of the allocated memory 11.44 GiB is allocated by PyTorch, and 43.59 MiB "
        "is reserved by PyTorch but unallocated." + _EXPAND.format("PYTORCH_CUDA_ALLOC_CONF"),
        (19.68 * GIB, 23.68 * GIB, 11.44 * GIB, 11.88 * GIB, 11.44 * GIB + 43.59 * MIB),
    ),
    "2.10+": (
        "Out of memory. Tried to allocate 304.00 MiB. GPU 0 has a total capacity of 94.97 GiB of "
        "which 218.81 MiB is free. Including non-PyTorch memory, this process has 93.84 GiB memory "
        "in use. Of the allocated memory 91.19 GiB is allocated by PyTorch, with 118.00 MiB "
        "allocated in private pools (e.g., CUDA Graphs), and 744.36 MiB is reserved by PyTorch but "
        "unallocated." + _EXPAND.format("PYTORCH_ALLOC_CONF"),
        (304 * MIB, 94.97 * GIB, 91.19 * GIB, 218.81 * MIB, 91.19 * GIB + 744.36 * MIB),
    ),
    "2.0+, cudaMallocAsync": (
        "Allocation on device 0 would exceed allowed memory. (out of memory)\n"
        "Currently allocated     : 9.43 GiB\nRequested               : 640.00 MiB\n"
        "Device limit            : 11.59 GiB\nFree (according to CUDA): 7.12 MiB\n"
        "PyTorch limit (set by user-supplied memory fraction)\n                        : 17.00 GiB",
        (640 * MIB, 11.59 * GIB, 9.43 * GIB, 7.12 * MIB, None),
    ),
}  # fmt: skip
"""By wording: a message, and its figures: tried, capacity, allocated, free, reserved."""


@pytest.mark.parametrize("wording", MESSAGES)
def test_every_figure_of_every_wording_is_read(wording):
    text, figures = MESSAGES[wording]
    message = read_message(f"torch.cuda.OutOfMemoryError: {text}")
    assert message.wording == wording
    assert message.backend == "CUDA"
    names = ("tried", "capacity", "allocated", "free", "reserved")
    for name, expected in zip(names, figures, strict=True):
        found = getattr(message, name)
        assert (found is None) == (expected is None), name
        if expected is not None:
            assert found.middle == pytest.approx(expected, abs=0.011 * GIB), name
            assert found.least <= expected <= found.most, name


def test_a_message_that_a_log_has_broken_into_lines_is_read():
    text, _ = MESSAGES["2.2+"]
    broken = text.replace(" of which", "\n   of\n which").replace("GiB memory", "GiB\nmemory")
    assert read_message(broken) == read_message(text)


@pytest.mark.parametrize(
    ("text", "pids"),
    [
        ("Process 2109 has 344.00 MiB memory in use. Process 99 has 2.00 GiB memory in use. ",
         [2109, 99]),
        ("Including non-PyTorch memory, this process has 93.84 GiB memory in use. ", [None]),
    ],
)  # fmt: skip
def test_the_processes_that_a_message_lists_are_kept(text, pids):
    whole = MESSAGES["2.2+"][0].replace("Of the allocated", f"{text}Of the allocated")
    own = "Including non-PyTorch memory, this process has 11.79 GiB memory in use. "
    whole = whole.replace(own, "", 1)
    assert [item.pid for item in read_message(whole).processes] == pids


def test_the_limit_of_a_process_is_read():
    old = MESSAGES["1.10–2.0"][0].replace("MiB free; ", "MiB free; 20.00 GiB allowed; ")
    new = MESSAGES["2.2+"][0].replace("Of the", "20.00 GiB allowed; Of the")
    for text in (old, new):
        allowed = read_message(text).allowed
        assert allowed is not None and allowed.holds(20 * GIB)


def test_other_backends_and_gpus_are_named():
    hip = MESSAGES["2.2+"][0].replace("CUDA out", "HIP out")
    assert read_message(hip).backend == "HIP"
    assert read_message(MESSAGES["1.10–2.0"][0]).gpu == 3


def test_private_pools_are_read():
    private = read_message(MESSAGES["2.10+"][0]).private
    assert private is not None and private.holds(118 * MIB)


def test_a_log_with_several_errors_gives_the_first_and_their_number():
    text = f"rank 0: {MESSAGES['1.3'][0]}\nrank 1: {MESSAGES['1.4–1.9'][0]}"
    message = read_message(text)
    assert message.messages == 2
    assert message.wording == "1.3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("RuntimeError: shape mismatch", "holds no out-of-memory error"),
        ("CUDA error: out of memory", "holds no out-of-memory error"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "does not say what was allocated"),
        ("CUDA out of memory. Tried to allocate more than 1EB memory.", "what was asked for"),
    ],
)
def test_what_cannot_be_explained_is_refused(text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_message(text)
    assert caught.value.hint


def test_a_size_holds_what_is_written_like_it():
    size = stated("20.00", "MiB")
    assert size.holds(20 * MIB)
    assert not size.holds(20 * MIB + 6000)
    assert stated("896", "bytes").least == stated("896", "bytes").most == 896


TRACEBACK = """Traceback (most recent call last):
  File "/home/me/train.py", line 30, in <module>
    {call}
  File "/venv/torch/{file}", line 5, in {function}
    return {last}
RuntimeError: """


@pytest.mark.parametrize(
    ("call", "file", "function", "last", "phase", "operator"),
    [
        ("out = model(x)", "nn/modules/conv.py", "forward", "F.conv2d(x, w)", "forward", "conv2d"),
        ("loss.backward()", "autograd/graph.py", "_engine_run_backward", "Variable.run(t)",
         "backward", "run"),
        ("optimizer.step()", "optim/adamw.py", "step", "torch.zeros_like(p)", "optimizer",
         "zeros_like"),
    ],
)  # fmt: skip
def test_a_traceback_says_where_it_was(call, file, function, last, phase, operator):
    text = TRACEBACK.format(call=call, file=file, function=function, last=last)
    message = read_message(text + MESSAGES["1.3"][0])
    assert (message.phase, message.operator) == (Phase(phase), operator)
    assert message.lines[0] == "/home/me/train.py:30"


def test_only_the_last_traceback_of_a_log_counts():
    first = TRACEBACK.format(call="a", file="optim/sgd.py", function="step", last="torch.zeros(3)")
    last = TRACEBACK.format(call="b", file="nn/m.py", function="forward", last="F.relu(x)")
    phase, operator, lines = frames_of(f"{first}no memory\n{last}")
    assert (phase, operator, len(lines)) == (Phase.FORWARD, "relu", 2)
