"""What a named precision casts: the parameters and buffers of a model, and its inputs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from torchgauge.facts.scenario import Precision, Scenario
from torchgauge.facts.trace import ModuleInfo
from torchgauge.trace.inputs.plan import InputPlan, InputTensor
from torchgauge.trace.inspect.describe import dtype_named, tensors_in
from torchgauge.trace.inspect.modules import tensors_of


class Casting:
    """The dtypes that a scenario gives to the tensors of a model and of its inputs.

    Casts what ``model.float()``, ``.bfloat16()`` and ``.half()`` do, which are registered
    parameters and buffers of floating-point numbers: no other attribute, and no integers.
    Quantized parameters of one byte a number stay; those with tensors inside cast themselves.
    Autocast's float32 weights leave float64 as it is, which autocast never casts
    (``is_eligible`` in PyTorch's ``aten/src/ATen/autocast_mode.h``).
    """

    def __init__(self, scenario: Scenario, model: nn.Module, plan: InputPlan) -> None:
        precision = Precision(scenario.precision)
        self.precision = precision
        self.dtype = dtype_named(precision.parameter_dtype)
        self._stays = torch.float64 if precision.autocast_dtype is not None else None
        self._dtypes: dict[int, torch.dtype] = {}
        if self.dtype is not None:
            for tensors in tensors_of(model):
                self._note(tensors, self.dtype)
        input_dtype = dtype_named(precision.input_dtype)
        if input_dtype is not None:
            self._note(tensors_in((*plan.args, *plan.kwargs.values())), input_dtype)

    def __call__(self, tensor: torch.Tensor) -> torch.dtype:
        """Return the dtype of a tensor's copy."""
        return self._dtypes.get(id(tensor), tensor.dtype)

    def follow(self, original: torch.Tensor, copied: torch.Tensor) -> None:
        """Give a tensor that stands for another one its dtype; it must stay alive."""
        if id(original) in self._dtypes:
            self._dtypes[id(copied)] = self._dtypes[id(original)]

    def add(self, restored: torch.Tensor) -> None:
        """Take in a parameter or buffer that the model had before it was wrapped."""
        if self.dtype is not None:
            self._note((restored,), self.dtype)

    def made(self, planned: InputTensor) -> InputTensor:
        """Return an input that is made from its size, in the dtype that the model has."""
        is_guess = planned.is_guess and planned.dtype.is_floating_point
        if self.dtype is None or planned.dtype is self._stays or not is_guess:
            return planned
        return planned.with_dtype(self.dtype)

    def script(self, scripted: nn.Module) -> None:
        """Cast a scripted module in place; its own tensors have no identity in Python."""
        dtype = self.dtype
        if dtype is not None:
            scripted._apply(lambda tensor: tensor.to(dtype) if self._is_cast(tensor) else tensor)

    def left_out(self, modules: Iterable[ModuleInfo]) -> tuple[str, ...]:
        """Return the assumption on parameters that stay in their own dtype, if there are any."""
        if self.dtype is None:
            return ()
        wanted = str(self.dtype).removeprefix("torch.")
        dtypes = sorted(
            {
                info.dtype
                for module in modules
                for info in module.parameters
                if not info.is_buffer and info.dtype != wanted
            }
        )
        if not dtypes:
            return ()
        return (f"precision {self.precision}: parameters in {', '.join(dtypes)} are not cast",)

    def _note(self, tensors: Iterable[torch.Tensor], dtype: torch.dtype) -> None:
        for tensor in tensors:
            if self._is_cast(tensor):
                self._dtypes[id(tensor)] = dtype

    def _is_cast(self, tensor: torch.Tensor) -> bool:
        dtype = tensor.dtype
        if not dtype.is_floating_point or dtype.itemsize == 1 or dtype is self._stays:
            return False
        return getattr(tensor, "quant_state", None) is None
