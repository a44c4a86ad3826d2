"""A copy of the model in the scenario's mode, with the inputs that it is called on."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import nn

from torchgauge.errors import UsageError
from torchgauge.trace.copy.attention_choice import choose_attention
from torchgauge.trace.copy.build import constructed_value
from torchgauge.trace.copy.converters import CpuConverter, MetaConverter
from torchgauge.trace.copy.kept_copy import KeptCopies
from torchgauge.trace.copy.meta_copy import ModelCopy
from torchgauge.trace.inputs.plan import InputTensor, real_or_made
from torchgauge.trace.inspect.irregular import keep_padding
from torchgauge.trace.inspect.modules import set_mode
from torchgauge.trace.inspect.tree import lazy_names
from torchgauge.trace.run.context import RunContext
from torchgauge.trace.step.training import as_channels_last, to_channels_last
from torchgauge.trace.values.values import ValueStore

_FLOAT_VALUES_LIMIT = 16
"""Elements up to which a real model's floating-point parameters keep their values."""


class Prepared:
    """The copy that a run calls, and its arguments."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        run_plan = context.run_plan
        self._input_names: dict[int, str] = {}
        """Names of the inputs that were made as floats on a guess, by their storages."""
        self._converter: MetaConverter | CpuConverter
        self.copy, self._converter = self._copied()
        self.root = root = self.copy.root
        context.warnings += self.copy.notes
        context.assumptions += self.copy.assumptions
        self.lazy = lazy_names(root) if self.copy.has_lazy else frozenset[str]()
        """Paths of the parameters that get their shapes in the forward."""
        _set_mode(root, training=context.scenario.is_training)
        self.padded = keep_padding(root) if context.is_simulated else frozenset[str]()
        """Encoders that keep padding in this run."""
        if context.scenario.attn_implementation is not None:
            choose_attention(root, context.scenario.attn_implementation)
        if context.scenario.channels_last:
            to_channels_last(root)
        plan = run_plan.plan
        self.args = tuple(self._argument(value) for value in plan.args)
        self.kwargs = {name: self._argument(value) for name, value in plan.kwargs.items()}

    def _copied(self) -> tuple[ModelCopy, MetaConverter | CpuConverter]:
        """Return a copy of the model, or the one that the run before has left."""
        context, run_plan = self._context, self._context.run_plan
        converter: MetaConverter | CpuConverter
        if context.simulation is None:
            converter = CpuConverter(context.casting, context.assumptions, context.device)
        else:
            on_new = partial(_keep_value, context.simulation.values)
            copies: KeptCopies | None = run_plan.recording.copies
            if copies is not None:
                kept = copies.take(run_plan.model, run_plan.scenario, context.casting, on_new)
                if kept is not None:
                    return kept
            converter = MetaConverter(context.casting, on_new)
        with warnings.catch_warnings():  # what a copied attribute's class deprecates
            warnings.simplefilter("ignore")
            return ModelCopy(run_plan.model, converter), converter

    def offer_copy(self) -> None:
        """Leave the copy to the next run, where this one has changed nothing."""
        recording, scenario = self._context.run_plan.recording, self._context.scenario
        copies: KeptCopies | None = recording.copies
        if copies is None or not isinstance(self._converter, MetaConverter):
            return
        is_arranged = scenario.attn_implementation or scenario.channels_last or self.padded
        if not (is_arranged or self.lazy or self.irregular is not None):
            copies.offer(self._context.run_plan.model, scenario, self.copy, self._converter)

    @property
    def irregular(self) -> torch.Tensor | None:
        """Return a sparse or nested tensor of the model or its inputs, in a simulated run."""
        return self._converter.irregular if isinstance(self._converter, MetaConverter) else None

    def floats_into_embeddings(self) -> tuple[str, ...]:
        """Return the inputs made as floats that an embedding wanted as integers."""
        simulation, names = self._context.simulation, self._input_names
        keys = simulation.float_indices if simulation is not None else ()
        return tuple(dict.fromkeys(names[key] for key in keys if key in names))

    def _argument(self, value: Any) -> Any:
        return real_or_made(self.copy.value(value), self._make_tensor)

    def _make_tensor(self, planned: InputTensor) -> torch.Tensor:
        context, simulation = self._context, self._context.simulation
        planned = context.casting.made(planned)
        made = (
            planned.make("cpu").to(context.device) if simulation is None else planned.make("meta")
        )
        if context.scenario.channels_last:
            made = as_channels_last(made)
        if simulation is None:
            return made
        if planned.values is not None:
            simulation.values.copy_of(made, planned.make("cpu"))
        elif planned.ones:
            simulation.values.guess(made, 1)
        elif not planned.dtype.is_floating_point:
            simulation.values.guess(made, 0)
        elif planned.is_guess:
            self._input_names[made.untyped_storage()._cdata] = planned.name
        return made


def _keep_value(values: ValueStore, original: torch.Tensor, copied: torch.Tensor) -> None:
    """Keep the value of a small tensor of the model or of its inputs next to its meta copy."""
    if original.dtype.is_floating_point and original.numel() > _FLOAT_VALUES_LIMIT:
        return
    value = constructed_value(original) if original.is_meta else original
    if value is not None and original.dtype == copied.dtype:
        values.copy_of(copied, value)


def _set_mode(root: nn.Module, *, training: bool) -> None:
    """Put the copy in the scenario's mode; modules set apart by the user keep their flag."""
    flag = getattr(root, "training", None)
    if flag is None and training:
        raise UsageError(
            "the model was frozen by torch.jit.freeze, which makes its parameters constants",
            hint="analyse the scripted module as it was before, or mode='inference'",
        )
    if flag is None or flag == training:
        return
    try:
        set_mode(root, training=training)
    except NotImplementedError:  # exported programs have their mode built in
        pass
    except RecursionError as error:
        raise UsageError(
            "a module of the model contains itself, so train() and eval() never end",
            hint="keep a link to a parent out of the modules: self.parent = [parent]",
        ) from error
    except Exception as error:  # the model's own ``train``
        said = next(iter(str(error).splitlines()), "")
        raise UsageError(
            f"the model's own train({training}) fails: {type(error).__name__}: {said}",
            hint=f"analyse it with mode={'inference' if training else 'training'!r}",
        ) from error
