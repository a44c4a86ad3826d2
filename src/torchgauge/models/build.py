"""What a model spec leads to, and how a model is made without memory for its weights."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.errors import ModelSpecError, TorchGaugeError
from torchgauge.units import format_bytes

if TYPE_CHECKING:
    import torch

    from torchgauge.trace.inputs.plan import InputTensor


_MEMORY_SHARE = 0.6
"""Share of the free memory that a model built for real may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultInputs:
    """The inputs to take when the user names none.

    ``sizes`` are without a batch dimension. ``data`` (positional arguments) and ``keywords`` are
    real example inputs, with theirs. ``tensors`` are still to be made, each for one sample.
    """

    why: str
    """One line for the report's assumptions."""
    sizes: tuple[int, ...] | list[tuple[int, ...]] | dict[str, tuple[int, ...]] | None = None
    dtypes: tuple[str, ...] = ()
    data: tuple[Any, ...] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    tensors: tuple[InputTensor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBuild:
    """A model that a spec led to."""

    model: torch.nn.Module
    name: str
    spec: str
    default_inputs: DefaultInputs | None = None
    runs: bool = True
    """``False`` for a checkpoint: it has parameters and no forward."""
    notes: tuple[str, ...] = ()
    """For the user to read, on stderr; nothing that a number depends on."""
    assumptions: tuple[str, ...] = ()
    """Goes into the report; a ``Guess`` where ``--strict`` should refuse it."""
    warnings: tuple[str, ...] = ()


_with_weights: ContextVar[bool] = ContextVar("with_weights", default=False)


@contextmanager
def building(*, with_weights: bool) -> Iterator[None]:
    """Let ``construct`` make real weights, as the constructors initialise them, or none."""
    token = _with_weights.set(with_weights)
    try:
        yield
    finally:
        _with_weights.reset(token)


def construct(factory: Callable[[], Any], name: str) -> tuple[Any, tuple[str, ...]]:
    """Call ``factory`` with its parameters on the meta device.

    It is called for real where it reads values that tensors on the meta device do not have
    (torchvision's regnet once did), and the memory is there. Any other error would come again.
    Within ``building(with_weights=True)`` it is called for real at once.

    Returns:
        What the factory returned, and the warnings.

    Raises:
        ModelSpecError: it needs values, and more memory than is free.
        Exception: whatever the factory raises.
    """
    from torchgauge.trace.copy.build import meta_construction
    from torchgauge.trace.failures.missing_data import needs_values

    if _with_weights.get():
        return factory(), ()
    try:
        with meta_construction():
            return factory(), ()
    except TorchGaugeError:
        raise
    except Exception as error:
        if not needs_values(error):
            raise
        reason = first_line(error)
        size = _room_for(factory, name, error)
    return factory(), (
        f"{name} could not be built without memory ({reason}), so it was built for real: {size}",
    )


def _room_for(factory: Callable[[], Any], name: str, error: Exception) -> str:
    """Return how much memory a real construction takes; refuse one that does not fit.

    An error that comes again where the tensors say that they lie on the CPU is raised: it has
    nothing to do with where they lie, whatever its text says.
    """
    import torch

    from torchgauge.trace.copy.build import construction_bytes
    from torchgauge.trace.failures.missing_data import is_raised_by_user
    from torchgauge.trace.failures.out_of_memory import free_bytes

    (needed, again), free = construction_bytes(factory), free_bytes(torch.device("cpu"))
    reason = first_line(error)
    if again is not None and first_line(again) == reason and is_raised_by_user(again):
        raise error
    if free is not None and needed > free * _MEMORY_SHARE:
        raise ModelSpecError(
            f"{name} cannot be built without memory ({reason}), and for real it takes at least "
            f"{format_bytes(needed)}; {format_bytes(free)} are free",
            hint="make it smaller with --set, such as fewer layers, or use a machine with more "
            "memory",
        )
    return format_bytes(needed)


def first_line(error: BaseException) -> str:
    """Return an error as one line, with its type."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def error_place(error: BaseException, near: Path | None = None) -> str:
    """Return ``file.py:12``: the innermost line of the user's own code that ``error`` passed.

    That is the last frame in ``near`` or outside of every library; ``""`` when there is none.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{display_path(Path(error.filename))}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if (near is not None and path == near) or _is_user_code(frame.filename):
            return f"{display_path(path)}:{frame.lineno}"
    return ""


def how_it_failed(error: BaseException) -> str:
    """Return how code of the user's ended: ``failed at data.py:3: ValueError: …``."""
    place = error_place(error)
    at = f" at {place}" if place else ""
    if isinstance(error, SystemExit):
        said = f": {error.code}" if isinstance(error.code, str) else ""
        return f"ends the program (sys.exit{at}{said})"
    return f"failed{at}: {first_line(error)}"


def failed(spec: str, what: str, error: BaseException, near: Path | None = None) -> ModelSpecError:
    """Return the error that says what went wrong in the user's code, and on which line."""
    place = error_place(error, near)
    return ModelSpecError(
        f"{spec}: {what} failed{f' at {place}' if place else ''}: {first_line(error)}",
        hint="correct that line, or add --debug for the whole traceback",
    )


def display_path(path: Path) -> str:
    """Return a path relative to the current directory when it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _is_user_code(filename: str) -> bool:
    if filename.startswith("<"):
        return False
    paths = sysconfig.get_paths()
    libraries = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    libraries.append(str(Path(__file__).parent.parent))
    return not any(filename.startswith(library.rstrip("/\\")) for library in libraries)
