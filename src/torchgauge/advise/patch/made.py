"""Advice with its patches: each written into the source, imported in a fresh process, checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from torchgauge.advise.apart import run_apart
from torchgauge.advise.patch.refusal import NoPatch
from torchgauge.advise.patch.verify import VERIFY, PatchTask, Verified, shapes_of
from torchgauge.advise.proof import too_large
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.errors import MissingExtraError, TorchGaugeError
from torchgauge.facts.loop.advice import Accuracy, Advice, Fault, Patch, Suggestion
from torchgauge.models.spec import SpecKind, parse_model_spec
from torchgauge.request import Request

if TYPE_CHECKING:
    from torchgauge.advise.patch.draft import Draft

_LIMIT_S: Final = 600.0
_IN_TRAINING: Final = ("bias-before-norm",)
"""Rules that keep the function in train mode alone."""
_OWN: Final = (SpecKind.PYTHON_FILE, SpecKind.PYTHON_MODULE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A diff that is still to be verified."""

    diff: str
    task: PatchTask
    expected: Mapping[str, float]


def require_libcst() -> None:
    """Refuse to write patches without the library that does it.

    Raises:
        MissingExtraError: it is not installed; the hint has the command that installs it.
    """
    if importlib.util.find_spec("libcst") is None:
        raise MissingExtraError(
            "libcst is needed to write patches and is not installed",
            hint='pip install "torchgauge[patch]"',
        )


def with_patches(advice: Advice, request: Request) -> Advice:
    """Return the advice with a patch, or the reason why there is none, for each change.

    Args:
        advice: of the model of the request.
        request: what was asked, with its model.

    Raises:
        MissingExtraError: libcst is not installed.
        TorchGaugeError: the model cannot be traced any more.
    """
    require_libcst()
    asked = replace(request, scenario=advice.scenario)
    subject = Subject(request=asked, report=analyze_model(asked))
    changes: list[list[Suggestion | Fault]] = [[item] for item in advice.suggestions]
    changes += [[item] for item in advice.faults]
    steps = _steps(advice)
    if steps:
        changes.append(list(steps))
    written = [_written(subject, items, advice) for items in changes]
    request.tell(f"importing {sum(isinstance(w, _Written) for w in written)} patched files anew")
    made = _verified(written)
    count = len(advice.suggestions)
    return replace(
        advice,
        suggestions=tuple(
            replace(item, patched=patch)
            for item, patch in zip(advice.suggestions, made, strict=False)
        ),
        faults=tuple(
            replace(item, patched=patch)
            for item, patch in zip(advice.faults, made[count:], strict=False)
        ),
        path_patch=made[-1] if steps else None,
    )


def _steps(advice: Advice) -> list[Suggestion]:
    """Return the suggestions that the path is made of, where it changes the model."""
    by_text = {item.text: item for item in advice.suggestions}
    steps = [by_text[step.text] for step in advice.path if step.text in by_text]
    return steps if any(not step.scenario for step in steps) else []


# ---------------------------------------------------------------------------- writing


def _written(subject: Subject, items: list[Suggestion | Fault], advice: Advice) -> _Written | Patch:
    from torchgauge.advise.patch.draft import Draft

    request = subject.request
    spec = None if request.spec is None else parse_model_spec(request.spec)
    try:
        if spec is None:
            raise NoPatch(
                "the model came as an object; name it as file.py:Name, so that a fresh process "
                "can make it"
            )
        if spec.kind not in _OWN:
            raise NoPatch(f"the source of {spec.without_arguments} is not yours")
        draft = Draft(subject)
        for item in items:
            if isinstance(item, Fault) or not item.scenario:
                draft.write(item)
        if not draft.files.texts():
            raise NoPatch("it changes how the model runs, not its source")
        return _Written(
            diff=draft.files.diff(),
            task=_task(subject, items, draft),
            expected=_expected(items, advice),
        )
    except NoPatch as why:
        return Patch(diff="", why_not=str(why))


def _task(subject: Subject, items: list[Suggestion | Fault], draft: Draft) -> PatchTask:
    request = subject.request
    scenario = request.scenario
    for item in items:
        if isinstance(item, Suggestion):
            scenario = replace(scenario, **item.scenario)
    totals = subject.report.totals
    fault = items[0] if isinstance(items[0], Fault) else None
    return PatchTask(
        request=replace(
            request, model=None, on_progress=None, scenario=scenario, assumptions=(), warnings=()
        ),
        texts=draft.files.texts(),
        shapes=shapes_of(subject.report),
        compares=_compares(items),
        is_small=not too_large(totals.param_bytes, totals.forward_flops),
        rule="" if fault is None else fault.rule,
        where=() if fault is None else fault.where,
    )


def _compares(items: list[Suggestion | Fault]) -> str:
    changes = [item for item in items if isinstance(item, Suggestion) and not item.scenario]
    if len(changes) < len(items) or any(c.accuracy is not Accuracy.NONE for c in changes):
        return "shapes"
    return "training" if any(c.rule in _IN_TRAINING for c in changes) else "values"


def _expected(items: list[Suggestion | Fault], advice: Advice) -> Mapping[str, float]:
    """Return the figures that the patched model has to have."""
    last = items[-1]
    if isinstance(last, Fault):
        return {}
    figures = last.figures
    if len(items) > 1:
        figures = advice.path[-1].figures
    return {figure.name: figure.after for figure in figures if figure.after is not None}


# ---------------------------------------------------------------------------- verifying


def _verified(written: list[_Written | Patch]) -> list[Patch]:
    tasks = [item.task for item in written if isinstance(item, _Written)]
    try:
        results = iter(run_apart(VERIFY, tasks, limit_s=_LIMIT_S) if tasks else [])
    except TorchGaugeError as error:
        results = iter([error] * len(tasks))
    return [item if isinstance(item, Patch) else _patch(item, next(results)) for item in written]


def _patch(written: _Written, result: Verified | TorchGaugeError) -> Patch:
    """Return a patch where the patched files did what was told."""
    if isinstance(result, TorchGaugeError):
        return Patch(diff="", why_not=f"the patched file failed its check: {result.message}")
    for name, figure in written.expected.items():
        found = result.figures.get(name)
        if found != figure:
            return Patch(diff="", why_not=f"the patched file comes to {name} {found}, not {figure}")
    same = (
        f"all {len(written.expected)} figures as told" if written.expected else "the fault is gone"
    )
    proof = f"imported in a fresh process and traced: {same}"
    if result.proof:
        proof += f"; run on the CPU: {result.proof}"
    return Patch(
        diff=written.diff,
        files=tuple(
            line.removeprefix("+++ b/")
            for line in written.diff.splitlines()
            if line.startswith("+++ b/")
        ),
        folder=_folder(written.task),
        proof=proof,
    )


def _folder(task: PatchTask) -> str:
    """Return where the diff applies: here, or the folder of a file that lies elsewhere."""
    path = Path(next(iter(task.texts)))
    here = Path.cwd().resolve()
    return str(here if path.is_relative_to(here) else path.parent)
