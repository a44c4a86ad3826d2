"""``torchgauge devices [SEARCH]``: the GPUs and boards that torchgauge knows, and those here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torchgauge.cli import options, output
from torchgauge.devices import Device, all_devices, search_devices
from torchgauge.devices.user_file import USER_FILE
from torchgauge.errors import DeviceError, InDoubt, UsageError

_FORMATS = ("text", "json", "csv", "markdown", "latex")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "search",
        nargs="*",
        metavar="SEARCH",
        help="words that the name, maker, kind or architecture must have, or a device's name",
    )
    table = parser.add_argument_group("table")
    table.add_argument("--ascii", action="store_true", help="ASCII characters alone")
    table.add_argument(
        "--width", type=options.positive_integer, metavar="N", help="characters per line"
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format", type=options.one_of(_FORMATS), metavar="NAME", help=", ".join(_FORMATS)
    )
    group.add_argument(
        "--output", metavar="FILE", type=Path, help="write there; its suffix chooses the format"
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="exit 4 when a figure of a listed device is given by a rule and stated by no source",
    )
    group.add_argument("--quiet", action="store_true", help="no notes on stderr")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> int:
    """List the devices.

    Raises:
        UsageError: an option without meaning in the format, or nothing is found.
        DeviceError: a file of the user's devices is not right.
        InDoubt: with ``--strict``, for figures given by a rule.
    """
    format = output.chosen_format(arguments)
    width, ascii = output.page_options(arguments, format)
    devices = _found(" ".join(arguments.search))
    known = len(all_devices())
    # torch is asked for GPUs only where nvidia-smi is missing, so it is imported late if at all.
    from torchgauge.render.devices import DeviceList, render_devices
    from torchgauge.trace.local_gpus import local_gpus

    shown = DeviceList(devices=devices, known=known, local=local_gpus())
    text = render_devices(shown, format, width=width, ascii=ascii)
    output.deliver(text, arguments.output)
    if not arguments.quiet:
        print(f"note: one of your own goes into {USER_FILE}", file=sys.stderr)
    if arguments.strict:
        _check_strict(devices)
    return 0


def _found(text: str) -> tuple[Device, ...]:
    if not text.strip():
        return all_devices()
    found = search_devices(text)
    if found:
        return found
    try:
        from torchgauge.devices import find_device

        return (find_device(text),)
    except DeviceError as error:
        raise UsageError(error.message, hint="`torchgauge devices` lists them all") from error


def _check_strict(devices: tuple[Device, ...]) -> None:
    doubtful = [device for device in devices if device.derived]
    if doubtful:
        listed = "".join(f"\n  {item.name}: {', '.join(item.derived)}" for item in doubtful)
        raise InDoubt(f"--strict: figures that a rule gives and no source states{listed}")
