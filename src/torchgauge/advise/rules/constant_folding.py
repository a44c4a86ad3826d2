"""What each forward computes again from parameters alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from torchgauge.advise.subject import Subject, in_code, put
from torchgauge.changes.change import Change
from torchgauge.facts.trace import ModuleCall, Role
from torchgauge.units import format_number_of

_OWN = (Role.PARAMETER, Role.BUFFER)
_HOOKS = ("WeightNorm", "SpectralNorm")
"""Classes of the hooks that ``nn.utils.weight_norm`` and ``spectral_norm`` set."""


class Constant(nn.Module):
    """Returns what a module without inputs has once computed."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        """Return the value, whatever comes in."""
        value: Tensor = self.get_buffer("value")
        return value


class ConstantFolding:
    """Find weights that are computed from others, and modules that read no input."""

    name = "constant-folding"
    about = "weights that each forward computes again from other parameters, at inference"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for the weights and one for the modules."""
        if subject.report.scenario.is_training:
            yield "in training the parameters change with each step"
            return
        weights = tuple(
            path
            for path, module in subject.modules.items()
            if parametrize.is_parametrized(module) or _hook_of(module) is not None
        )
        if weights:
            yield Change(
                rule=self.name,
                text=f"compute the weights of {format_number_of(len(weights), 'layer')} once",
                why="each forward computes them from parameters that no longer change",
                where=weights,
                source="PyTorch documentation, torch.nn.utils.parametrize.remove_parametrizations",
                snippet=tuple(
                    f"torch.nn.utils.parametrize.remove_parametrizations({code}, 'weight')"
                    for code in map(in_code, weights[:3])
                ),
                keeps_state=False,
            )
        constant = tuple(_constant(subject))
        if constant:
            yield Change(
                rule=self.name,
                text=f"keep the result of {format_number_of(len(constant), 'module')}",
                why="they read only parameters and buffers, and return the same each time",
                where=constant,
                settings={"calls": True},
                snippet=tuple(f"# register the result of {path} as a buffer" for path in constant),
                keeps_state=False,
            )
        if not weights and not constant:
            yield "no module computes what depends on parameters alone"

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Remove what computes a weight and keep the weight; or keep what a module returns."""
        for path in change.where:
            module = model.get_submodule(path)
            if change.settings.get("calls"):
                with torch.no_grad():
                    model = put(model, path, Constant(module.eval()()))
                continue
            _fold(module, path)
        return model


def _fold(module: nn.Module, path: str) -> None:
    """Give a layer its weight; in train mode a spectral norm would change its buffers for it."""
    hook, training = _hook_of(module), module.training
    module.eval()
    if hook is not None:
        getattr(hook[1], "remove")(module)  # noqa: B009  # each of the two classes has its own
        del module._forward_pre_hooks[hook[0]]
    elif parametrize.is_parametrized(module):
        names = list(module.parametrizations)  # type: ignore[arg-type]
        values = {name: getattr(module, name).detach() for name in names}
        del module._modules["parametrizations"]
        # remove_parametrizations would change the class, which the model shares with its copy.
        module.__class__ = type(module).__mro__[1]
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))
    else:
        raise ValueError(f"{path} has no weight that is computed")
    module.train(training)


def _hook_of(module: nn.Module) -> tuple[int, object] | None:
    """Return the hook that computes a weight before each forward, with its number."""
    found = (
        (number, hook)
        for number, hook in module._forward_pre_hooks.items()
        if type(hook).__name__ in _HOOKS
    )
    return next(found, None)


def _constant(subject: Subject) -> Iterator[str]:
    """Yield the outermost modules that are called without an argument and read no input."""
    found: list[str] = []
    for path, calls in subject.calls.items():
        inside = any(path.startswith(f"{other}.") for other in found)
        computes_a_weight = "parametrizations" in path.split(".")  # found by its layer
        if not path or inside or computes_a_weight:
            continue
        if len(calls) == 1 and _reads_only_its_own(subject, calls[0]):
            found.append(path)
            yield path


def _reads_only_its_own(subject: Subject, call: ModuleCall) -> bool:
    ops = subject.trace.ops[call.first_op : call.end_op]
    if call.inputs or len(call.outputs) != 1 or call.outputs[0].tensor is None or not ops:
        return False
    if any("rand" in op.name or "bernoulli" in op.name or "normal" in op.name for op in ops):
        return False
    storages = [subject.trace.storages[storage] for op in ops for storage in op.reads]
    return all(s.role in _OWN or s.op >= call.first_op for s in storages)
