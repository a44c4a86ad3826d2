"""What every answer can do: be written as JSON, and show itself."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, ClassVar, Final, Literal, Protocol, Self, cast

from torchgauge.facts.codec.files import write_atomically
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.codec.wire import to_dict, to_json
from torchgauge.facts.guess import guesses, with_guesses
from torchgauge.shown import Shown, door

SCHEMA_VERSION: Final = 1


class Saved:
    """Facts that can be written as JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain data, in the order of their JSON."""
        return to_dict(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the facts as strict JSON text."""
        return to_json(self, indent=indent)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the facts to a JSON file, which is then whole or as it was before.

        ``report.html`` is a page for people instead: of a report the interactive one.

        Raises:
            OSError: the file cannot be written.
        """
        is_page = fspath(path).lower().endswith((".html", ".htm"))
        text = door("page as HTML")(self) if is_page else self.to_json()
        write_atomically(path, text + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """The program that made an answer."""

    name: str = "torchgauge"
    version: str

    json: ClassVar = Shape(later=("name",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model that an answer is about, and the spec that it came from."""

    name: str
    spec: str | None


class _Made(Protocol):
    @property
    def tool_version(self) -> str: ...


class Headed(Shown, Saved):
    """An answer with the head that the JSON of each begins with."""

    __slots__ = ()

    @property
    def schema_version(self) -> Literal[1]:
        """Return the version of the JSON contract."""
        return SCHEMA_VERSION

    @property
    def tool(self: _Made) -> Tool:
        """Return the program that made the answer."""
        return Tool(version=self.tool_version)

    @classmethod
    def from_json(cls, *, schema_version: Literal[1], tool: Tool, **given: Any) -> Self:
        """Return the answer from what its JSON holds."""
        made: Any = cls  # a dataclass with a tool_version
        return cast("Self", made(tool_version=tool.version, **given))


class _Answer(Protocol):
    @property
    def model_name(self) -> str: ...
    @property
    def model_spec(self) -> str | None: ...
    @property
    def assumptions(self) -> tuple[str, ...]: ...


class Answer(Headed):
    """An answer to a question about one model."""

    __slots__ = ()

    @property
    def model(self: _Answer) -> Model:
        """Return the model's name and spec."""
        return Model(name=self.model_name, spec=self.model_spec)

    @property
    def guesses(self: _Answer) -> tuple[str, ...]:
        """Return the assumptions that are guesses."""
        return guesses(self.assumptions)

    @classmethod
    def from_json(
        cls,
        *,
        schema_version: Literal[1],
        tool: Tool,
        model: Model | None = None,
        assumptions: tuple[str, ...] = (),
        guesses: tuple[str, ...] | None = None,
        **given: Any,
    ) -> Self:
        """Return the answer from what its JSON holds, its guesses among the assumptions."""
        assert model is not None  # every answer's JSON has it
        return super().from_json(
            schema_version=schema_version,
            tool=tool,
            model_name=model.name,
            model_spec=model.spec,
            assumptions=with_guesses(assumptions, guesses or ()),
            **given,
        )
