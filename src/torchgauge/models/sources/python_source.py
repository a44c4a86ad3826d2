"""``file.py:Name`` and ``package.module:callable``: models in Python code of the user's."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torchgauge.errors import ModelSpecError, TorchGaugeError
from torchgauge.models.build import ModelBuild, construct, error_place, failed, first_line
from torchgauge.models.sources.exported_source import example_inputs
from torchgauge.models.suggest import did_you_mean, nearest
from torchgauge.models.torchvision_operators import define_missing_operators

if TYPE_CHECKING:
    from torchgauge.models.spec import ModelSpec


def build(spec: ModelSpec) -> ModelBuild:
    """Import the code, find the object and make a model of it.

    Raises:
        ModelSpecError: the code does not import, has no such name, or gives no model.
    """
    import torch

    define_missing_operators()  # the user's code may import torchvision
    module = _import(spec)
    found = _attribute(module, spec)
    warnings: tuple[str, ...] = ()
    model = found
    if isinstance(found, (torch.nn.Module, torch.export.ExportedProgram)):
        _check_takes_nothing(spec, found)
    else:
        model, warnings = _call(spec, found, _source_file(module))
    inputs = None
    if isinstance(model, torch.export.ExportedProgram):
        inputs = example_inputs(model)
        model = model.module()
    if not isinstance(model, torch.nn.Module):
        raise ModelSpecError(
            f"{spec.without_arguments} gives {_a(type(model).__name__)}, not a torch.nn.Module",
            hint="name a class, a function that returns one model, or a model",
        )
    return ModelBuild(
        model=model,
        name=type(model).__name__,
        spec=spec.text,
        default_inputs=inputs,
        warnings=warnings,
    )


def load(text: str) -> Any:
    """Return what ``file.py:name`` or ``package.module:name`` names, a model or anything else.

    Arguments, as in ``file.py:name(size=8)``, call it.

    Raises:
        ModelSpecError: the code does not import, has no such name, or the call fails.
    """
    spec = python_spec(text)
    found = _attribute(_import(spec), spec)
    if not spec.has_arguments:
        return found
    try:
        return found(*spec.positional, **spec.keywords)
    except Exception as error:
        raise failed(spec.text, f"calling {spec.attribute}", error) from error


def python_spec(text: str) -> ModelSpec:
    """Return the name of something in Python code, taken apart; nothing is imported.

    Raises:
        ModelSpecError: it is none.
    """
    from torchgauge.models.spec import SpecKind, parse_model_spec

    try:
        spec = parse_model_spec(text)
    except ModelSpecError:
        spec = None
    if spec is None or spec.kind not in (SpecKind.PYTHON_FILE, SpecKind.PYTHON_MODULE):
        raise ModelSpecError(
            f"{text!r} names nothing in Python code",
            hint="write file.py:name or package.module:name",
        )
    return spec


# ---------------------------------------------------------------------------- importing


def _import(spec: ModelSpec) -> ModuleType:
    from torchgauge.models.spec import SpecKind

    path: Path | None = None
    try:
        if spec.kind is SpecKind.PYTHON_FILE:
            path = Path(spec.target).resolve()
            return _import_file(path)
        _search_first(Path.cwd())
        return importlib.import_module(spec.target)
    except SystemExit as stop:
        place = error_place(stop, path)
        raise ModelSpecError(
            f"{spec.target} ends the program while it is imported "
            f"(sys.exit at {place}{_reason(stop)})",
            hint='put what only a script should do under if __name__ == "__main__":',
        ) from stop
    except ModuleNotFoundError as error:
        raise _module_not_found(spec, error, path) from error
    except TorchGaugeError:
        raise
    except Exception as error:
        raise failed(spec.text, f"importing {spec.target}", error, path) from error


def _import_file(path: Path) -> ModuleType:
    if (path.parent / "__init__.py").is_file():
        return _import_from_package(path)
    _search_first(path.parent)
    name = _module_name(path)
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ModelSpecError(f"{path.name} is not a Python file", hint="name a .py file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and torch.jit look a class's module up there
    try:
        found.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _module_name(path: Path) -> str:
    """Return the name that ``import`` would give the file, another when that one is taken."""
    name = path.stem
    importlib.invalidate_caches()
    if name.isidentifier() and name not in sys.modules:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin and Path(found.origin).resolve() == path:
            return name
    return f"torchgauge_model_{abs(hash(str(path))):x}"


def _import_from_package(path: Path) -> ModuleType:
    """Import a file that lies in a package under its full name, so that relative imports work."""
    root = path.parent
    parts = [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    _search_first(root)
    return importlib.import_module(".".join(parts))


def _search_first(folder: Path) -> None:
    """Look for modules in ``folder`` first; ``main`` puts ``sys.path`` back."""
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))


def _module_not_found(
    spec: ModelSpec, error: ModuleNotFoundError, path: Path | None
) -> ModelSpecError:
    missing = error.name or ""
    if spec.target == missing or spec.target.startswith(f"{missing}."):
        libraries = nearest(missing, ("torchvision", "timm", "hf"), count=1)
        return ModelSpecError(
            f"there is no Python module {missing!r} (for {spec.text})",
            hint=f"did you mean {libraries[0]}:{spec.attribute}?"
            if libraries
            else "run from the folder that holds it, install it, or write path/to/file.py:Name",
        )
    place = error_place(error, path)
    return ModelSpecError(
        f"{spec.text}: importing {spec.target} failed{f' at {place}' if place else ''}: "
        f"{first_line(error)}",
        hint=f"install what provides {missing!r}, or run from the folder that holds it",
    )


def _source_file(module: ModuleType) -> Path | None:
    name = getattr(module, "__file__", None)
    return Path(name) if name else None


# ---------------------------------------------------------------------------- finding, calling


def _attribute(module: ModuleType, spec: ModelSpec) -> Any:
    found: Any = module
    for part in spec.attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = _candidates(found)
            listed = f"it has {', '.join(names[:8])}" if names else "it defines no model"
            raise ModelSpecError(
                f"{spec.target} has no {spec.attribute!r}",
                hint=did_you_mean(part, names, otherwise=listed),
            ) from None
    return found


def _candidates(holder: Any) -> list[str]:
    """Return the public names in ``holder`` that could be meant, models first."""
    import torch

    models, functions, imported = [], [], []
    for name, value in vars(holder).items():
        if name.startswith("_"):
            continue
        is_own = getattr(value, "__module__", None) == getattr(holder, "__name__", "")
        is_model_class = inspect.isclass(value) and issubclass(value, torch.nn.Module)
        if isinstance(value, torch.nn.Module) or (is_own and is_model_class):
            models.append(name)
        elif is_own and inspect.isfunction(value):
            functions.append(name)
        elif is_model_class:
            imported.append(name)
    return models + functions + imported


def _check_takes_nothing(spec: ModelSpec, model: object) -> None:
    if spec.has_arguments:
        raise ModelSpecError(
            f"{spec.without_arguments} is a finished {type(model).__name__} and takes no arguments",
            hint="leave them out, or name its class",
        )


def _call(spec: ModelSpec, function: Any, near: Path | None) -> tuple[Any, tuple[str, ...]]:
    if not callable(function):
        raise ModelSpecError(
            f"{spec.without_arguments} is {_a(type(function).__name__)}, not a torch.nn.Module",
            hint="name a class, a function that returns a model, or a model",
        )
    _check_arguments(spec, function)
    try:
        return construct(
            lambda: function(*spec.positional, **spec.keywords), spec.without_arguments
        )
    except SystemExit as stop:
        place = error_place(stop, near)
        raise ModelSpecError(
            f"{spec.without_arguments} ends the program (sys.exit at {place}{_reason(stop)})",
            hint="name a class or a function that returns a model",
        ) from stop
    except TorchGaugeError:
        raise
    except Exception as error:
        raise failed(spec.text, "building the model", error, near) from error


def _reason(stop: SystemExit) -> str:
    """Return what the program says when it ends, if it says anything."""
    return f": {stop.code}" if isinstance(stop.code, str) else ""


def _check_arguments(spec: ModelSpec, function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # not every callable tells
        return
    try:
        signature.bind(*spec.positional, **spec.keywords)
        return
    except TypeError as error:
        reason = str(error)
    parameters = signature.parameters
    takes = f"it takes {signature}" if parameters else "it takes no arguments"
    unknown = [key for key in spec.keywords if key not in parameters]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        reason = f"there is no argument {unknown[0]!r}"
        hint = did_you_mean(unknown[0], parameters, otherwise=takes)
    else:
        missing = [name for name in parameters if f"'{name}'" in reason]
        hint = f"add --set {missing[0]}=…; {takes}" if missing else takes
    raise ModelSpecError(f"{spec.without_arguments}: {reason}", hint=hint)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}"
