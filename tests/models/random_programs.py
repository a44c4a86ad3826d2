"""Random programs: a description that hypothesis draws and shrinks, and the module that it means.

A program is a list of steps over a pool of live tensors. It is made on real tensors, once, to find
out which steps fit and which modules they need; then it runs the same steps each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from program_steps import BLOCKS, STEPS
from torch import nn
from torch.utils.checkpoint import checkpoint

MOST = 150_000
"""Elements of one tensor."""
BATCH = 4
INPUTS: dict[str, tuple[int, ...]] = {
    "vector": (BATCH, 192),
    "sequence": (BATCH, 24, 64),
    "channels": (BATCH, 32, 48),
    "image": (BATCH, 8, 24, 24),
    "volume": (BATCH, 4, 6, 8, 10),
    "tokens": (BATCH, 24),
}
VOCABULARY = 50


@dataclass(frozen=True)
class Step:
    """One step: its kind, which tensors of the pool it takes, its variant, and steps inside."""

    kind: str
    first: int = 0
    second: int = 0
    variant: int = 0
    inner: tuple[Step, ...] = ()

    def __repr__(self) -> str:
        inner = f", {self.inner!r}" if self.inner else ""
        return f"Step({self.kind!r}, {self.first}, {self.second}, {self.variant}{inner})"


@dataclass(frozen=True)
class Program:
    """What is drawn."""

    inputs: tuple[str, ...] = ("vector",)
    steps: tuple[Step, ...] = ()
    returns: str = "last"
    training: bool = False
    optimizer: str = "none"
    given_as: str = "tensors"
    raises: bool = False
    """Whether a step that raises stays, as the last one."""

    def build(self) -> Root:
        """Return the module, made by running the steps once."""
        torch.manual_seed(0)
        root = Root(self)
        with torch.set_grad_enabled(self.training):
            root.make(list(self.example()))
        return root.train(self.training)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Return one tensor per input, the same each time."""
        torch.manual_seed(1)
        return tuple(
            torch.randint(VOCABULARY, INPUTS[name])
            if name == "tokens"
            else torch.rand(INPUTS[name])
            for name in self.inputs
        )


# ------------------------------------------------------------------------ the module


class Block(nn.Module):
    """Steps over a pool, as a module that is made by running it once."""

    def __init__(self, steps: tuple[Step, ...], *, raises: bool, inline: Inline) -> None:
        super().__init__()
        self.steps, self.raises, self.inline = steps, raises, inline
        self.is_made = False
        self.plan: list[tuple[Step, Callable[..., Any] | str, tuple[int, ...]]] = []
        """Per step that fits: its function or the name of its module, and what it takes."""

    def make(self, pool: list[torch.Tensor]) -> None:
        """Run each step that fits and keep what it needs."""
        self.is_made = True
        for number, step in enumerate(self.steps):
            if step.kind == "drop":
                if len(pool) > 1:
                    self.plan.append((step, "", (step.first % len(pool),)))
                    del pool[step.first % len(pool)]
                continue
            chosen = (step.first % len(pool), step.second % len(pool))
            function = self.function(step, [pool[index] for index in chosen], number)
            if function is None:
                continue
            made, fits = None, True
            try:
                made = function(*(pool[index] for index in chosen))
            except Exception:  # whatever torch raises where a step does not fit
                fits = self.raises
            if not fits or (made is not None and not 0 < made.numel() <= MOST):
                continue
            if isinstance(function, nn.Module):
                if function not in self.children():
                    self.add_module(f"step{number}", function)
                function = next(n for n, m in self.named_children() if m is function)
            self.plan.append((step, function, chosen))
            if made is not None:
                pool.append(made)

    def function(self, step: Step, taken: list[torch.Tensor], number: int) -> Any:
        if step.kind == "again":
            modules = [module for module in self.children()]
            return modules[step.variant % len(modules)] if modules else None
        if step.kind == "tied":
            return tied(self, taken[0], step.variant)
        if step.kind in BLOCKS:
            if not step.inner:
                return None
            inner = Block(step.inner, raises=self.raises, inline=self.inline)
            return Wrapped(step.kind, step.variant, inner)
        return STEPS[step.kind](taken[0], taken[1], step.variant)

    def run(self, pool: list[torch.Tensor]) -> list[torch.Tensor]:
        for step, function, chosen in self.plan:
            if step.kind == "drop":
                del pool[chosen[0]]
                continue
            if isinstance(function, str):
                function = getattr(self, function)
            made = function(*(pool[index] for index in chosen))
            if made is not None:
                pool.append(made)
            del made
        return pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_made:
            return self.run([x])[-1]
        pool = [x]
        self.make(pool)
        return pool[-1]


@dataclass
class Inline:
    """Whether threads run in place, where the profiler sees what they allocate."""

    on: bool = False


