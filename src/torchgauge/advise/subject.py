"""What the rules look at: the model, what it did, and where its code is."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from keyword import iskeyword
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from torchgauge.advise.check.proof import too_large
from torchgauge.advise.hooks import HOOKS, hooked
from torchgauge.changes.inputs import Ran, ran_of
from torchgauge.changes.step import Step, step_of
from torchgauge.changes.traces import Traces
from torchgauge.facts.loop.advice import Goal
from torchgauge.facts.report import Report
from torchgauge.facts.tensors import TensorSpec
from torchgauge.facts.trace import ModuleCall, OpRecord, Trace
from torchgauge.models.requests import build_for
from torchgauge.request import Request
from torchgauge.target import target_of

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with one traced step."""

    request: Request
    report: Report
    goal: Goal | None = None

    @cached_property
    def step(self) -> Step:
        """Return what is known of how it runs."""
        return step_of(self.report, target_of(self.report.scenario).device)

    @cached_property
    def ran(self) -> Ran:
        """Return what the run said of the inputs."""
        return ran_of(self.report)

    @cached_property
    def traces(self) -> Traces:
        """Return what counts the traces; that of the report is the first."""
        return Traces(tell=self.request.tell, count=1)

    @property
    def model(self) -> nn.Module:
        """Return the model; rules read it and never change it."""
        model = self.request.model
        assert isinstance(model, nn.Module)
        return model

    @cached_property
    def valued(self) -> nn.Module | None:
        """Return the model with the values of its weights, built once more where it has none.

        ``None`` where they are not there, or take more memory than a rule may use.
        """
        tensors = [*self.model.parameters(), *self.model.buffers()]
        if not any(tensor.is_meta for tensor in tensors):
            return self.model
        if self.request.spec is None or too_large(self.report.totals.param_bytes, 0.0):
            return None
        try:
            made = build_for(self.request, with_weights=True).model
        except Exception:  # the user's code, which may lack a file of weights
            return None
        return made if isinstance(made, nn.Module) else None

    @property
    def trace(self) -> Trace:
        """Return what ran."""
        assert self.report.trace is not None
        return self.report.trace

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """Return the modules by path; each object once, by its first path."""
        return dict(self.model.named_modules())

    @cached_property
    def calls(self) -> dict[str, tuple[ModuleCall, ...]]:
        """Return the forward calls of each module, by path."""
        found: defaultdict[str, list[ModuleCall]] = defaultdict(list)
        for call in self.trace.calls:
            if call.phase == "forward":
                found[call.path].append(call)
        return {path: tuple(calls) for path, calls in found.items()}

    @cached_property
    def writers(self) -> dict[int, list[OpRecord]]:
        """Return the operators that wrote each storage, in order."""
        found: defaultdict[int, list[OpRecord]] = defaultdict(list)
        for op in self.trace.ops:
            for storage in dict.fromkeys(op.writes):
                if not op.is_view:
                    found[storage].append(op)
        return found

    @cached_property
    def readers(self) -> dict[int, list[OpRecord]]:
        """Return the operators that read each storage, in order; views are not readers."""
        found: defaultdict[int, list[OpRecord]] = defaultdict(list)
        for op in self.trace.ops:
            for storage in dict.fromkeys(op.reads):
                if not op.is_view:
                    found[storage].append(op)
        return found

    @cached_property
    def last_view(self) -> dict[int, int]:
        """Return the index of the last operator that made a view of each storage."""
        return {storage: op.index for op in self.trace.ops if op.is_view for storage in op.reads}

    @cached_property
    def kept(self) -> frozenset[int]:
        """Return the storages of the forward that something still holds when it has ended.

        That is the output, what the backward needs, and what the code keeps on a module.
        """
        root = self.trace.calls[0]
        inside = self.trace.events[root.first_event : root.end_event]
        freed = {event.storage for event in inside if event.is_free}
        return frozenset(event.storage for event in inside if event.storage not in freed)

    def of_type(self, *kinds: type[M]) -> Iterator[tuple[str, M]]:
        """Yield the modules of exactly these types, or of subclasses with the same forward."""
        for path, module in self.modules.items():
            for kind in kinds:
                if isinstance(module, kind) and type(module).forward is kind.forward:
                    yield path, module
                    break

    def only_call(self, path: str) -> ModuleCall | None:
        """Return the call of a module that was called exactly once."""
        calls = self.calls.get(path, ())
        return calls[0] if len(calls) == 1 else None

    @cached_property
    def hooked(self) -> frozenset[str]:
        """Return the modules with hooks of the user's, which see what goes in and out."""
        return hooked(self.model)

    def watcher(self, *paths: str) -> str | None:
        """Return a module with hooks at one of these paths or below; ``None`` for none."""
        for found in sorted(self.hooked):
            if any(not path or found == path or found.startswith(f"{path}.") for path in paths):
                return found
        return None

    def path_of(self, op: OpRecord) -> str:
        """Return the module that an operator serves."""
        return self.trace.calls[op.call].path if op.call >= 0 else ""

    def code_of(self, path: str) -> str:
        """Return the line that makes a module: ``model.py:12``; ``""`` where it is not known."""
        owner, _, name = path.rpartition(".")
        while name.isdecimal() and owner:  # an element of a container that an attribute holds
            owner, _, name = owner.rpartition(".")
        parent = self.modules.get(owner)
        return "" if parent is None or not name else line_that_makes(type(parent), name)


