"""An embedding and a head with the same values in two tensors: a copy has untied them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from torchgauge.advise.subject import Subject, in_code
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Fault
from torchgauge.units import format_integer


class UntiedCopy:
    """Find heads whose weight equals an embedding's, element by element."""

    name = "untied-copy"
    about = "an embedding and a head that hold the same values twice"

    def look(self, subject: Subject) -> Iterator[Change | Fault | str]:
        """Yield each pair: a fault, and the change that ties it."""
        if not any(_candidates(subject)):
            yield "no head has the shape of an embedding and a tensor of its own"
            return
        if subject.valued is None:
            yield "the weights are not there, so their values cannot be compared"
            return
        pairs = dict(copies(subject))
        if not pairs:
            yield "no head holds the values of an embedding"
        for path, embedding_path in pairs.items():
            head, embedding = in_code(path), in_code(embedding_path)
            yield Fault(
                rule=self.name,
                text=f"{path} and {embedding_path} were tied once and are two tensors now",
                where=(path,),
                code=subject.code_of(path),
                why="their values are equal; trained further, they grow apart",
                remedy=f"{head}.weight = {embedding}.weight",
            )
            size = subject.model.get_parameter(f"{path}.weight").numel()
            yield Change(
                rule=self.name,
                text=f"tie {path} to {embedding_path}",
                why=f"{format_integer(size)} values are stored twice",
                where=(path,),
                settings={"embedding": embedding_path},
                source="Press, Wolf, Using the Output Embedding, arXiv 1608.05859",
                snippet=(f"{head}.weight = {embedding}.weight",),
            )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Let the head hold the embedding's tensor."""
        (path,) = change.where
        head = model.get_submodule(path)
        embedding = model.get_submodule(change.settings["embedding"])
        if not isinstance(head, nn.Linear) or not isinstance(embedding, nn.Embedding):
            raise ValueError(f"{path} is not a head")
        head.weight = embedding.weight


def copies(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield each head that holds the values of an embedding in another tensor, with it."""
    if subject.valued is None:
        return
    for path, embedding_paths in _candidates(subject):
        weight = subject.valued.get_parameter(f"{path}.weight")
        for embedding_path in embedding_paths:
            if _is_copy(subject.valued.get_parameter(f"{embedding_path}.weight"), weight):
                yield path, embedding_path
                break


def _candidates(subject: Subject) -> Iterator[tuple[str, list[str]]]:
    """Yield each head with the embeddings that have its shape, and another tensor."""
    embeddings = [(p, layer) for p, layer in subject.of_type(nn.Embedding) if _owns_weight(layer)]
    for path, head in subject.of_type(nn.Linear):
        if not _owns_weight(head):
            continue
        same = [
            embedding_path
            for embedding_path, embedding in embeddings
            if embedding.weight is not head.weight
            and embedding.weight.shape == head.weight.shape
            and embedding.weight.dtype == head.weight.dtype
        ]
        if same:
            yield path, same


def _owns_weight(layer: nn.Module) -> bool:
    """Return whether the weight is a parameter, and not computed in each forward."""
    return isinstance(layer._parameters.get("weight"), nn.Parameter)


def _is_copy(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors hold the same values, which are not all alike."""
    if one is other or one.is_meta or other.is_meta or one.data_ptr() == other.data_ptr():
        return False
    few = one[:2].detach()  # random rows differ at once
    if not torch.equal(few, other[:2].detach()) or bool((few == few.flatten()[0]).all()):
        return False
    return torch.equal(one.detach(), other.detach())
