"""Advice with its patches: each written into the source, imported in a fresh process, checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from torchgauge.advise.apply import change_of
from torchgauge.advise.check.proof import too_large
from torchgauge.advise.patch.source.files import base_of
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.verify import VERIFY, PatchTask, Verified, shapes_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.apart import run_apart
from torchgauge.changes.change import applied
from torchgauge.errors import MissingExtraError, TorchGaugeError
from torchgauge.facts.loop.advice import Accuracy, Advice, Fault, Patch, Suggestion
from torchgauge.facts.loop.comparison import Figure
from torchgauge.models.spec import SpecKind, parse_model_spec
from torchgauge.request import Request

if TYPE_CHECKING:
    from torchgauge.advise.patch.draft import Draft

_LIMIT_S: Final = 180.0
"""For each patch."""
_IN_TRAINING: Final = ("bias-before-norm",)
"""Rules that keep the function in train mode alone."""
_FREE_EARLY: Final = ("attention",)
"""Rules whose copies are code of ``torch.fx``, which drops each value after its last use."""
_OWN: Final = (SpecKind.PYTHON_FILE, SpecKind.PYTHON_MODULE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A diff that is still to be verified."""

    diff: str
    task: PatchTask
    figures: tuple[Figure, ...]
    """Before and after, as told; none of a fault."""
    frees_later: bool = False
    """The copy of a rule may free tensors that the names of a forward hold to its end."""


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
    drafts = [drafted(subject, [item], item.figures) for item in advice.suggestions]
    drafts += [drafted(subject, [item], ()) for item in advice.faults]
    steps = _steps(advice)
    if steps:
        drafts.append(drafted(subject, steps, advice.path[-1].figures))
    request.tell("importing the patched files in a fresh process")
    made = verified(drafts)
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
    steps = list(advice.path_changes)
    return steps if any(step.changes_model for step in steps) else []


# ---------------------------------------------------------------------------- writing


def drafted(
    subject: Subject, items: Sequence[Suggestion | Fault], figures: Sequence[Figure]
) -> Drafted | Patch:
    """Return changes written into the source, to be verified; or why they are not.

    Args:
        subject: the model as it is.
        items: the changes, one on top of the other.
        figures: those of the model with all of them; none of a fault.
    """
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
            if isinstance(item, Fault) or item.changes_model:
                draft.write(item)
        if not draft.files.texts():
            raise NoPatch("it changes how the model runs, not its source")
        return Drafted(
            diff=draft.files.diff(),
            task=_task(subject, items, draft),
            figures=tuple(figures),
            frees_later=any(item.rule in _FREE_EARLY for item in items),
        )
    except NoPatch as why:
        return Patch(diff="", why_not=str(why))


def _task(subject: Subject, items: Sequence[Suggestion | Fault], draft: Draft) -> PatchTask:
    request = subject.request
    for item in items:
        if isinstance(item, Suggestion) and not item.changes_model:
            request = applied(change_of(item), request)
    totals = subject.report.totals
    fault = items[0] if isinstance(items[0], Fault) else None
    return PatchTask(
        request=replace(request, model=None, on_progress=None, assumptions=(), warnings=()),
        texts=draft.files.texts(),
        shapes=shapes_of(subject.report),
        compares=_compares(items),
        is_small=not too_large(totals.param_bytes, totals.forward_flops),
        rule="" if fault is None else fault.rule,
        where=() if fault is None else fault.where,
        finish=draft.finish,
    )


def _compares(items: Sequence[Suggestion | Fault]) -> str:
    changes = [item for item in items if isinstance(item, Suggestion) and item.changes_model]
    if len(changes) < len(items) or any(c.accuracy is not Accuracy.NONE for c in changes):
        return "shapes"
    return "training" if any(c.rule in _IN_TRAINING for c in changes) else "values"


# ---------------------------------------------------------------------------- verifying


def verified(drafts: Sequence[Drafted | Patch]) -> list[Patch]:
    """Return a patch for each draft, all of them tried in fresh processes; or why there is none."""
    tasks = [item.task for item in drafts if isinstance(item, Drafted)]
    try:
        results = iter(run_apart(VERIFY, tasks, limit_s=_LIMIT_S * len(tasks)) if tasks else [])
    except TorchGaugeError as error:
        results = iter([error] * len(tasks))
    return [item if isinstance(item, Patch) else _patch(item, next(results)) for item in drafts]


def _patch(draft: Drafted, result: Verified | TorchGaugeError) -> Patch:
    """Return a patch where the patched files did what was told."""
    if isinstance(result, TorchGaugeError):
        return Patch(diff="", why_not=f"the patched file failed its check: {result.message}")
    try:
        proof = list(_figures_compared(draft, result.figures))
    except NoPatch as why:
        return Patch(diff="", why_not=str(why))
    if draft.task.finish is not None and draft.task.finish.call:
        proof.append(f"that is with {draft.task.finish.call}, which you call after loading weights")
    if result.proof:
        proof.append(f"run on the CPU: {result.proof}")
    return Patch(
        diff=draft.diff,
        files=tuple(
            line.removeprefix("+++ b/")
            for line in draft.diff.splitlines()
            if line.startswith("+++ b/")
        ),
        folder=str(base_of(draft.task.texts)),
        proof=tuple(proof),
    )


def _figures_compared(draft: Drafted, figures: Mapping[str, float]) -> Iterator[str]:
    """Yield how the figures of the patched files compare with what was told.

    Raises:
        NoPatch: they differ.
    """
    if not draft.figures:
        yield "imported in a fresh process and traced: the fault is gone"
        return
    others = []
    for told in draft.figures:
        found = figures.get(told.name)
        if found == told.after:
            continue
        is_better = found is not None and told.before is not None and found <= told.before
        if not (draft.frees_later and told.name.startswith("memory.") and is_better):
            raise NoPatch(f"the patched file gives {told.name} {found}, not {told.after}")
        others.append(f"{told.name} {found:,}")
    count = len(draft.figures)
    if not others:
        yield f"imported in a fresh process and traced: all {count} figures as shown"
        return
    yield (
        f"imported in a fresh process and traced: {count - len(others)} of {count} figures as shown"
    )
    yield f"its forward holds tensors longer than the traced copy: {', '.join(others)}"
