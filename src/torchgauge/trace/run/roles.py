"""What the storages of a run are for: parameters, buffers, inputs, gradients, optimizer states."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from torchgauge.facts.trace import Role
from torchgauge.trace.copy.meta_copy import ModelCopy
from torchgauge.trace.copy.restored import local_part
from torchgauge.trace.inspect.bitsandbytes import has_bitsandbytes, quantization_states
from torchgauge.trace.inspect.describe import tensors_in
from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.inspect.modules import tensors_of
from torchgauge.trace.inspect.packed_objects import PackedWeights, holds_packed
from torchgauge.trace.inspect.subclasses import (
    ORDINARY,
    attached_tensors,
    has_attributes,
    stored_tensors,
    tensors_held,
)
from torchgauge.trace.inspect.tree import is_packed_buffer, walk
from torchgauge.trace.run.context import RunContext
from torchgauge.trace.step.training import Trainer


class Roles:
    """Gives the storages of a run their roles."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._storages = context.recorder.storages
        self._registered: set[int] = set()
        """Identities of the parameters and buffers whose storages have their roles."""

    # ------------------------------------------------------------------ before the step

    def register(self, copy: ModelCopy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Register all that is in memory before the forward."""
        if self._context.keep_ops:
            self.register_model(copy.root)
        given = [
            (name, tensor)
            for name, value in (*((str(i), v) for i, v in enumerate(args)), *kwargs.items())
            for tensor in tensors_in(value)
        ]
        self._register_hidden(copy, {id(tensor) for _, tensor in given})
        if copy.may_hold_packed:
            self._register_packed(copy.root)
        for name, tensor in given:
            self._register_parts(stored_tensors(tensor), Role.INPUT, name)

    def register_model(self, root: nn.Module) -> None:
        """Register the parameters and buffers of a model."""
        attached: list[tuple[torch.Tensor, Role, str]] = []
        for role, named in (
            (Role.PARAMETER, root.named_parameters()),
            (Role.BUFFER, root.named_buffers()),
        ):
            for name, tensor in named:
                if role is Role.PARAMETER and _is_ordinary(tensor):
                    self._registered.add(id(tensor))
                    self._storages.register(tensor, role, name)
                elif not torch.nn.parameter.is_lazy(tensor):
                    packed = role is Role.BUFFER and is_packed_buffer(root, name, tensor)
                    own = Role.PARAMETER if packed else role
                    self._registered.add(id(tensor))
                    self._register_parts(stored_tensors(tensor), own, name)
                    attached += [(tensor, own, name)] if has_attributes(tensor) else []
        for tensor, role, name in attached:  # after all that have a role of their own
            self._register_parts(attached_tensors(tensor), role, name)
        for path, module, _ in walk(root) if has_bitsandbytes(root) else ():
            for state in quantization_states(module):
                self._register_parts(tensors_held(state), Role.PARAMETER, f"{path}.weight")

    def register_made_in_forward(self, root: nn.Module) -> None:
        """Register parameters and buffers that the forward made."""
        held = tensors_of(root) if self._context.keep_ops else ()
        if held and not self._registered.issuperset(map(id, (*held.parameters, *held.buffers))):
            self.register_model(root)

    def _register_parts(self, parts: Iterable[torch.Tensor], role: Role, name: str) -> None:
        for part in parts:
            if part.layout is torch.strided:
                self._storages.register(part, role, name)

    def _register_hidden(self, copy: ModelCopy, inputs: set[int]) -> None:
        """Register parameters that no module has; an input that is optimized is not one of them."""
        hidden = [p for p in copy.hidden_parameters() if id(p) not in inputs]
        for parameter in hidden:
            parts = (*stored_tensors(parameter), *attached_tensors(parameter))
            self._register_parts(parts, Role.PARAMETER, "")
        if hidden:
            elements = sum(parameter.numel() for parameter in hidden)
            self._context.warnings.append(
                f"{len(hidden)} parameters ({elements:,} elements) are held by the model but not "
                "registered, in a plain list for instance: neither counted nor trained; "
                "nn.ModuleList, nn.ModuleDict and nn.ParameterList register them"
            )

    def _register_packed(self, root: nn.Module) -> None:
        """Register the bytes that quantized modules hold packed; no tensor contains them."""
        if not holds_packed(root):
            return
        self._context.assume(
            "packed weights: the bytes that their modules state; what a backend also keeps "
            "(a copy in oneDNN, padding in FBGEMM) is not counted"
        )
        if self._context.is_simulated:
            self._context.assume(
                "simulated: what kernels of packed weights take for themselves is not in the memory"
            )
        weights = PackedWeights()
        for path, module, shared_with in walk(root):
            for name, packed in weights.of(path, module) if shared_with is None else ():
                kept = module.__dict__.get(name.rpartition(".")[2])
                if isinstance(kept, torch.Tensor):  # a bias that the module also keeps
                    self._register_parts([kept], Role.PARAMETER, name)
                else:
                    self._storages.register_bytes(packed.stored_bytes, Role.PARAMETER, name)

    def register_kept(self, trainer: Trainer) -> None:
        """Register what a training step has from the steps before it."""
        if not self._context.keep_ops:
            return
        for name, tensor in trainer.kept_gradients():
            self._storages.register(tensor, Role.GRADIENT, name)
        for tensor in trainer.average:
            self._storages.register(tensor, Role.OPTIMIZER_STATE, "ema")

    def register_of_hooks(
        self, optimizers: Iterable[torch.optim.Optimizer], tensors: Iterable[torch.Tensor]
    ) -> None:
        """Register what hooks on parameters have from the steps before."""
        for optimizer in optimizers:
            self.mark_optimizer(optimizer, existing=True)
        for tensor in tensors:
            self._register_parts(stored_tensors(tensor), Role.OPTIMIZER_STATE, "hooks")

    # ------------------------------------------------------------------ in the step

    def mark_output(self, output: Any) -> None:
        """Mark what an inference returns."""
        for tensor in tensors_in(output):
            self._mark_parts(local_part(tensor), Role.OUTPUT)

    def mark_saved(self, before: set[int]) -> None:
        """Mark what is alive after the loss and was not ``before``: it is kept for the backward."""
        for index in self._storages.alive() - before:
            self._storages.set_role(index, Role.SAVED_ACTIVATION)

    def mark_gradients(self, root: nn.Module) -> None:
        """Mark the gradients of the parameters."""
        for name, parameter in root.named_parameters():
            gradient = parameter.grad
            if gradient is None:
                continue
            if _is_ordinary(gradient):
                index = self._storages.index_of(gradient, -1)
                self._storages.set_role(index, Role.GRADIENT, name)
                continue
            # A plain parameter next to a DTensor gets a DTensor as its gradient.
            parameter.grad = local_part(gradient)
            self._mark_parts(parameter.grad, Role.GRADIENT, name)

    def _mark_parts(self, tensor: torch.Tensor, role: Role, name: str = "") -> None:
        for part in stored_tensors(tensor):
            if part.layout is torch.strided:
                self._storages.set_role(self._storages.index_of(part, -1), role, name)

    def mark_optimizer(self, optimizer: torch.optim.Optimizer, *, existing: bool = False) -> None:
        """Mark the states of an optimizer; ``existing`` ones were made before the step."""
        storages = self._storages
        on_host = _host_states(optimizer) if self._context.target.host_states else ()
        for state in optimizer.state.values():
            for name, tensor in state.items():
                parts = stored_tensors(tensor) if isinstance(tensor, torch.Tensor) else ()
                for part in parts:
                    if existing:
                        storages.register(part, Role.OPTIMIZER_STATE, name)
                    index = storages.index_of(part, -1)
                    storages.set_role(index, Role.OPTIMIZER_STATE, name)
                    if name in on_host:
                        storages.set_host(index)


def _host_states(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Return the states that lie in host memory: scalars that are made without naming a device.

    Source: ``_init_group`` of the classes in ``torch.optim`` (2.6–2.13).
    """
    if optimizer.defaults.get("fused") or optimizer.defaults.get("capturable"):
        return ()
    return () if isinstance(optimizer, torch.optim.ASGD) else ("step", "mu_product")


def _is_ordinary(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is numbers in one block of memory, with nothing attached."""
    return type(tensor) in ORDINARY and not (tensor.__dict__ or is_irregular(tensor))
