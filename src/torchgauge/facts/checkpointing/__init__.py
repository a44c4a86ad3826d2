"""What is computed again in the backward, and how it is named."""

from __future__ import annotations

import re
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
class Place:
    """A module that is checkpointed, or neighbouring children of an ``nn.Sequential``.

    >>> Place.read("features[0:5]")
    Place(path='features', first=0, end=5)
    >>> str(Place("layers.3")), str(Place("features", 0, 5)), str(Place("", 2, 4))
    ('layers.3', 'features[0:5]', '[2:4]')
    """

    path: str
    first: int = 0
    end: int = 0
    """The children ``first <= i < end``; 0 for the module as a whole."""

    @classmethod
    def read(cls, text: str) -> Place:
        """Return the place that a text names: ``"layers.3"`` or ``"features[0:5]"``.

        Raises:
            ScenarioError: it is neither.
        """
        found = re.fullmatch(r"([^\[\]\s,]*)(?:\[(\d{1,9}):(\d{1,9})\])?", text)
        if found is None or not text:
            raise ScenarioError(
                f"checkpointed={text!r} is not the path of a module",
                hint="write 'layers.3', or 'features[0:5]' for children of an nn.Sequential",
            )
        if found[2] is None:
            return cls(text)
        first, end = int(found[2]), int(found[3])
        if first >= end:
            raise ScenarioError(
                f"checkpointed={text!r} holds no module", hint="write features[0:5]"
            )
        return cls(found[1], first, end)

    @property
    def is_stretch(self) -> bool:
        """Return whether it is some of the children of a module."""
        return self.end > 0

    def __str__(self) -> str:
        return f"{self.path}[{self.first}:{self.end}]" if self.is_stretch else self.path


def read_places(given: object) -> tuple[str, ...]:
    """Return the places that a scenario names, each once, as they are written.

    Raises:
        ScenarioError: they are not a list of paths.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise ScenarioError(
            f"checkpointed={given!r} is not a list of paths", hint="write checkpointed=['layers.3']"
        )
    return tuple(dict.fromkeys(str(Place.read(str(text))) for text in given))
