"""Edits of the line that makes a layer: other arguments, or several layers in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import libcst as cst
from torch import nn

from torchgauge.advise.patch.source.calls import argument, arguments, code, made_call, with_argument
from torchgauge.advise.patch.source.names import layer
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Site, Sites
from torchgauge.advise.rules.grouped import GROUPS

Made = Callable[[Site, cst.Call, nn.Module, Mapping[str, Any], int], cst.BaseExpression]
"""What takes the place of a call: of the site, the call, its module, the rule's settings and the
number of the path among those of the change."""


def replace(sites: Sites, where: tuple[str, ...], settings: Mapping[str, Any], made: Made) -> None:
    """Put something else into the place of each constructor call.

    Raises:
        NoPatch: one of the layers is not made by such a call.
    """
    done = set()
    for number, path in enumerate(where):
        site = sites.of(path, where)
        if site.node in done:  # one line makes several, and all of them change
            continue
        done.add(site.node)
        module = sites.module(path)
        call = site.call_of(type(module))
        new = made(site, call, module, settings, number)
        site.file.put(call, new)


def identity(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return ``nn.Identity()``: the names of what stays do not move."""
    return cst.Call(func=layer("Identity", site.names))


def in_place(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return an activation that writes over its input."""
    return with_argument(call, type(module), "inplace", "True")


def without_bias(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return a layer without bias."""
    return with_argument(call, type(module), "bias", "False")


def in_groups(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return a convolution whose filters look at a fourth of the channels."""
    return with_argument(call, nn.Conv2d, "groups", str(GROUPS))


def strided(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return a convolution with a stride of two, and nothing for the pool after it."""
    if isinstance(module, nn.Conv2d):
        return with_argument(call, nn.Conv2d, "stride", "2")
    return identity(site, call, module, settings, number)


def half_as_wide(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return the first convolution with half of its filters, and what reads them likewise."""
    name = ("out_channels", "in_channels")[number] if number < 2 else "num_features"
    width = argument(call, type(module), name)
    if width is None:
        raise NoPatch("its channels are not passed")
    if isinstance(width, cst.Integer):
        return with_argument(call, type(module), name, str(width.evaluated_value // 2))
    is_plain = isinstance(width, (cst.Name, cst.Attribute))
    text = code(width) if is_plain else f"({code(width)})"
    return with_argument(call, type(module), name, f"{text} // 2")


def depthwise(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return a convolution of each channel, and one of 1 × 1 over all of them."""
    incoming, outgoing, bias = _channels(call)
    first = with_argument(call, nn.Conv2d, "out_channels", code(incoming))
    first = with_argument(first, nn.Conv2d, "groups", code(incoming))
    first = with_argument(first, nn.Conv2d, "bias", "False")
    second = _plain_call(call, [incoming, outgoing, cst.Integer("1")])
    if bias is not None:
        second = with_argument(second, nn.Conv2d, "bias", code(bias))
    return made_call(layer("Sequential", site.names), [first, second], site.file, call)


def small_kernels(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return several convolutions of 3 × 3 with activations between."""
    assert isinstance(module, nn.Conv2d)
    incoming, outgoing, bias = _channels(call)
    three, count = cst.Integer("3"), (module.kernel_size[0] - 1) // 2
    parts: list[cst.BaseExpression] = []
    for index in range(count):
        made = _plain_call(call, [incoming if index == 0 else outgoing, outgoing, three])
        stride = argument(call, nn.Conv2d, "stride")
        if index == 0 and stride is not None:
            made = with_argument(made, nn.Conv2d, "stride", code(stride))
        made = with_argument(made, nn.Conv2d, "padding", "1")
        if index == count - 1 and bias is not None:
            made = with_argument(made, nn.Conv2d, "bias", code(bias))
        if (mode := argument(call, nn.Conv2d, "padding_mode")) is not None:
            made = with_argument(made, nn.Conv2d, "padding_mode", code(mode))
        parts += [made] if index == count - 1 else [made, cst.Call(layer("ReLU", site.names))]
    return made_call(layer("Sequential", site.names), parts, site.file, call)


def low_rank(
    site: Site, call: cst.Call, module: nn.Module, settings: Mapping[str, Any], number: int
) -> cst.BaseExpression:
    """Return two narrow linear layers. Their weights are new: the file knows no others."""
    passed = arguments(call, nn.Linear)
    if not {"in_features", "out_features"} <= passed.keys():
        raise NoPatch("its sizes are not passed")
    rank = str(int(settings["ranks"][number]))
    first = with_argument(call, nn.Linear, "out_features", rank)
    first = with_argument(first, nn.Linear, "bias", "False")
    second = with_argument(call, nn.Linear, "in_features", rank)
    return made_call(layer("Sequential", site.names), [first, second], site.file, call)


def _channels(
    call: cst.Call,
) -> tuple[cst.BaseExpression, cst.BaseExpression, cst.BaseExpression | None]:
    incoming = argument(call, nn.Conv2d, "in_channels")
    outgoing = argument(call, nn.Conv2d, "out_channels")
    if incoming is None or outgoing is None:
        raise NoPatch("its channels are not passed")
    return incoming, outgoing, argument(call, nn.Conv2d, "bias")


def _plain_call(call: cst.Call, values: list[cst.BaseExpression]) -> cst.Call:
    """Return a call of the same class with these arguments, and with its device and dtype."""
    args = [cst.Arg(value=value) for value in values]
    for index in range(len(args) - 1):
        comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
        args[index] = args[index].with_changes(comma=comma)
    made = cst.Call(func=call.func, args=args)
    for name in ("device", "dtype"):
        if (value := argument(call, nn.Conv2d, name)) is not None:
            made = with_argument(made, nn.Conv2d, name, code(value))
    return made


_CHANGED: Final[dict[str, Made]] = {
    "bias-before-norm": without_bias,
    "depthwise-separable": depthwise,
    "grouped-convolution": in_groups,
    "in-place": in_place,
    "large-kernel": small_kernels,
    "low-rank": low_rank,
    "no-downsampling": strided,
    "repeated-activation": identity,
    "stride-earlier": strided,
    "wide-early-maps": half_as_wide,
}
_FIRST: Final = ("no-downsampling",)
"""Rules that name a row of layers and change the first of it."""


def edits_of(rule: str) -> Made | None:
    """Return how a rule changes a constructor call; ``None`` where it does something else."""
    return _CHANGED.get(rule)


def changed_by(rule: str, where: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules that a rule changes, of those that it names."""
    return where[:1] if rule in _FIRST else where
