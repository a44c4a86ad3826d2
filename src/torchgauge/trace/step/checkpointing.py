"""Activation checkpointing: which modules compute their forward again, and in what manner."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from torchgauge.errors import ScenarioError
from torchgauge.facts.choices.checkpointing import Checkpointing, KeptOperator, Place
from torchgauge.trace.step.selective import (
    Contexts,
    KeptCalls,
    check_kept,
    keeping,
    keeping_what_is_expensive,
)


def checkpoint_blocks(
    root: nn.Module,
    kind: Checkpointing,
    places: tuple[Place, ...] = (),
    calls: KeptCalls | None = None,
) -> int:
    """Checkpoint modules of a copied model, its repeated blocks by default; return how many.

    A block is a child of a ``ModuleList`` or ``Sequential`` that has siblings of its class,
    children and parameters: the layers of a transformer, the blocks of a ResNet stage.
    Of ``places`` only whole modules are meant; ``checkpoint_stretches`` takes the rest. ``calls``
    learns how often they call the operators whose outputs they keep.
    """
    calls = defaultdict(Counter) if calls is None else calls
    if places:
        whole = {root.get_submodule(p.path): p for p in reversed(places) if not p.is_stretch}
        for block, place in whole.items():
            block.__dict__["forward"] = Recomputed(
                block.forward, kind, (block,), place.kept, calls[place]
            )
        return len(places)
    run = _RUNS[kind]
    count = 0
    for block in _blocks(root):
        block.__dict__["forward"] = partial(run, block.forward)
        count += 1
    return count


def checkpoint_stretches(
    root: nn.Module,
    kind: Checkpointing,
    places: tuple[Place, ...],
    calls: KeptCalls | None = None,
) -> None:
    """Checkpoint neighbouring children of an ``nn.Sequential``, each stretch as one.

    To be called before the forwards of the copy's modules are wrapped: the forward of the
    ``Sequential`` is replaced by one that does the same. ``calls`` is that of
    ``checkpoint_blocks``.
    """
    calls = defaultdict(Counter) if calls is None else calls
    stretches: dict[str, list[Place]] = {}
    for place in places:
        if place.is_stretch:
            stretches.setdefault(place.path, []).append(place)
    for path, found in stretches.items():
        owner = root.get_submodule(path)
        owner.__dict__["forward"] = Stretches(owner, kind, sorted(found), calls)


def check_places(root: nn.Module, places: tuple[Place, ...]) -> None:
    """Check that a model has what is to be checkpointed.

    Raises:
        ScenarioError: it has not, two stretches share a module, or one names an
            operator whose output cannot be kept.
    """
    taken: dict[str, int] = {}
    for place in sorted(places):
        try:
            module = root.get_submodule(place.path)
        except AttributeError:
            raise ScenarioError(
                f"checkpointed: the model has no module {place.path!r}",
                hint="write a path that torchgauge summary lists",
            ) from None
        check_kept(place)
        if not place.is_stretch:
            continue
        if not isinstance(module, nn.Sequential) or len(module) < place.end:
            raise ScenarioError(
                f"checkpointed: {place} are not children of an nn.Sequential",
                hint="name whole modules there",
            )
        if place.first < taken.get(place.path, 0):
            raise ScenarioError(
                f"checkpointed: {place} overlaps the stretch before it",
                hint="write stretches that share no module",
            )
        taken[place.path] = place.end


class Recomputed:
    """A forward that is computed again in the backward. A deep copy belongs to the copied module.

    The statistics of batch norms are updated by the first of the two forwards alone. The outputs of
    the operators ``kept`` are not computed again.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        kind: Checkpointing,
        modules: tuple[nn.Module, ...],
        kept: tuple[KeptOperator, ...],
        calls: Counter[str],
    ) -> None:
        self.forward = forward
        self.kind = kind
        self.modules = modules
        self.kept = kept
        self.calls = calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward under ``torch.utils.checkpoint``."""
        if self.kind is Checkpointing.REENTRANT:
            return _reentrant(self.forward, *args, **kwargs)
        norms = list(_norms_of(self.modules))
        options: dict[str, Any] = {}
        if norms or self.kept or self.kind is Checkpointing.SELECTIVE:
            options["context_fn"] = partial(self._contexts, norms)
        return checkpoint(self.forward, *args, use_reentrant=False, **options, **kwargs)

    def _contexts(self, norms: list[_BatchNorm]) -> Contexts:
        contexts: Contexts = nullcontext(), nullcontext()
        if self.kept:
            contexts = keeping(self.kept, self.calls)
        elif self.kind is Checkpointing.SELECTIVE:
            contexts = keeping_what_is_expensive()
        first, again = contexts
        return first, _statistics_kept(norms, again) if norms else again


class Stretches:
    """The forward of an ``nn.Sequential`` with neighbouring children checkpointed as one."""

    def __init__(
        self, owner: nn.Module, kind: Checkpointing, places: list[Place], calls: KeptCalls
    ) -> None:
        self.owner = owner
        self.kind = kind
        self.places = places
        self.calls = calls

    def __call__(self, input: Any) -> Any:
        """Run the children in order."""
        layers, position = list(self.owner.children()), 0
        for place in self.places:
            input = _in_turn(layers[position : place.first], input)
            stretch = tuple(layers[place.first : place.end])
            run = Recomputed(
                partial(_in_turn, stretch), self.kind, stretch, place.kept, self.calls[place]
            )
            input = run(input)
            position = place.end
        return _in_turn(layers[position:], input)


def _in_turn(layers: Sequence[nn.Module], input: Any) -> Any:
    for layer in layers:
        input = layer(input)
    return input


def _norms_of(modules: Iterable[nn.Module]) -> Iterator[_BatchNorm]:
    """Yield the batch norms that update statistics."""
    for module in modules:
        for part in module.modules():
            if isinstance(part, _BatchNorm) and part.training and part.track_running_stats:
                yield part


@contextmanager
def _statistics_kept(
    norms: list[_BatchNorm], around: AbstractContextManager[Any]
) -> Iterator[None]:
    """Let batch norms compute with the batch's statistics and keep their running ones."""
    before = [(norm.momentum, norm._buffers["num_batches_tracked"]) for norm in norms]
    for norm in norms:
        norm.momentum, norm._buffers["num_batches_tracked"] = 0.0, None
    try:
        with around:
            yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm._buffers["num_batches_tracked"] = momentum, count


def _blocks(root: nn.Module) -> Iterator[nn.Module]:
    for module in root.modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)):
            continue
        kinds = Counter(type(child) for child in module.children())
        for child in module.children():
            repeated = kinds[type(child)] > 1 and any(True for _ in child.children())
            if repeated and any(True for _ in child.parameters()):
                yield child


def _reentrant(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Only positional arguments can be differentiated; libraries bind the others, as here."""
    return checkpoint(partial(forward, **kwargs), *args, use_reentrant=True)


_RUNS: dict[Checkpointing, Callable[..., Any]] = {
    Checkpointing.NON_REENTRANT: partial(checkpoint, use_reentrant=False),
    Checkpointing.REENTRANT: _reentrant,
    Checkpointing.SELECTIVE: partial(
        checkpoint, use_reentrant=False, context_fn=keeping_what_is_expensive
    ),
}
"""How a block's forward is run, by kind."""
