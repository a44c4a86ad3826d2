"""Are all numbers the same before and after a change? 80 cases through the command line.

``python scripts/same_numbers.py write FOLDER`` writes what each case says into a file of its own;
run it with ``PYTHONPATH=src`` of each of the two checkouts. ``python scripts/same_numbers.py
compare BEFORE AFTER`` lists each value that is not the same, by the case and the path in its JSON,
and exits with 1 if there is one; ``--changed NAME`` leaves out the fields of that name.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TORCHGAUGE_CPU": "", "NO_COLOR": "1"}

IMAGES = {
    "torchvision:resnet18": "2,3,224,224",
    "torchvision:mobilenet_v3_small": "2,3,224,224",
    "torchvision:vit_b_16": "2,3,224,224",
    "torchvision:swin_t": "2,3,224,224",
    "torchvision:densenet121": "2,3,224,224",
    "timm:convnext_atto": "2,3,224,224",
}
TEXTS = {
    "hf:bert": "2,64",
    "hf:gpt2": "2,64",
    "hf:distilbert": "2,64",
    "torch.nn:LSTM(64, 128, 2, batch_first=True)": "4,20,64",
}
MODELS = IMAGES | TEXTS
SCENARIOS = {
    "inference": "",
    "training": "--mode training --optimizer sgd-momentum",
    "gpu inference": "--device H100-SXM --precision bf16",
    "gpu training": "--device T4 --mode training --optimizer adamw --precision fp16-autocast",
    "options": "--device RTX4090 --mode training --optimizer adam --checkpointing --accumulation 2"
    " --clip-gradients --ema --first-step",
}
FITS = {
    "training": "--device T4 --mode training --optimizer adamw",
    "inference": "--device RTX4090 --precision bf16 --no-alternatives",
}
MEASURED = ("examples/simple_cnn.py:SimpleCNN", "torch.nn:Linear(256, 256)")
DROP_INS = ("torchinfo", "torchsummary", "thop", "fvcore", "ptflops")
OTHERS = {
    "devices": "devices --format json",
    "device": "devices H100-SXM --format json",
    "structure": "summary torchvision:resnet18 --format json",
    "as text": "summary torchvision:resnet18 --input-size 2,3,224,224 --width 100",
    "as markdown": "summary torchvision:resnet18 --input-size 2,3,224,224 --format markdown",
    "as csv": "summary torchvision:resnet18 --input-size 2,3,224,224 --format csv",
}
MEASURED_FIELDS = ("time_ms", "backward_time_ms", "time", "phase_memory", "ops")
"""What is another number in each run of ``measure``."""


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    writing = commands.add_parser("write", help="run the cases of this checkout")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--only", default="", help="cases whose name contains this")
    writing.set_defaults(run=write)
    comparing = commands.add_parser("compare", help="list what is not the same")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--changed", action="append", default=[], help="a field to leave out")
    comparing.set_defaults(run=compare)
    arguments = parser.parse_args()
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


# ---------------------------------------------------------------------------- the cases


def cases() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of each case and what gives its values."""
    for (model, size), (name, options) in itertools.product(MODELS.items(), SCENARIOS.items()):
        yield f"summary {model} {name}", _command("summary", model, size, options)
    for (model, size), (name, options) in itertools.product(MODELS.items(), FITS.items()):
        if model in ("torchvision:swin_t", "torchvision:densenet121"):
            continue
        yield f"fit {model} {name}", _command("fit", model, size, options)
    for model in MEASURED:
        size = "2,3,224,224" if "CNN" in model else "4,256"
        yield f"measure {model}", _command("measure", model, size, "--max-seconds 0")
    for library in DROP_INS:
        yield f"compat {library}", lambda library=library: _drop_in(library)
    for name, line in OTHERS.items():
        yield name, lambda line=line: _printed(line.split())
    yield (
        "failure",
        lambda: _printed(
            ["summary", "torch.nn:Linear(8, 8)", "--input-size", "4,9", "--format", "json"]
        ),
    )


