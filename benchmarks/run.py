"""Time torchgauge against bare runs and the peers (`make bench`).

The targets are ratios inside one process, so they hold on slow and busy machines too. Absolute
seconds are printed for orientation. Exits with 1 when a target is missed; ``--smoke`` runs the
smallest case of every section once and judges nothing.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import torchgauge as tg
from models import CASES, Case, blocks
from peers import ON_META, PEERS, Answer, Peer, silence
from small_layers import Compared, compared
from timing import interleaved_medians, seconds

LLAMA_405B = {
    "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126,
    "num_attention_heads": 128, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measured figure and what it should be at most."""

    what: str
    value: float
    limit: float
    unit: str = "×"
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.value <= self.limit


def overhead(cases: tuple[Case, ...], repeats: int) -> Iterator[Result]:
    """``analyze`` against a bare forward, and a bare training step, of the same meta model."""
    training = tg.Scenario(mode="training", optimizer="sgd")
    for case in cases:
        model, inputs = case.model("meta"), case.inputs(1, "meta")
        timed = {
            "bare": partial(bare_forward, model, inputs),
            "ours": partial(tg.analyze, model, input_data=inputs),
        }
        yield _ratio(f"inference {case.name}", interleaved_medians(timed, repeats), 1.6)
        timed = {
            "bare": partial(bare_step, model, inputs),
            "ours": partial(tg.analyze, model, input_data=inputs, scenario=training),
        }
        yield _ratio(f"training {case.name}", interleaved_medians(timed, repeats), 1.6)


def _ratio(what: str, medians: dict[str, float], limit: float) -> Result:
    bare, ours = medians["bare"], medians["ours"]
    return Result(
        what=what, value=ours / bare, limit=limit,
        note=f"{ours * 1000:.0f} ms against {bare * 1000:.0f} ms",
    )  # fmt: skip


