"""The code to paste: plain PyTorch that does what a plan says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.facts.checkpointing import Place

_LONGEST = 88
_KEPT = """\
@contextmanager
def statistics_kept(part):  # batch norms count each batch once
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.training and m.track_running_stats]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, count

def recomputed(part, *args, **kwargs):
    forward = partial(type(part).forward, part)
    contexts = lambda: (nullcontext(), statistics_kept(part))
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)
"""
_PLAIN = """\
def recomputed(part, *args, **kwargs):
    forward = partial(type(part).forward, part)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
"""
_MODULES = """\
for path in paths:
    part = model.get_submodule(path)
    part.forward = MethodType(recomputed, part)  # a copy of the model takes it along
"""
_STRETCHES = """\
def in_stretches(part, x):
    layers, position = list(part), 0
    for first, end in part.stretches:
        for layer in layers[position:first]:
            x = layer(x)
        x = recomputed(nn.Sequential(*layers[first:end]), x)
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
    modules = [place.path for place in places if not place.is_stretch]
    stretches: dict[str, list[tuple[int, int]]] = {}
    for place in sorted(place for place in places if place.is_stretch):
        stretches.setdefault(place.path, []).append((place.first, place.end))
    if has_norms:
        yield "from contextlib import contextmanager, nullcontext"
    yield "from functools import partial"
    yield "from types import MethodType"
    if has_norms or stretches:
        yield "from torch import nn"
    yield "from torch.utils.checkpoint import checkpoint"
    yield ""
    yield from (_KEPT if has_norms else _PLAIN).splitlines()
    yield ""
    if stretches:  # before the modules: each child brings the forward that it has by then
        yield "stretches = {"
        for path, cuts in stretches.items():
            yield from _wrapped(f'    "{path}": [', [f"({a}, {b})" for a, b in cuts], "],")
        yield "}"
        yield from _STRETCHES.splitlines()
    if modules:
        yield from _wrapped("paths = [", [f'"{path}"' for path in modules], "]")
        yield from _MODULES.splitlines()


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
