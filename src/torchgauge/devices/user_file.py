"""Devices of the user's own, from TOML files.

::

    [[device]]
    name = "Lab card"
    based_on = "RTX 4090"       # takes over what is not stated
    memory_gib = 48
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torchgauge.devices.decode import MEASURED, FieldError, decode
from torchgauge.devices.device import Device
from torchgauge.devices.paths import home_file, missing, named_file
from torchgauge.errors import DeviceError

VARIABLE = "TORCHGAUGE_DEVICES"
"""The environment variable with the path of a file."""
USER_FILE = "torchgauge-devices.toml"
"""The file in the working directory."""
HOME_FILE = ".config/torchgauge/devices.toml"
"""The file in the home directory."""

_NOTE = "# measured "

Find = Callable[[str, list[Device]], Device]
"""Finds the device that ``based_on`` names, among those read so far and the built-in ones."""


def user_devices(find: Find) -> tuple[Device, ...]:
    """Return the devices of all files; the first file that has a name wins.

    Raises:
        DeviceError: a file cannot be read or a field in it is not right; it names both.
    """
    found: dict[str, Device] = {}
    for path in _paths():
        for device in _read(path, find, list(found.values())):
            found.setdefault(device.name.casefold(), device)
    return tuple(found.values())


def _paths() -> Iterator[Path]:
    named = named_file(VARIABLE)
    if named is not None:
        if not named.is_file():
            raise missing(named, VARIABLE)
        yield named
    for path in (Path(USER_FILE), home_file(HOME_FILE)):
        if path is not None and path.is_file():
            yield path


def _read(path: Path, find: Find, earlier: list[Device]) -> list[Device]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(f"cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise DeviceError(f"{path} is not TOML: {error}", hint="see docs/devices.md") from error
    entries = content.pop("device", [])
    if content or not isinstance(entries, list):
        wrong = next(iter(content), "device")
        raise DeviceError(f"{path}: {wrong} is not known here", hint="begin with [[device]]")
    devices: list[Device] = []
    for number, entry in enumerate(entries, start=1):
        devices.append(_device(path, number, entry, find, [*devices, *earlier]))
    return devices


def _device(path: Path, number: int, entry: Any, find: Find, earlier: list[Device]) -> Device:
    if not isinstance(entry, dict):
        raise DeviceError(f"{path}: device {number} is not a table", hint="write [[device]]")
    label = f"{path}: device {entry.get('name', number)!r}"
    fields = {"sources": [str(path)], **entry}
    based_on = fields.pop("based_on", None)
    base = None
    try:
        if based_on is not None:
            if not isinstance(based_on, str):
                raise FieldError(f"based_on: {based_on!r} is not a text")
            base = find(based_on, earlier)
        return decode(fields, base)
    except FieldError as error:
        raise DeviceError(f"{label}: {error}", hint="see docs/devices.md") from error
    except DeviceError as error:
        raise DeviceError(f"{label}: based_on: {error.message}", hint=error.hint) from error


def keep_measured(device: Device, fields: Mapping[str, float], note: str) -> Path:
    """Write what was measured of a device into the file that has it, else the one in the home.

    Args:
        device: the row that the measured one is based on.
        fields: names as in the file, and their values; they take the place of earlier ones.
        note: when and with what they were measured.

    Raises:
        DeviceError: there is no file to write, or it cannot be written.
    """
    path = _file_of(device)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_with_measured(text, device.name, fields, note), encoding="utf-8")
    except OSError as error:
        raise DeviceError(f"cannot write {path}: {error}") from error
    return path


def _file_of(device: Device) -> Path:
    for path in _paths():
        for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("device", []):
            if entry["name"].casefold() == device.name.casefold():
                return path
    own = named_file(VARIABLE) or home_file(HOME_FILE)
    if own is None:
        raise DeviceError("there is no home directory to write to", hint=f"set {VARIABLE}")
    return own


def _with_measured(text: str, name: str, fields: Mapping[str, float], note: str) -> str:
    """Return a file's text with a device's measured fields; all else stays as it is written."""
    lines = "".join(f"{key} = {value:.4g}\n" for key, value in fields.items())
    added = f"{_NOTE}{note}\n{lines}"
    parts = re.split(r"(?m)^(?=\[\[device\]\])", text)
    for index, part in enumerate(parts):
        entries = tomllib.loads(part).get("device", [])
        if entries and entries[0]["name"].casefold() == name.casefold():
            own = [line for line in part.splitlines() if not line.startswith((MEASURED, _NOTE))]
            parts[index] = "\n".join(own).rstrip() + f"\n{added}\n"
            return "".join(parts).rstrip() + "\n"
    begin = f"{text.rstrip()}\n\n" if text.strip() else ""
    return f"{begin}[[device]]\nname = {json.dumps(name)}\nbased_on = {json.dumps(name)}\n{added}"
