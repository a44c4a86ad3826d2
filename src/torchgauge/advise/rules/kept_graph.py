"""Tensors on the graph that a model keeps from one step to the next."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from torchgauge.advise.check.proof import made_inputs, too_large
from torchgauge.advise.rules.only_finds import OnlyFinds, named
from torchgauge.advise.subject import Subject
from torchgauge.facts.loop.advice import Fault
from torchgauge.facts.trace import Phase, Role
from torchgauge.trace.isolate.isolation import random_state_kept

_DEPTH = 3
"""Lists in lists that are looked into."""


class KeptGraph(OnlyFinds):
    """Find models that append a loss or an output to a list, with the graph behind it."""

    name = "kept-graph"
    about = "losses and outputs that a model keeps with their graph, more in each step"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield one fault for each module that keeps more after each of two forwards."""
        if not subject.report.scenario.is_training:
            yield "without gradients there is no graph to keep"
            return
        if not _keeps(subject):
            yield "the forward keeps nothing that it does not return"
            return
        totals = subject.report.totals
        if why := too_large(totals.param_bytes, totals.forward_flops):
            yield why
            return
        try:
            counts = _counts(subject)
        except Exception as error:  # the model's own code
            yield f"the model does not run for real: {type(error).__name__}"
            return
        growing = [path for path in counts[1] if counts[1][path] > counts[0].get(path, 0)]
        for path in growing:
            yield self.fault(
                subject,
                (path,),
                text=f"{named(path)} keeps tensors with their graph, more in each step",
                why="a graph keeps all that it has saved, so memory grows with each step",
                remedy="keep value.detach(), or value.item() of a loss",
            )
        if not growing:
            yield "what is kept does not grow from step to step"


def _keeps(subject: Subject) -> bool:
    """Return whether something that the forward made outlives the step and is not returned."""
    trace = subject.trace
    freed = {event.storage for event in trace.events if event.is_free}
    returned = {storage for call in trace.calls[:1] for storage in call.output_storages}
    end = max((op.index for op in trace.ops if op.phase is Phase.FORWARD), default=-1)
    return any(
        storage.index not in freed and storage.index not in returned
        and 0 <= storage.op <= end and storage.role in (Role.SAVED_ACTIVATION, Role.TEMPORARY)
        for storage in trace.storages
    )  # fmt: skip


def _counts(subject: Subject) -> list[dict[str, int]]:
    """Return how many tensors on a graph the modules of a copy keep after one and two forwards."""
    with random_state_kept(), torch.enable_grad():
        model = copy.deepcopy(subject.model).train()
        args, kwargs = made_inputs(model, subject.request)
        found = []
        for _ in range(2):
            model(*args, **kwargs)
            found.append({path: _on_graph(vars(module)) for path, module in model.named_modules()})
    return found


def _on_graph(value: Any, depth: int = 0) -> int:
    if isinstance(value, Tensor):
        return int(value.grad_fn is not None)
    if isinstance(value, nn.Module) or depth > _DEPTH:
        return 0
    if isinstance(value, dict):
        value = list(value.values())
    elif not isinstance(value, (list, tuple, set)) and type(value).__name__ != "deque":
        return 0
    return sum(_on_graph(item, depth + 1) for item in value)