def bare_forward(model: nn.Module, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        model(**inputs)


def bare_step(model: nn.Module, inputs: dict[str, Any]) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    output = model(**inputs)
    first = output if isinstance(output, torch.Tensor) else output[0]
    first.mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    model.eval()


def scaling(repeats: int, sizes: tuple[int, int], batches: tuple[int, int]) -> Iterator[Result]:
    """Cost against batch size and against depth."""
    case = CASES[0]
    model = case.model("meta")
    small, large = (partial(tg.analyze, model, input_data=case.inputs(n, "meta")) for n in batches)
    # A call is a tenth of a second: on a busy machine the median of few is not yet steady.
    medians = interleaved_medians({"bare": small, "ours": large}, 3 * repeats)
    yield _ratio(f"batch {batches[1]} against batch {batches[0]}", medians, 1.2)
    with torch.device("meta"):
        chains = [blocks(size) for size in sizes]
    # As many short runs as make the long one's work: the machine's other load meets both alike.
    times = sizes[1] // sizes[0]
    timed = {
        "bare": lambda: [tg.analyze(chains[0], input_size=(1, 64)) for _ in range(times)],
        "ours": partial(tg.analyze, chains[1], input_size=(1, 64)),
    }
    medians = interleaved_medians(timed, repeats)
    medians["bare"] /= times
    yield _ratio(f"{sizes[1]} blocks against {sizes[0]}", medians, sizes[1] / sizes[0])


def against_torchinfo(cases: tuple[Case, ...], repeats: int) -> Iterator[Result]:
    """The same model, already on meta."""
    for case in cases:
        model, inputs = case.model("meta"), case.inputs(1, "meta")
        timed = {
            "bare": partial(PEERS["torchinfo"], model, inputs),
            "ours": partial(PEERS["torchgauge"], model, inputs),
        }
        try:
            with silence():
                medians = interleaved_medians(timed, repeats)
        except RuntimeError:
            continue  # torchinfo cannot run every model on meta
        yield _ratio(f"against torchinfo on meta, {case.name}", medians, 1.0)


def against_torchinfo_real(batch: int) -> Iterator[Result]:
    """A resnet50 with weights, where torchinfo computes a real forward; once, it takes long."""
    case = CASES[0]
    model, inputs = case.model("cpu"), case.inputs(batch, "cpu")
    with silence():
        theirs = seconds(partial(PEERS["torchinfo"], model, inputs))
        ours = seconds(partial(PEERS["torchgauge"], model, inputs))
    what = f"against torchinfo on a real {case.name}, batch {batch}"
    yield _ratio(what, {"bare": theirs, "ours": ours}, 1 / 50)


def small_layers(found: list[Compared]) -> Iterator[Result]:
    """Many small layers: what a tool does per layer, in CPU seconds of one thread."""
    for item in found:
        yield Result(
            what=f"{item.pair}, {item.model}", value=item.ratio, limit=item.limit,
            note=f"{item.ours_s * 1000:.0f} ms against {item.theirs_s * 1000:.0f} ms",
        )  # fmt: skip


def print_small_layers(console: Console, found: list[Compared]) -> None:
    """Print the same as a table."""
    table = Table("model", "what", "theirs, ms", "ours, ms", "ratio", "wanted", box=None)
    for item in found:
        table.add_row(
            item.model, item.pair, f"{item.theirs_s * 1000:.0f}", f"{item.ours_s * 1000:.0f}",
            f"{item.ratio:.2f}×", f"≤ {item.limit:g}×",
        )  # fmt: skip
    console.print(table)


def command_line(configs: dict[str, list[str]]) -> Iterator[Result]:
    """Whole commands, each in a process of its own: seconds and peak memory."""
    for what, arguments in configs.items():
        elapsed, peak = _measure([sys.executable, "-m", "torchgauge", *arguments])
        quick = "--help" in arguments
        limit = 0.3 if quick else 20.0
        yield Result(what=what, value=elapsed, limit=limit, unit=" s")
        if not quick:
            yield Result(what=f"{what}, memory", value=peak / 1e9, limit=1.2, unit=" GB")


def _measure(command: list[str]) -> tuple[float, int]:
    code = (
        "import resource, subprocess, sys, time; start = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "print(done.returncode, time.perf_counter() - start, peak)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
    )
    status, elapsed, peak = done.stdout.split()
    if status != "0":
        raise RuntimeError(f"{command}: exit status {status}\n{done.stderr}")
    return float(elapsed), int(peak)


def llama_405b() -> dict[str, list[str]]:
    settings = [word for key, value in LLAMA_405B.items() for word in ("--set", f"{key}={value}")]
    common = ["summary", "hf:llama", *settings, "--input-size", "1,2048"]
    return {
        "Llama-3.1-405B inference": common,
        "Llama-3.1-405B training": [*common, "--mode", "training", "--optimizer", "adamw"],
    }


# ---------------------------------------------------------------------------- peers


def peers_table(cases: tuple[Case, ...], batches: tuple[int, ...]) -> Iterator[tuple[str, ...]]:
    """Every tool on every model with real weights: what it says, and how long it takes."""
    for case in cases:
        for batch in batches:
            for name, peer in PEERS.items():
                yield (case.name, str(batch), name, *_cells(*_ask(peer, case, batch, "cpu")))
                if name in ON_META:
                    cells = _cells(*_ask(peer, case, batch, "meta"))
                    yield (case.name, str(batch), f"{name} on meta", *cells)


def _ask(peer: Peer, case: Case, batch: int, device: str) -> tuple[Answer | str, float]:
    """Return what a tool says of a model that is built for it and gone afterwards.

    Hooks that a tool leaves make cycles: uncollected, a 1 B model per tool fills the machine.
    """
    try:
        return _timed(peer, case.model(device), case.inputs(batch, device))
    except Exception as error:  # a peer that fails is a row of the table
        message = " ".join(str(error).split())
        return f"{type(error).__name__}: {message[:50]}", 0.0
    finally:
        gc.collect()


def _timed(peer: Peer, model: nn.Module, inputs: dict[str, Any]) -> tuple[Answer, float]:
    box: list[Answer] = []
    with silence():
        elapsed = seconds(lambda: box.append(peer(model, inputs)))
    return box[0], elapsed


def _cells(answer: Answer | str, elapsed: float) -> tuple[str, str, str]:
    if isinstance(answer, str):
        return "failed", answer, ""
    shown = [f"{value:,}" if value is not None else "" for value in (answer.params, answer.macs)]
    return shown[0], shown[1], f"{elapsed:.2f}"


# ---------------------------------------------------------------------------- printing


def print_results(console: Console, results: Iterator[Result], *, judge: bool) -> bool:
    """Print each result when it is there; return whether all hold."""
    all_hold = True
    for result in results:
        all_hold = all_hold and result.holds
        verdict = ("ok    " if result.holds else "MISSED") if judge else "ran   "
        console.print(
            f"{verdict} {result.what}: "
            f"{result.value:.2f}{result.unit} (at most {result.limit:g}{result.unit}) "
            f"{result.note}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    return all_hold


def print_peers(console: Console, rows: Iterator[tuple[str, ...]]) -> None:
    table = Table("model", "batch", "tool", "params", "MACs", "seconds", box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _in_one_thread(cases: Iterator[Compared]) -> list[Compared]:
    """Return all, measured in one thread: CPU seconds of several add up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return list(cases)
    finally:
        torch.set_num_threads(threads)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--smoke", action="store_true", help="one small case of each section")
    parser.add_argument("--repeats", type=int, default=7, help="timed repeats (default 7)")
    parser.add_argument("--no-peers", action="store_true", help="leave out the table of tools")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    console = Console(width=120)
    repeats = 1 if options.smoke else options.repeats
    cases = CASES[:1] if options.smoke else CASES
    sizes = (10, 20) if options.smoke else (125, 1000)
    small = compared(20 if options.smoke else 1500, repeats)
    commands = {"torchgauge --help": ["--help"]} | ({} if options.smoke else llama_405b())
    judge = not options.smoke
    held = [
        print_results(console, overhead(cases, repeats), judge=judge),
        print_results(console, scaling(repeats, sizes, (1, 1024)), judge=judge),
        print_results(console, against_torchinfo(cases, repeats), judge=judge),
        print_results(console, against_torchinfo_real(2 if options.smoke else 64), judge=judge),
        print_results(console, small_layers(found := _in_one_thread(small)), judge=judge),
        print_results(console, command_line(commands), judge=judge),
    ]
    print_small_layers(console, found)
    if not options.no_peers:
        for case in cases:
            print_peers(console, peers_table((case,), (1,)))
        if not options.smoke:
            print_peers(console, peers_table(CASES[:1], (64,)))
    return 1 if judge and not all(held) else 0


if __name__ == "__main__":
    sys.exit(main())
