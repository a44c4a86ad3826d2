"""What the sources that take models from an installed library have in common."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from torchgauge.errors import MissingExtraError, ModelSpecError
from torchgauge.models.build import first_line
from torchgauge.models.torchvision_operators import define_missing_operators

if TYPE_CHECKING:
    from torchgauge.models.spec import ModelSpec


def import_library(name: str, *, install: str) -> ModuleType:
    """Import an optional library.

    Args:
        name: the module to import.
        install: what pip installs to get it, as in ``torchgauge[vision]``.

    Raises:
        MissingExtraError: it is not installed.
        ModelSpecError: it is installed and does not import.
    """
    if importlib.util.find_spec(name) is None:
        raise MissingExtraError(f"{name} is not installed", hint=f'pip install "{install}"')
    define_missing_operators()  # timm and transformers import torchvision, too
    try:
        with quiet_library():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{name} does not import: {first_line(error)}", hint=f'pip install "{install}"'
        ) from error
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise ModelSpecError(
            f"{name} is installed and does not import: {first_line(error)}",
            hint=f"install a {name} that fits this version of torch",
        ) from error


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """Keep a library's own notices away from the user, who cannot act on them.

    What it deprecates, and what it logs while it is imported (torchao: kernels that do not load).
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def check_keywords_only(spec: ModelSpec, *, refused: tuple[str, ...] = ()) -> None:
    """Check the arguments given to a library's model.

    Raises:
        ModelSpecError: a positional argument, or one that would make the library download.
    """
    if spec.positional:
        raise ModelSpecError(
            f"{spec.text}: arguments need names", hint="write them as in NAME(num_classes=10)"
        )
    for key in refused:
        if spec.keywords.get(key):
            raise ModelSpecError(
                f"{spec.text}: {key}={spec.keywords[key]!r} would load weights",
                hint="leave it out: no number depends on the weights, and none are downloaded",
            )


def failed_to_build(spec: ModelSpec, error: Exception, *, hint: str = "") -> ModelSpecError:
    """Return the error for a library that would not build the model with these arguments."""
    given = ", ".join(f"{key}={value!r}" for key, value in spec.keywords.items())
    return ModelSpecError(
        f"{spec.without_arguments} cannot be built"
        f"{f' with {given}' if given else ''}: {first_line(error)}",
        hint=hint
        or ("check the arguments given with --set" if given else "add --debug for the traceback"),
    )
