"""The lines of Python that fold batch norms into the layers before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_KINDS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def folding_lines(
    model: nn.Module,
    pairs: Mapping[str, str],
    *,
    this: str = "model",
    where: str = "torch.nn",
    width: int = 88,
) -> tuple[str, ...]:
    """Return the lines that fold each norm into its layer; the model has to be in eval mode.

    They name children (``conv1``, ``bn1``) where that means the same pairs, so that they hold for
    any depth, and whole paths otherwise.

    Args:
        model: that holds the layers.
        pairs: the path of the norm of each layer.
        this: what the code calls the model.
        where: how the code reaches ``torch.nn``.
        width: of the longest line.

    Raises:
        ValueError: a layer has several names, and the code would replace it under one of them.
    """
    _refuse_shared(model, pairs)
    kinds = {type(model.get_submodule(norm)) for norm in pairs.values()}
    names = _names_of(model, pairs)
    fuse = [*_choice_of_function(model, pairs, where)]
    if names is None or not kinds <= set(_KINDS):
        # ``BatchNormAct2d`` of timm holds what it does besides as its children.
        others = any(any(True for _ in model.get_submodule(n).children()) for n in pairs.values())
        rest = f"{where}.Sequential(*both[1].children())" if others else f"{where}.Identity()"
        return (
            *_listed("pairs", list(pairs.items()), width),
            "for layer, norm in pairs:",
            f"    both = {this}.get_submodule(layer), {this}.get_submodule(norm)",
            *(f"    {line}" for line in fuse[:-1]),
            f"    {this}.set_submodule(layer, {fuse[-1]}(*both))",
            f"    {this}.set_submodule(norm, {rest})",
        )
    written = [f"{where}.{kind.__name__}" for kind in _KINDS if kind in kinds]
    kind = written[0] if len(written) == 1 else f"({', '.join(written)})"
    return (
        *_listed("pairs", names, width),
        f"for module in list({this}.modules()):",
        "    for layer, norm in pairs:",
        f"        if isinstance(getattr(module, norm, None), {kind}):",
        "            both = getattr(module, layer), getattr(module, norm)",
        *(f"            {line}" for line in fuse[:-1]),
        f"            setattr(module, layer, {fuse[-1]}(*both))",
        f"            setattr(module, norm, {where}.Identity())",
    )


def _refuse_shared(model: nn.Module, pairs: Mapping[str, str]) -> None:
    wanted = {id(model.get_submodule(path)): path for both in pairs.items() for path in both}
    names = Counter(
        id(module)
        for _, module in model.named_modules(remove_duplicate=False)
        if id(module) in wanted
    )
    for found, count in names.items():
        if count > 1:
            raise ValueError(f"{wanted[found]} has {count} names in the model")


def _choice_of_function(model: nn.Module, pairs: Mapping[str, str], where: str) -> Iterator[str]:
    """Yield the lines that choose the function that folds ``both``, and its name last."""
    linear, convolution = f"{where}.utils.fuse_linear_bn_eval", f"{where}.utils.fuse_conv_bn_eval"
    are_linear = {isinstance(model.get_submodule(layer), nn.Linear) for layer in pairs}
    if len(are_linear) == 1:
        yield linear if True in are_linear else convolution
        return
    yield f"fuse = {convolution}"
    yield f"if isinstance(both[0], {where}.Linear):"
    yield f"    fuse = {linear}"
    yield "fuse"


def _names_of(model: nn.Module, pairs: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """Return the names of the children of each pair; ``None`` where they mean other pairs too."""
    split = [(layer.rpartition("."), norm.rpartition(".")) for layer, norm in pairs.items()]
    if any(layer[0] != norm[0] for layer, norm in split):
        return None
    names = list(dict.fromkeys((layer[2], norm[2]) for layer, norm in split))
    return names if sorted(_meant(model, names)) == sorted(pairs.items()) else None


def _meant(model: nn.Module, names: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for path, module in model.named_modules():
        for layer, norm in names:
            if isinstance(getattr(module, norm, None), _BatchNorm):
                yield f"{path}.{layer}".lstrip("."), f"{path}.{norm}".lstrip(".")


def _listed(name: str, pairs: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Return the assignment of a list of pairs, several to a line."""
    items = [f'("{layer}", "{norm}")' for layer, norm in pairs]
    short = f"{name} = [{', '.join(items)}]"
    if len(short) <= width:
        return [short]
    text = " ".join(f"{item},".replace(" ", "\0") for item in items)  # no break inside of a pair
    lines = wrap(text, width - 4, break_long_words=False, break_on_hyphens=False)
    return [f"{name} = [", *(f"    {line}".replace("\0", " ") for line in lines), "]"]
