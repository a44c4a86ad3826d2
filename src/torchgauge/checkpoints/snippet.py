"""The code to paste: plain PyTorch that does what a plan says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.facts.choices.checkpointing import KeptOperator, Place

_LONGEST = 88
_ALL = '"all"'
_STATISTICS = """\
@contextmanager
def statistics_kept(part, again):  # batch norms count each batch once
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.training and m.track_running_stats]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        with again:
            yield
    finally:
        for norm, (momentum, count) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, count
"""
_KEEPING = """\
def keeping(kept):  # outputs of these calls of operators are not computed again
    counts = Counter()
    def policy(context, operator, *args, **kwargs):
        call = str(operator), context.is_recompute
        counts[call] += 1
        calls = kept.get(str(operator), ())
        if calls == "all" or counts[call] - 1 in calls:
            return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE
    return create_selective_checkpoint_contexts(policy)
"""
_PLAIN = """\
def recomputed(part, *args, **kwargs):
    forward = partial(type(part).forward, part)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
"""
_WITH_KEPT = """\
def recomputed(part, *args, **kwargs):
    forward = partial(type(part).forward, part)
    kept = getattr(part, "kept_outputs", {})
    options = {"context_fn": partial(keeping, kept)} if kept else {}
    return checkpoint(forward, *args, use_reentrant=False, **options, **kwargs)
"""
_WITH_NORMS = """\
def recomputed(part, *args, **kwargs):
    forward = partial(type(part).forward, part)
    contexts = lambda: (nullcontext(), statistics_kept(part, nullcontext()))
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)
"""
_WITH_BOTH = """\
def recomputed(part, *args, **kwargs):
    forward = partial(type(part).forward, part)
    def contexts():
        first, again = keeping(getattr(part, "kept_outputs", {}))
        return first, statistics_kept(part, again)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)
"""
_RECOMPUTED = {
    (False, False): _PLAIN,
    (True, False): _WITH_KEPT,
    (False, True): _WITH_NORMS,
    (True, True): _WITH_BOTH,
}
"""By whether outputs are kept, and whether batch norms are among what is recomputed."""
_MODULES = """\
for path in paths:
    part = model.get_submodule(path)
    part.forward = MethodType(recomputed, part)  # a copy of the model takes it along
"""
_SELECTIVE = """\
for kept, paths in selective:
    for path in paths:
        part = model.get_submodule(path)
        part.kept_outputs, part.forward = kept, MethodType(recomputed, part)
"""
_STRETCHES = """\
def in_stretches(part, x):
    layers, position = list(part), 0
    for first, end, kept in part.stretches:
        for layer in layers[position:first]:
            x = layer(x)
        stretch = nn.Sequential(*layers[first:end])
        stretch.kept_outputs = kept
        x = recomputed(stretch, x)
        position = end
    for layer in layers[position:]:
        x = layer(x)
    return x

for path, cuts in stretches.items():
    owner = model.get_submodule(path)
    owner.stretches, owner.forward = cuts, MethodType(in_stretches, owner)
"""


def has_norms(model: nn.Module, places: Sequence[Place]) -> bool:
    """Return whether batch norms that keep statistics are among what is recomputed."""
    for place in places:
        part = model.get_submodule(place.path)
        parts = list(part.children())[place.first : place.end] if place.is_stretch else [part]
        found = (module for item in parts for module in item.modules())
        if any(isinstance(module, _BatchNorm) for module in found):
            return True
    return False


def snippet_of(places: Sequence[Place], *, has_norms: bool) -> tuple[str, ...]:
    """Return the lines; ``has_norms`` says that batch norms are among what is recomputed."""
    if not places:
        return ()
    return tuple(_lines(places, has_norms))


def _lines(places: Sequence[Place], has_norms: bool) -> Iterator[str]:
    keeps = any(place.kept for place in places)
    modules = [place.path for place in places if not place.is_stretch and not place.kept]
    selective: dict[tuple[KeptOperator, ...], list[str]] = {}
    stretches: dict[str, list[Place]] = {}
    for place in places:
        if place.is_stretch:
            stretches.setdefault(place.path, []).append(place)
        elif place.kept:
            selective.setdefault(place.kept, []).append(place.path)
    yield from _imports(has_norms=has_norms, has_stretches=bool(stretches), keeps=keeps)
    if keeps:
        yield from ("", *_KEEPING.splitlines())
    if has_norms:
        yield from ("", *_STATISTICS.splitlines())
    yield from ("", *_RECOMPUTED[keeps, has_norms].splitlines(), "")
    if stretches:  # before the modules: each child brings the forward that it has by then
        yield "stretches = {"
        for path, cuts in stretches.items():
            items = [f"({cut.first}, {cut.end}, {_spelled(cut.kept)})" for cut in sorted(cuts)]
            yield from _wrapped(f'    "{path}": [', items, "],")
        yield "}"
        yield from _STRETCHES.splitlines()
    if modules:
        yield from _wrapped("paths = [", [f'"{path}"' for path in modules], "]")
        yield from _MODULES.splitlines()
    if selective:
        yield "selective = ["
        for kept, paths in selective.items():
            yield from _wrapped("    ({", _items(kept), "}, [")
            yield from _wrapped("        ", [f'"{path}"' for path in paths], ",")
            yield "    ]),"
        yield "]"
        yield from _SELECTIVE.splitlines()


def _imports(*, has_norms: bool, has_stretches: bool, keeps: bool) -> Iterator[str]:
    if keeps:
        yield "from collections import Counter"
    if has_norms:
        if keeps:
            yield "from contextlib import contextmanager"
        else:
            yield "from contextlib import contextmanager, nullcontext"
    yield "from functools import partial"
    yield "from types import MethodType"
    if has_norms or has_stretches:
        yield "from torch import nn"
    if keeps:
        yield "from torch.utils.checkpoint import CheckpointPolicy, checkpoint"
        yield "from torch.utils.checkpoint import create_selective_checkpoint_contexts"
    else:
        yield "from torch.utils.checkpoint import checkpoint"


def _spelled(kept: Sequence[KeptOperator]) -> str:
    return f"{{{', '.join(_items(kept))}}}"


def _items(kept: Sequence[KeptOperator]) -> list[str]:
    """Return what is kept as items of a dict: the numbers of the calls by the operator's name."""
    return [f'"{k.qualified}": {k.calls or _ALL}' for k in kept]


def _wrapped(begin: str, items: Sequence[str], end: str) -> Iterator[str]:
    """Yield a list in one line, or in several where it is long."""
    text = f"{begin}{', '.join(items)}{end}"
    if len(text) <= _LONGEST:
        yield text
        return
    indent = " " * (len(begin) - len(begin.lstrip()) + 4)
    yield begin
    line = indent
    for item in items:
        if len(line) + len(item) + 1 > _LONGEST and line.strip():
            yield line.rstrip()
            line = indent
        line += f"{item}, "
    yield line.rstrip()
    yield f"{indent[:-4]}{end}"
