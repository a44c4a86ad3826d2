"""Control flow as operators: ``torch.cond``, ``switch``, ``while_loop``, ``map``, ``scan`` run.

PyTorch runs the functions of such an operator below autograd, out of sight of the recorder. Here
they run as the model's other code does, along the way that the values choose; where a value is
not known, the run has to be a real one.

Source of what runs, and of what is kept for the backward: the dense and the autograd
implementations in PyTorch's ``torch/_higher_order_ops`` (2.6–2.14). They keep the operands, and
run the function again in the backward; those of scans keep what the steps save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from torchgauge.trace.torch_internals.higher_order import scan_by_halves
from torchgauge.trace.torch_internals.structures import flatten_with_names, unflatten

Function: TypeAlias = Callable[..., Any]
Decide: TypeAlias = Callable[[torch.Tensor, str], Any]
"""Takes a tensor of one element and what depends on it; returns its value."""
_DIFFERENTIATED = (
    "the backward of {what} was taken as that of the functions that it runs; what PyTorch's own "
    "backward also keeps is not in the memory"
)


def control_flow(decide: Decide, assume: Callable[[str], None]) -> dict[str, Function]:
    """Return what runs instead of each higher-order operator, by its name.

    ``assume`` is told about operators that are differentiated.
    """

    def noted(what: str, run: Function) -> Function:
        def kernel(*args: Any, mutated_arg_indices: str = "", **kwargs: Any) -> Any:
            # What a function writes to (2.14) is written when it runs.
            result = run(*args, **kwargs)
            if torch.is_grad_enabled() and any(
                isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in _leaves(result)
            ):
                assume(_DIFFERENTIATED.format(what=what))
            return result

        return kernel

    return {
        "cond": noted("torch.cond", partial(_cond, decide)),
        "switch": noted("torch.switch", partial(_switch, decide)),
        "while_loop": noted("while_loop", partial(_while_loop, decide)),
        "map_impl": noted("map", _map),
        "scan": noted("scan", _scan),
        "associative_scan": noted("associative_scan", _associative_scan),
    }


def _cond(
    decide: Decide, predicate: Any, if_true: Function, if_false: Function, operands: Sequence[Any]
) -> Any:
    is_true = _truth(decide, predicate, "torch.cond")
    return _again_in_backward(if_true if is_true else if_false, *operands)


def _switch(
    decide: Decide, index: Any, branches: Sequence[Function], operands: Sequence[Any]
) -> Any:
    """Call the branch of an index (2.14), which has been brought into range already."""
    position = decide(index, "torch.switch") if isinstance(index, torch.Tensor) else index
    return _again_in_backward(branches[int(position)], *operands)


def _while_loop(
    decide: Decide,
    condition: Function,
    body: Function,
    carried: Sequence[Any],
    additional: Sequence[Any] = (),
    **options: Any,
) -> Any:
    """Call the body as long as the condition holds, with what it returned before."""
    leaves, result = list(carried), None
    while _truth(decide, condition(*leaves, *additional), "while_loop"):
        result = _again_in_backward(body, *leaves, *additional)
        leaves = _leaves(result)
    if result is None:
        return tuple(v.clone() if isinstance(v, torch.Tensor) else v for v in leaves)
    return result


def _truth(decide: Decide, predicate: Any, what: str) -> bool:
    return bool(decide(predicate, what) if isinstance(predicate, torch.Tensor) else predicate)


def _map(function: Function, mapped: Sequence[Any], shared: Sequence[Any]) -> Any:
    """Call the function for each slice along the first dimension, and stack what it returns."""
    slices = zip(*(tensor.unbind() for tensor in mapped), strict=True)
    outputs = [_again_in_backward(function, *values, *shared) for values in slices]
    return _with_structure(outputs[0], _stacked([_leaves(output) for output in outputs]))


def _scan(
    function: Function,
    carried: Sequence[Any],
    scanned: Sequence[Any],
    additional: Any = (),
    *others: Any,
) -> Any:
    """Call the function for each slice in turn, with what the call before has carried over.

    A function of an exported graph returns, and gets back, flat values; one that the model gives
    to ``scan`` returns the carried values and the outputs. Early releases scan along any
    dimension, in both directions; that is left to them.
    """
    if others or not isinstance(additional, (list, tuple)):
        return NotImplemented
    count, steps = len(carried), scanned[0].shape[0]
    state = list(carried)
    rows: list[list[Any]] = []
    collected = _Written(steps)
    for step in range(steps):
        result = function(*state, *(tensor.select(0, step) for tensor in scanned), *additional)
        values = _leaves(result)
        state = values[:count]
        if torch.is_grad_enabled():
            rows.append(values[count:])
        else:
            collected.add(step, values[count:])
    outputs = _stacked(rows) if rows else collected.outputs
    if isinstance(function, nn.Module):
        return (*state, *outputs)
    return _with_structure(result, [*state, *outputs])


class _Written:
    """Outputs of a scan, each written to its place in one tensor.

    Source: ``generic_scan`` in ``torch/_higher_order_ops/scan.py`` (2.6–2.13), with the indices.
    """

    def __init__(self, steps: int) -> None:
        self.outputs: list[Any] = []
        self._steps = steps
        self._indices: list[Any] = []

    def add(self, step: int, values: Sequence[Any]) -> None:
        """Write the outputs of one step."""
        if step == 0:
            self.outputs = [
                value
                if value is None
                else torch.empty(
                    [self._steps, *value.shape], dtype=value.dtype, device=value.device
                )
                for value in values
            ]
            self._indices = [
                None if value is None else torch.ones_like(value, dtype=torch.int64).unsqueeze(0)
                for value in values
            ]
        for output, index, value in zip(self.outputs, self._indices, values, strict=True):
            if value is not None:
                output.scatter_(0, step * index, value.unsqueeze(0))


def _associative_scan(
    function: Function, scanned: Sequence[Any], additional: Any = (), *others: Any
) -> Any:
    """Combine neighbours in pairs, as PyTorch does where no kernel is generated for it."""
    if others or not isinstance(additional, (list, tuple)):
        return NotImplemented
    outputs = scan_by_halves(function, scanned, additional)
    structure = getattr(function, "keywords", {}).get("spec")
    return outputs if structure is None else unflatten(outputs, structure)


def _again_in_backward(function: Function, *operands: Any) -> Any:
    """Call a function whose backward starts by running it again."""
    if not torch.is_grad_enabled():
        return function(*operands)
    return checkpoint(function, *operands, use_reentrant=False, preserve_rng_state=False)


def _leaves(value: Any) -> list[Any]:
    return flatten_with_names(value)[1]


def _with_structure(like: Any, leaves: Sequence[Any]) -> Any:
    return unflatten(leaves, flatten_with_names(like)[2])


def _stacked(rows: Sequence[Sequence[Any]]) -> list[Any]:
    columns = zip(*rows, strict=True)
    return [c[0] if not isinstance(c[0], torch.Tensor) else torch.stack(c) for c in columns]