class Wrapped(nn.Module):
    """A block in a region, under a checkpoint, in a thread, several times."""

    def __init__(self, kind: str, variant: int, inner: Block) -> None:
        super().__init__()
        self.kind, self.variant, self.inner = kind, variant, inner
        self.is_made = False

    def forward(self, x: torch.Tensor, _: Any = None) -> torch.Tensor:
        if not self.is_made:
            self.is_made = True
            if self.kind in ("checkpoint", "thread", "autocast", "no grad"):
                with ExitStack() as stack:
                    if self.kind == "autocast":
                        stack.enter_context(region(self.variant))
                    self.inner.forward(x)  # made outside, run inside
            else:
                self.inner.forward(x)
            if self.kind == "frozen":
                self.inner.requires_grad_(False)
        return getattr(self, self.kind.replace(" ", "_"))(x)

    def autocast(self, x: torch.Tensor) -> torch.Tensor:
        with region(self.variant):
            return self.inner(x)

    def no_grad(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.inner(x)

    def frozen(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)

    def checkpoint(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.inner, x, use_reentrant=bool(self.variant % 2))

    def twice(self, x: torch.Tensor) -> torch.Tensor:
        once = self.inner(x)
        return self.inner(once) if once.shape == x.shape else once + self.inner(x)

    def thread(self, x: torch.Tensor) -> torch.Tensor:
        return in_thread(self.inner, x, self.inner.inline.on)

    def threads(self, x: torch.Tensor) -> torch.Tensor:
        first = in_thread(self.inner, x, self.inner.inline.on)
        return first + in_thread(self.inner, x, self.inner.inline.on)


def region(variant: int) -> Any:
    """Return an autocast region: on, off, on without a cache."""
    return torch.autocast(
        "cpu", torch.bfloat16, enabled=variant % 4 != 1, cache_enabled=variant % 4 != 2
    )


def in_thread(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, inline: bool
) -> Any:
    """Run a function in a thread of its own, or under what a new thread starts with."""
    if inline:
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            return function(x)
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function(x))
        except Exception as error:  # raised again by the one that waits
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(results[0], Exception):
        raise results[0]
    return results.pop()


def tied(block: Block, x: torch.Tensor, variant: int) -> nn.Module | None:
    """Return a linear layer that shares the weight of an earlier one."""
    layers = [m for m in block.children() if isinstance(m, nn.Linear)]
    fitting = [m for m in layers if x.dim() and m.in_features == x.shape[-1]]
    if not fitting:
        return None
    layer = nn.Linear(fitting[0].in_features, fitting[0].out_features, bias=bool(variant % 2))
    layer.weight = fitting[0].weight
    return layer


class Root(Block):
    """The program."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.steps, raises=program.raises, inline=Inline())
        self.returns = program.returns
        self.stem: nn.Module | None = None
        """In training the first input goes through a layer, so that something is trained."""
        if program.training:
            first = program.inputs[0]
            width = INPUTS[first][-1]
            tokens = first == "tokens"
            self.stem = nn.Embedding(VOCABULARY, 64) if tokens else nn.Linear(width, width)

    def make(self, pool: list[torch.Tensor]) -> None:
        if self.stem is not None:
            pool[0] = self.stem(pool[0])
        super().make(pool)

    def forward(self, *inputs: torch.Tensor) -> Any:
        pool = list(inputs)
        if self.stem is not None:
            pool[0] = self.stem(pool[0])
        pool = self.run(pool)
        if self.returns == "last":
            return pool[-1]
        if self.returns == "two":
            return {"last": pool[-1], "more": [pool[-1 - len(pool) // 2], None]}
        return tuple(pool)


def listing(root: Block, indent: str = "") -> str:
    """Return the steps that run, one a line."""
    lines = []
    for step, function, chosen in root.plan:
        if isinstance(function, str) and function:
            function = getattr(root, function)
        what = repr(function).splitlines()[0] if isinstance(function, nn.Module) else ""
        lines.append(f"{indent}{step.kind} {chosen} variant {step.variant} {what}")
        if isinstance(function, Wrapped):
            lines.append(listing(function.inner, indent + "    "))
    return "\n".join(lines)


# ------------------------------------------------------------------------ the strategy

KINDS = (*STEPS, "again", "tied", "drop")
RETURNS = ("last", "two", "all")
OPTIMIZERS = ("none", "sgd", "adam")
_NUMBERS = st.integers(0, 7)
_VARIANTS = st.integers(0, 63)


def steps(depth: int) -> st.SearchStrategy[Step]:
    """Return a strategy of one step, with blocks while ``depth`` allows it."""
    plain = st.builds(
        Step,
        kind=st.sampled_from(KINDS),
        first=_NUMBERS, second=_NUMBERS, variant=_VARIANTS,
    )  # fmt: skip
    if depth == 0:
        return plain
    block = st.builds(
        Step,
        kind=st.sampled_from(BLOCKS),
        first=_NUMBERS,
        variant=_VARIANTS,
        inner=st.lists(steps(depth - 1), min_size=1, max_size=5).map(tuple),
    )
    return st.one_of(plain, plain, plain, block)


def programs(*, training: bool | None = None) -> st.SearchStrategy[Program]:
    """Return a strategy of programs."""
    return st.builds(
        Program,
        inputs=st.lists(st.sampled_from(tuple(INPUTS)), min_size=1, max_size=2).map(tuple),
        steps=st.lists(steps(2), min_size=1, max_size=12).map(tuple),
        returns=st.sampled_from(RETURNS),
        training=st.booleans() if training is None else st.just(training),
        optimizer=st.sampled_from(OPTIMIZERS),
        given_as=st.sampled_from(("tensors", "sizes")),
        raises=st.sampled_from((False, False, False, True)),
    )
