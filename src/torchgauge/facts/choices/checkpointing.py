"""What is computed again in the backward, and how it is named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from torchgauge.errors import ScenarioError


class Checkpointing(StrEnum):
    """How repeated blocks compute their activations again in the backward.

    In a ``Scenario``, ``True`` stands for ``NON_REENTRANT`` and ``False`` for none.
    """

    NON_REENTRANT = "non-reentrant"
    """``torch.utils.checkpoint`` with ``use_reentrant=False``."""
    REENTRANT = "reentrant"
    """``use_reentrant=True``: the forward of a block runs without gradients."""
    SELECTIVE = "selective"
    """What is expensive to compute again is kept: attention, and every second matrix product."""
    OFFLOAD = "offload"
    """Nothing is computed again, all lies in host memory: the same as ``offload_activations``."""


@dataclass(frozen=True, slots=True, order=True)
class KeptOperator:
    """An operator whose outputs are kept, and so not computed again.

    >>> KeptOperator.read("addmm#0,2")
    KeptOperator(name='addmm', calls=(0, 2))
    >>> KeptOperator.read("mm").qualified, KeptOperator.read("max.dim").qualified
    ('aten.mm.default', 'aten.max.dim')
    >>> str(KeptOperator.of("aten.addmm.default", (0, 2))), str(KeptOperator.of("aten.max.dim"))
    ('addmm#0,2', 'max.dim')
    """

    name: str
    """As PyTorch prints it, without ``aten.`` and ``.default``: ``"addmm"``, ``"max.dim"``."""
    calls: tuple[int, ...] = ()
    """Which of its calls in the checkpointed forward, counted from 0; empty for all of them."""

    @classmethod
    def of(cls, qualified: str, calls: Iterable[int] = ()) -> KeptOperator:
        """Return the operator of a qualified name, ``"aten.addmm.default"``."""
        if qualified.startswith("aten."):
            qualified = qualified.removeprefix("aten.").removesuffix(".default")
        return cls(qualified, tuple(calls))

    @classmethod
    def read(cls, text: str) -> KeptOperator:
        """Return the operator that a text names: ``"addmm"`` or ``"addmm#0,2"``.

        Raises:
            ScenarioError: it is neither.
        """
        found = re.fullmatch(r"(\w+(?:\.\w+){0,2})(?:#(\d{1,9}(?:,\d{1,9})*))?", text)
        if found is None:
            raise ScenarioError(
                f"{text!r} is not an operator whose output is kept", hint="write layers.3+addmm#0,2"
            )
        calls = {int(number) for number in (found[2] or "").split(",") if number}
        return cls(found[1], tuple(sorted(calls)))

    @property
    def qualified(self) -> str:
        """Return the name as PyTorch prints it."""
        parts = self.name.split(".")
        return self.name if len(parts) == 3 else ".".join(("aten", *parts, "default")[:3])

    def __str__(self) -> str:
        calls = ",".join(map(str, self.calls))
        return f"{self.name}#{calls}" if calls else self.name


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A module that is checkpointed, or neighbouring children of an ``nn.Sequential``.

    >>> Place.read("features[0:5]")
    Place(path='features', first=0, end=5, kept=())
    >>> str(Place("layers.3")), str(Place("features", 0, 5)), str(Place("", 2, 4))
    ('layers.3', 'features[0:5]', '[2:4]')
    >>> str(Place.read("layers.3+mm+addmm#2,0"))
    'layers.3+addmm#0,2+mm'
    """

    path: str
    first: int = 0
    end: int = 0
    """The children ``first <= i < end``; 0 for the module as a whole."""
    kept: tuple[KeptOperator, ...] = ()
    """Of its operators those whose outputs are kept: selective checkpointing."""

    @classmethod
    def read(cls, text: str) -> Place:
        """Return the place that a text names.

        That is ``"layers.3"`` or ``"features[0:5]"``, and with ``"+addmm#0,2+mm"`` behind it the
        operators whose outputs are kept.

        Raises:
            ScenarioError: it is none of them.
        """
        place, *kept = text.split("+")
        found = re.fullmatch(r"([^\[\]\s,]*)(?:\[(\d{1,9}):(\d{1,9})\])?", place)
        if found is None or not place:
            raise ScenarioError(
                f"checkpointed={text!r} is not the path of a module",
                hint="write 'layers.3', or 'features[0:5]' for children of an nn.Sequential",
            )
        operators = _merged(map(KeptOperator.read, kept))
        if found[2] is None:
            return cls(place, kept=operators)
        first, end = int(found[2]), int(found[3])
        if first >= end:
            raise ScenarioError(
                f"checkpointed={text!r} holds no module", hint="write features[0:5]"
            )
        return cls(found[1], first, end, operators)

    @property
    def is_stretch(self) -> bool:
        """Return whether it is some of the children of a module."""
        return self.end > 0

    @property
    def where(self) -> str:
        """Return the text of the place, without what is kept of it."""
        return f"{self.path}[{self.first}:{self.end}]" if self.is_stretch else self.path

    def __str__(self) -> str:
        return "+".join((self.where, *map(str, self.kept)))


def _merged(operators: Iterable[KeptOperator]) -> tuple[KeptOperator, ...]:
    """Return each operator once, with all its calls that are named."""
    found: dict[str, set[int]] = {}
    whole = set()
    for operator in operators:
        name = KeptOperator.of(operator.qualified).name
        found.setdefault(name, set()).update(operator.calls)
        if not operator.calls:
            whole.add(name)
    calls = {name: () if name in whole else tuple(sorted(some)) for name, some in found.items()}
    return tuple(KeptOperator(name, calls[name]) for name in sorted(calls))


def read_places(given: object) -> tuple[str, ...]:
    """Return the places that a scenario names, each once, as they are written.

    Raises:
        ScenarioError: they are not a list of paths.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise ScenarioError(
            f"checkpointed={given!r} is not a list of paths", hint="write checkpointed=['layers.3']"
        )
    places = list(dict.fromkeys(Place.read(str(text)) for text in given))
    for where, count in Counter(place.where for place in places).items():
        if count > 1:
            raise ScenarioError(
                f"checkpointed: {where} is named twice, with other operators",
                hint="name it once with all that is kept: layers.3+addmm+mm",
            )
    return tuple(map(str, places))