def _command(command: str, model: str, size: str, options: str) -> Callable[[], Any]:
    arguments = [command, model, "--input-size", size, *options.split(), "--quiet"]
    if model in TEXTS and model.startswith("hf:"):
        arguments[3] = f"input_ids={size}"
    return lambda: _printed([*arguments, "--format", "json"])


def _printed(arguments: list[str]) -> Any:
    from torchgauge.cli.main import main as command_line

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = command_line(arguments)
    text = out.getvalue()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = text.splitlines()
    if arguments[0] == "measure":
        answer = without(answer, MEASURED_FIELDS)
    return {"status": status, "error": err.getvalue().splitlines(), "answer": answer}


def _drop_in(library: str) -> Any:
    import torch
    import torchvision

    import torchgauge.compat as compat

    model = torchvision.models.resnet18()
    x = torch.zeros(1, 3, 224, 224)
    out = io.StringIO()
    value: Any = None
    with contextlib.redirect_stdout(out):
        match library:
            case "torchinfo":
                value = str(compat.torchinfo.summary(model, input_size=(1, 3, 224, 224), verbose=0))
            case "torchsummary":
                compat.torchsummary.summary(model, (3, 224, 224), device="cpu")
            case "thop":
                value = compat.thop.profile(model, inputs=(x,), verbose=False)
            case "fvcore":
                value = dict(compat.fvcore.FlopCountAnalysis(model, x).by_operator())
            case "ptflops":
                value = compat.ptflops.get_model_complexity_info(
                    model, (3, 224, 224), print_per_layer_stat=False, as_strings=False
                )
    return {"value": value, "printed": out.getvalue().splitlines()}


def without(value: Any, names: tuple[str, ...]) -> Any:
    """Return a value of JSON without the fields of these names, at any depth."""
    if isinstance(value, dict):
        return {key: without(item, names) for key, item in value.items() if key not in names}
    if isinstance(value, list):
        return [without(item, names) for item in value]
    return value


# ---------------------------------------------------------------------------- the two commands


def write(arguments: argparse.Namespace) -> int:
    """Write the values of each case into its file."""
    import importlib

    for library in DROP_INS:
        importlib.import_module(f"torchgauge.compat.{library}")
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in cases():
        if arguments.only in name:
            print(name, file=sys.stderr)
            text = json.dumps(values(), indent=1, sort_keys=True)
            (folder / f"{_file_name(name)}.json").write_text(text + "\n", encoding="utf-8")
    return 0


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in name)


def compare(arguments: argparse.Namespace) -> int:
    """Print what differs, a line per value."""
    before, after = (
        {path.name: path for path in folder.glob("*.json")}
        for folder in (arguments.before, arguments.after)
    )
    differing = 0
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            print(f"{name}: only {'after' if name in after else 'before'}")
            differing += 1
            continue
        values = [
            without(json.loads(path.read_text(encoding="utf-8")), tuple(arguments.changed))
            for path in (before[name], after[name])
        ]
        lines = list(differences(*values, path=""))
        differing += bool(lines)
        for line in lines[:20]:
            print(f"{name}: {line}")
        if len(lines) > 20:
            print(f"{name}: and {len(lines) - 20} more")
    print(f"{len(before.keys() & after.keys())} cases, {differing} differ")
    return min(differing, 1)


def differences(before: Any, after: Any, path: str) -> Iterator[str]:
    """Yield the path of each value that is not the same, with both."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            here = f"{path}.{key}".removeprefix(".")
            if key not in before or key not in after:
                yield f"{here}: only {'after' if key in after else 'before'}"
            else:
                yield from differences(before[key], after[key], here)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, path=f"{path}[{index}]")
    elif before != after or type(before) is not type(after):
        yield f"{path}: {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."


if __name__ == "__main__":
    sys.exit(main())
