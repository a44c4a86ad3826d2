"""Products in float32 where the step computes in 16 bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from torchgauge.advise.flow import is_forward
from torchgauge.advise.rules.only_finds import named
from torchgauge.advise.rules.retraced import code_of, given_tensors, module_of
from torchgauge.advise.subject import Subject, in_code, put
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.precision import dtypes_of
from torchgauge.facts.scenario import Precision
from torchgauge.units import format_number_of

_PRODUCTS: Final = (
    "aten.mm.", "aten.addmm.", "aten.bmm.", "aten.baddbmm.", "aten.convolution.",
    "aten._scaled_dot_product",
)  # fmt: skip
_HALVES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_LEAST_SHARE: Final = 0.05
"""Of the step's peak, in a tensor that is cast to float32."""
_SOURCE: Final = "Micikevicius et al., Mixed Precision Training, arXiv 1710.03740"
_ROUNDED: Final = "weights and products of these layers are rounded to 16 bits"


class Fp32Islands:
    """Find modules that multiply in float32 inside a step that computes in 16 bits."""

    name = "fp32-islands"
    about = "products and large tensors in float32 inside a step that computes in 16 bits"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for layers with weights in float32, and one for code that casts."""
        dtype = _dtype_of(subject)
        if dtype is None:
            yield "the step does not compute in 16 bits"
            return
        islands = _islands(subject) | _large_casts(subject)
        if not islands:
            yield "every product and every large tensor has 16 bits"
            return
        layers = [path for path in sorted(islands) if _is_layer(subject.modules.get(path))]
        if layers:
            yield self._change(
                f"keep {format_number_of(len(layers), 'layer')} in {dtype} as the others are",
                "products with float32 weights take twice the memory and do not use the 16-bit "
                "tensor cores",
                tuple(layers),
                tuple(f"{in_code(path)}.to(torch.{dtype})" for path in layers[:3]),
                {"dtype": dtype},
            )
        found, given = [], []
        for path in sorted(islands - set(layers)):
            call = subject.only_call(path)
            module = subject.modules.get(path)
            if call is None or module is None:
                yield f"{named(path)} computes in float32 and is called more than once"
                continue
            arguments = given_tensors(call)
            try:
                _without_casts(module, arguments)
            except Exception as error:  # whatever the module's code does with a proxy
                said = next(iter(str(error).splitlines()), "")
                yield f"{named(path)} computes in float32 and cannot be changed: {said}"
                continue
            found.append(path)
            given.append(list(arguments))
        if found:
            yield self._change(
                f"leave out the casts to float32 in {format_number_of(len(found), 'module')}",
                "float32 takes twice the memory, and its products do not use the 16-bit tensor "
                "cores",
                tuple(found),
                ("# in forward: no .float(), no autocast(enabled=False) around products",),
                {"given": given},
            )

    def _change(
        self,
        text: str,
        why: str,
        where: tuple[str, ...],
        snippet: tuple[str, ...],
        settings: dict[str, Any],
    ) -> Change:
        return Change(
            rule=self.name,
            text=text,
            why=why,
            where=where,
            settings=settings,
            accuracy=Accuracy.SMALL,
            cost=_ROUNDED,
            source=_SOURCE,
            snippet=snippet,
        )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Cast the layers; what they get is cast for them, and what they return is cast back.

        Modules whose code casts run their own graph without it.
        """
        if "given" in change.settings:
            for path, given in zip(change.where, change.settings["given"], strict=True):
                new = _without_casts(model.get_submodule(path), tuple(given))
                model = put(model, path, new)
            return model
        dtype = _HALVES[change.settings["dtype"]]
        for path in change.where:
            module = model.get_submodule(path)
            for name, tensor in list(module.named_parameters(recurse=False)):
                cast = nn.Parameter(tensor.detach().to(dtype), tensor.requires_grad)
                module.register_parameter(name, cast)
            module.register_forward_pre_hook(Cast(dtype))
            module.register_forward_hook(Cast(torch.float32))
        return model


class Cast:
    """A hook that casts the floating-point tensors which a module gets or returns."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, given: Any, output: Any = None) -> Any:
        """Return the arguments cast, or the output."""
        return self._cast(given if output is None else output)

    def _cast(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(self.dtype) if value.is_floating_point() else value
        if isinstance(value, (tuple, list)):
            return type(value)(self._cast(item) for item in value)
        return value


def _dtype_of(subject: Subject) -> str | None:
    """Return the 16-bit dtype that the step computes in: autocast's, or that of most parameters."""
    if (autocast := Precision(subject.report.scenario.precision).autocast_dtype) is not None:
        return autocast
    dtypes = dtypes_of(subject.report)
    return dtypes[0] if dtypes and dtypes[0] in _HALVES else None


def _islands(subject: Subject) -> set[str]:
    """Return the modules that multiply in float32 in the forward, by their paths."""
    return {
        subject.path_of(op)
        for op in subject.trace.ops
        if op.name.startswith(_PRODUCTS) and is_forward(op) and op.call >= 0
        and op.outputs and op.outputs[0].dtype == "float32"
    }  # fmt: skip


def _large_casts(subject: Subject) -> set[str]:
    """Return the modules that make a large float32 tensor of one of 16 bits, such as logits."""
    memory = subject.report.memory
    least = _LEAST_SHARE * memory.peak_allocated_bytes if memory is not None else 0.0
    return {
        subject.path_of(op)
        for op in subject.trace.ops
        if op.name.startswith("aten._to_copy.") and is_forward(op) and op.call >= 0
        and op.outputs and op.outputs[0].dtype == "float32" and op.outputs[0].nbytes >= least
        and _is_code(subject.modules.get(subject.path_of(op)))
    }  # fmt: skip


def _is_code(module: nn.Module | None) -> bool:
    return module is not None and type(module).__module__.partition(".")[0] != "torch"


def _is_layer(module: nn.Module | None) -> bool:
    """Return whether a module multiplies with weights that themselves are float32."""
    if module is None or _is_code(module):
        return False
    own = list(module.parameters(recurse=False))
    return bool(own) and all(tensor.dtype is torch.float32 for tensor in own)


def _without_casts(module: nn.Module, given: tuple[str, ...]) -> fx.GraphModule:
    """Return a module whose own code casts nothing to float32.

    Contexts such as ``autocast(enabled=False)`` act while the code is traced: the graph has none.

    Raises:
        ValueError: there is no cast.
    """
    code = code_of(module, given)
    graph = code.graph
    casts = [node for node in graph.nodes if _is_cast(node)]
    has_context = "autocast" in module.forward.__code__.co_names
    if not casts and not has_context:
        raise ValueError("its code has no cast to float32")
    for node in casts:
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
    return module_of(module, code)


def _is_cast(node: fx.Node) -> bool:
    if node.op != "call_method" or node.target not in ("float", "to", "type"):
        return False
    asked = (*node.args[1:], *node.kwargs.values())
    return node.target == "float" or (len(asked) == 1 and asked[0] is torch.float32)
