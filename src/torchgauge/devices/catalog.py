"""The catalogue of devices: read once, searched by any usual spelling of a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torchgauge.devices.decode import decode
from torchgauge.devices.device import Device
from torchgauge.devices.names import is_size, keys, tokens
from torchgauge.devices.tables import rows
from torchgauge.devices.user_file import USER_FILE, user_devices
from torchgauge.errors import DeviceError
from torchgauge.shown import Shown
from torchgauge.units import format_number_of

_FILE = Path(__file__).with_name("devices.csv")
_SHOWN = 8
"""How many names an error lists."""


class Devices(Shown, tuple[Device, ...]):
    """Devices of the catalogue, in its order."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{format_number_of(len(self), 'device')}: {_listed(self)}" if self else "no device"


@cache
def built_in() -> tuple[Device, ...]:
    """Return the devices that the package ships."""
    return tuple(decode(row) for row in rows(_FILE))


def all_devices() -> Devices:
    """Return every device, the user's own first; they hide those of the same name.

    Raises:
        DeviceError: a file of the user's devices is not right.
    """
    shipped = built_in()
    own = user_devices(lambda name, earlier: find_among(name, [*earlier, *shipped]))
    if not own:
        return Devices(shipped)
    names = {keys(device.name)[0] for device in own}
    others = (device for device in shipped if keys(device.name)[0] not in names)
    return Devices((*own, *others))


def find_device(name: str, *, memory_bytes: int | None = None) -> Device:
    """Return the device of a name: plain, with the maker's name, or as the driver reports it.

    Case, spaces and dashes do not matter. ``memory_bytes``, as a driver reports it, decides
    between variants of one name.

    Raises:
        DeviceError: no device is called so, or several are; the message names them.

    >>> find_device("nvidia geforce rtx 4090").name
    'RTX 4090'
    """
    return find_among(name, all_devices(), memory_bytes=memory_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGpu:
    """A GPU of this machine as its driver reports it."""

    index: int
    name: str
    total_bytes: int
    """All its memory; ``nvidia-smi`` counts some that a program does not get."""
    free_bytes: int | None
    """What nobody uses now, ``None`` where that cannot be read."""
    read_with: str
    """``nvidia-smi``, or the part of torch that was asked."""

    @property
    def device(self) -> Device | None:
        """Return its row of the catalogue, ``None`` if it has none."""
        try:
            return find_device(self.name, memory_bytes=self.total_bytes)
        except DeviceError:
            return None


def search_devices(text: str) -> Devices:
    """Return the devices whose name, alias, maker, kind or architecture has every word of a text.

    >>> [device.name for device in search_devices("jetson orin 64gb")]
    ['Jetson AGX Orin 64GB']
    """
    words = text.casefold().split()
    return Devices(item for item in all_devices() if all(word in _said(item) for word in words))


def find_among(name: str, devices: Sequence[Device], *, memory_bytes: int | None = None) -> Device:
    """Return the device of a name among some; see ``find_device``."""
    found = _named(name, devices) or _with_words(name, devices)
    if memory_bytes is not None:
        found = _of_memory(_variants(name, devices) or found, memory_bytes)
    if len(found) == 1:
        return found[0]
    if found:
        raise DeviceError(
            f"{name!r} names {len(found)} devices: {_listed(found)}", hint="name one of them"
        )
    near = _nearest(name, devices)
    raise DeviceError(
        f"there is no device {name!r}" + (f"; did you mean {_or(near)}?" if near else ""),
        hint=f"`torchgauge devices` lists them all; one of your own goes into {USER_FILE}",
    )


def _named(name: str, devices: Iterable[Device]) -> list[Device]:
    """Return the devices called so, by the strictest form of the name under which there is one."""
    wanted = keys(name)
    found: dict[int, list[Device]] = {}
    for device in devices:
        forms = [form for known in (device.name, *device.aliases) for form in keys(known)]
        rank = next((rank for rank, form in enumerate(wanted) if form and form in forms), None)
        if rank is not None:
            found.setdefault(rank, []).append(device)
    return found[min(found)] if found else []


def _with_words(name: str, devices: Iterable[Device]) -> list[Device]:
    wanted = set(tokens(name))
    if not wanted:
        return []
    return [
        device
        for device in devices
        if any(wanted <= set(tokens(known)) for known in (device.name, *device.aliases))
    ]


def _variants(name: str, devices: Iterable[Device]) -> list[Device]:
    """Return the devices called so but for their memory: a driver gives them all one name."""
    wanted = [word for word in tokens(name) if not is_size(word)]
    return [
        device
        for device in devices
        if any(
            wanted == [word for word in tokens(known) if not is_size(word)]
            for known in (device.name, *device.aliases)
        )
    ]


def _of_memory(devices: list[Device], memory_bytes: int) -> list[Device]:
    off = [abs(device.usable_memory_bytes - memory_bytes) for device in devices]
    return [device for device, far in zip(devices, off, strict=True) if far == min(off)]


def _said(device: Device) -> str:
    known = (device.name, *device.aliases, device.vendor, device.kind, device.architecture)
    return " ".join(known).casefold()


def _nearest(name: str, devices: Iterable[Device]) -> list[str]:
    wanted = keys(name)[0]
    by_form = {
        form: device.name
        for device in devices
        for known in (*device.aliases, device.name)
        for form in keys(known)[::2]
    }
    close = difflib.get_close_matches(wanted, by_form, n=2 * _SHOWN, cutoff=0.6)
    return list(dict.fromkeys(by_form[form] for form in close))[:3]


def _listed(devices: Sequence[Device]) -> str:
    names = ", ".join(device.name for device in devices[:_SHOWN])
    more = len(devices) - _SHOWN
    return f"{names} and {more} more" if more > 0 else names


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