def input_of(call: ModuleCall) -> TensorSpec | None:
    """Return the first tensor that a call got."""
    return next((value.tensor for value in call.inputs if value.tensor is not None), None)


def output_of(call: ModuleCall) -> TensorSpec | None:
    """Return the first tensor that a call returned."""
    return next((value.tensor for value in call.outputs if value.tensor is not None), None)


def in_code(path: str) -> str:
    """Return how Python reaches a module of ``model``.

    >>> in_code("features.3.conv")
    'model.features[3].conv'
    """
    names = path.split(".")
    if path and any(not n.isdecimal() and (not n.isidentifier() or iskeyword(n)) for n in names):
        return f'model.get_submodule("{path}")'
    parts = (f"[{part}]" if part.isdecimal() else f".{part}" for part in names)
    return "model" + "".join(parts) if path else "model"


def line_that_makes(kind: type, name: str) -> str:
    """Return where a class sets an attribute of itself: ``model.py:12``.

    ``""`` for what Python or an installed package makes, and where the source is not there.
    """
    try:
        file = inspect.getsourcefile(kind)
        if file is None or {"site-packages", "dist-packages"} & set(Path(file).parts):
            return ""
        lines, first = inspect.getsourcelines(kind)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return ""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            if any(isinstance(part, ast.Attribute) and part.attr == name for part in parts):
                return f"{Path(file).name}:{first + node.lineno - 1}"
    return ""


# ---------------------------------------------------------------------------- changed copies


def put(model: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """Set the module at a path, wherever the same module stands; return the model.

    That is the new module where the path is that of the model itself. What is new has the mode of
    the old module, and is frozen where that was.

    Raises:
        ValueError: hooks of the old module would be lost.
    """
    old = model.get_submodule(path)
    _take_over(old, module, path)
    if not path:
        return module
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # each name, also of one module twice
            if child is old:
                setattr(parent, name, module)
    return model


def _take_over(old: nn.Module, new: nn.Module, path: str) -> None:
    if old is new:
        return
    kept = set(new.modules())
    for name, module in old.named_modules(prefix=path):
        if module not in kept and any(getattr(module, hooks) for hooks in HOOKS):
            raise ValueError(f"hooks of {name or 'the model'} would be lost")
    for module in kept - set(old.modules()):
        module.training = old.training
    parameters = list(old.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        new.requires_grad_(False)


def together(*tensors: torch.Tensor | None) -> list[Any]:
    """Return tensors that can be computed with: without values where one of them has none.

    A model that is built without memory may move itself: what it knows the values of gets them.
    """
    are_meta = any(tensor is not None and tensor.is_meta for tensor in tensors)
    return [tensor.to("meta") if are_meta and tensor is not None else tensor for tensor in tensors]


def like(old: nn.Module, new: M) -> M:
    """Return a new module on the device, in the dtype and in the mode of an old one."""
    tensor = next(iter(old.parameters()), None)
    if tensor is not None:
        new = new.to_empty(device=tensor.device) if tensor.is_meta else new.to(tensor.device)
        if tensor.is_floating_point():
            new = new.to(tensor.dtype)
    return new.train(old.training)
