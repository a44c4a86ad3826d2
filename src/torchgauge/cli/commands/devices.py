"""``torchgauge devices [SEARCH]``: the GPUs and boards that torchgauge knows, and those here."""

from __future__ import annotations

import argparse

from torchgauge.cli import output
from torchgauge.cli.messages import note
from torchgauge.cli.progress import Progress
from torchgauge.devices import Device, all_devices, find_device, search_devices
from torchgauge.devices.user_file import USER_FILE, keep_measured
from torchgauge.errors import DeviceError, InDoubt, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "search",
        nargs="*",
        metavar="SEARCH",
        help="words that the name, maker, kind or architecture must have, or a device's name",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="time matrix products and a copy on this machine's CUDA GPU (15 seconds) and keep "
        "them for predictions, in ~/.config/torchgauge/devices.toml or your own file",
    )
    output.add_output_options(
        parser,
        strict="exit 4 when a figure of a listed device follows from a rule and has no source",
    )


def run(arguments: argparse.Namespace) -> int:
    """List the devices.

    Raises:
        UsageError: an option without meaning in the format, or nothing is found.
        DeviceError: a file of the user's devices is not right.
        InDoubt: with ``--strict``, for figures given by a rule.
    """
    target = output.chosen_output(arguments)
    if arguments.measure:
        return _measure(arguments, target)
    devices = _found(" ".join(arguments.search))
    known = len(all_devices())
    # torch is asked for GPUs only where nvidia-smi is missing, so it is imported late if at all.
    from torchgauge.render.pages.devices import DeviceList, devices_page
    from torchgauge.trace.local_gpus import local_gpus

    shown = DeviceList(devices=devices, known=known, local=local_gpus())
    target.deliver(lambda: devices_page(shown), shown.to_json)
    if not arguments.quiet:
        note(f"add your own devices in {USER_FILE}")
    if arguments.strict:
        _check_strict(devices)
    return 0


def _check_strict(devices: tuple[Device, ...]) -> None:
    doubtful = [device for device in devices if device.derived]
    if doubtful:
        listed = "".join(f"\n  {item.name}: {', '.join(item.derived)}" for item in doubtful)
        raise InDoubt(f"--strict: figures that a rule gives and no source states{listed}")


def _measure(arguments: argparse.Namespace, target: output.Output) -> int:
    """Measure the GPU here and keep what it reaches."""
    if arguments.search:
        raise UsageError(
            "--measure is about the GPU of this machine, and a search was given",
            hint="torchgauge devices --measure",
        )
    from datetime import UTC, datetime

    import torch

    from torchgauge.measure.gpu_rates import CudaMachine, measured_rates
    from torchgauge.render.pages.devices import MeasuredDevice, measured_page

    with Progress(enabled=not arguments.quiet) as progress:
        device, fields = measured_rates(CudaMachine(), progress.update)
    source = f"{datetime.now(UTC):%Y-%m-%d} by torchgauge devices --measure, PyTorch "
    path = keep_measured(device, fields, source + torch.__version__)
    shown = MeasuredDevice(device=find_device(device.name), path=str(path))
    target.deliver(lambda: measured_page(shown), shown.to_json)
    if arguments.strict:
        _check_strict((shown.device,))
    return 0


def _found(text: str) -> tuple[Device, ...]:
    if not text.strip():
        return all_devices()
    found = search_devices(text)
    if found:
        return found
    try:
        return (find_device(text),)
    except DeviceError as error:
        raise UsageError(error.message, hint="`torchgauge devices` lists them all") from error
