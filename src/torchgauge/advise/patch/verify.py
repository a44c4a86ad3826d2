"""Whether patched files do what was told: imported in a fresh process, traced, and run for real."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import linecache
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn

from torchgauge.advise.check.proof import Prepared, difference, prepared, run, tolerance
from torchgauge.advise.figures import figures_of
from torchgauge.advise.rules import rule_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.errors import TorchGaugeError
from torchgauge.facts.loop.advice import Fault
from torchgauge.facts.report import Report
from torchgauge.models.requests import build_for, with_build
from torchgauge.models.users_code import imports_forgotten
from torchgauge.request import Request

VERIFY: Final = "torchgauge.advise.patch.verify:verify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """A method that makes a patched model ready, after its weights are there."""

    method: str
    is_called: bool
    """Whether the patched source calls it; else its user does, in eval mode."""

    @property
    def call(self) -> str:
        """Return what has to be called, ``""`` for nothing."""
        return "" if self.is_called else f"model.eval().{self.method}()"

    def apply(self, model: nn.Module) -> nn.Module:
        """Call the method, where the source does not."""
        return model if self.is_called else getattr(model.eval(), self.method)()


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchTask:
    """What is to be verified."""

    request: Request
    """Without a model: it is built anew from its spec."""
    texts: Mapping[str, str]
    """The patched text of each file, by its path."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the outputs."""
    compares: str
    """``"values"``: outputs are equal; ``"training"``: those in train mode; ``"shapes"``."""
    is_small: bool
    """Whether it may run for real."""
    rule: str = ""
    """Of a fault: it has to find nothing any more."""
    where: tuple[str, ...] = ()
    finish: Finish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What came of it."""

    figures: Mapping[str, float]
    proof: str
    """``""`` where it was not run."""


def verify(task: PatchTask) -> Verified:
    """Return the figures of the patched model, and how its outputs compare with those of before.

    Raises:
        TorchGaugeError: it does not import, does not run, or does something else.
    """
    before: Prepared | None = None
    if task.is_small and task.compares != "shapes":
        with imports_forgotten():
            torch.manual_seed(0)
            before = prepared(task.request)
    with imports_forgotten(), overlaid(task.texts):
        asked = with_build(task.request, build_for(task.request))
        if task.finish is not None:
            asked = replace(asked, model=task.finish.apply(asked.model))
        report = analyze_model(asked)
        if task.rule:
            _refuse_fault(task, asked, report)
        if shapes_of(report) != task.shapes:
            raise TorchGaugeError("the patched model returns other shapes")
        proof = _run(task, before) if task.is_small else ""
    return Verified(figures=figures_of(report), proof=proof)


def shapes_of(report: Report) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of what a model returns."""
    return tuple(value.tensor.shape for value in report.outputs if value.tensor is not None)


def _run(task: PatchTask, before: Prepared | None) -> str:
    """Run the patched model for real, beside the one of before where their outputs are equal."""
    torch.manual_seed(0)
    after = prepared(task.request)
    if before is None:
        run(after.model, after.arguments)
        return f"output {', '.join(str(list(shape)) for shape in task.shapes)} as before"
    model = _with_weights_of(before.model, after.model, task.finish)
    is_training = task.compares == "training"
    one = run(before.model, before.arguments, training=is_training)
    other = run(model, before.arguments, training=is_training)
    worst = max((difference(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if worst > tolerance(other):
        raise TorchGaugeError(f"the patched model computes something else ({worst:.1e} off)")
    return "outputs equal to the bit" if not worst else f"outputs equal within {worst:.0e}"


def _with_weights_of(before: nn.Module, after: nn.Module, finish: Finish | None) -> nn.Module:
    """Return the patched model with the weights of the other one.

    A source that folds weights itself does so while it builds the model: those are not replaced,
    and come from the same random numbers, or the same file, as before.

    Raises:
        TorchGaugeError: the patched model has parameters that the other one has not.
    """
    if finish is not None and finish.is_called:
        return after
    missing, _ = after.load_state_dict(before.state_dict(), strict=False)
    if missing:
        raise TorchGaugeError(f"the patched model has other parameters: {missing[0]}")
    return after if finish is None else finish.apply(after)


def _refuse_fault(task: PatchTask, asked: Request, report: Report) -> None:
    subject = Subject(request=asked, report=report)
    for found in rule_of(task.rule).look(subject):
        if isinstance(found, Fault) and found.where == task.where:
            raise TorchGaugeError(f"the fault is still there: {found.text}")


# ---------------------------------------------------------------------------- imports


@contextmanager
def overlaid(texts: Mapping[str, str]) -> Iterator[None]:
    """Let Python import other texts than those that the files hold; no file is written."""
    loader = importlib.machinery.SourceFileLoader
    original = loader.get_code

    def get_code(self: Any, fullname: str) -> Any:
        path = os.path.realpath(self.get_filename(fullname))
        if path in texts:  # past the bytecode of the file as it is
            return compile(texts[path], path, "exec", dont_inherit=True)
        return original(self, fullname)

    for path, text in texts.items():  # what ``inspect`` and ``torch.jit`` read
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    loader.get_code = get_code  # type: ignore[method-assign]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for path in texts:
            linecache.cache.pop(path, None)
        loader.get_code = original  # type: ignore[method-assign]
