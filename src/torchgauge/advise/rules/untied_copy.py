"""An embedding and a head with the same values in two tensors: a copy has untied them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Fault
from torchgauge.units import format_integer


class UntiedCopy:
    """Find heads whose weight equals an embedding's, element by element."""

    name = "untied-copy"
    about = "an embedding and a head that hold the same values twice"

    def look(self, subject: Subject) -> Iterator[Change | Fault | str]:
        """Yield each pair: a fault, and the change that ties it."""
        embeddings = list(subject.of_type(nn.Embedding))
        for path, head in subject.of_type(nn.Linear):
            for embedding_path, embedding in embeddings:
                if not _is_copy(embedding.weight, head.weight):
                    continue
                yield Fault(
                    rule=self.name,
                    text=f"{path} and {embedding_path} were tied once and are two tensors now",
                    where=(path,),
                    code=subject.code_of(path),
                    why="their values are equal; trained further, they grow apart",
                    remedy=f"model.{path}.weight = model.{embedding_path}.weight",
                )
                yield Change(
                    rule=self.name,
                    text=f"tie {path} to {embedding_path}",
                    why=f"{format_integer(head.weight.numel())} values are stored twice",
                    where=(path,),
                    settings={"embedding": embedding_path},
                    source="Press, Wolf, Using the Output Embedding, arXiv 1608.05859",
                    snippet=(f"model.{path}.weight = model.{embedding_path}.weight",),
                )
                break

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Let the head hold the embedding's tensor."""
        (path,) = change.where
        head = model.get_submodule(path)
        embedding = model.get_submodule(change.settings["embedding"])
        if not isinstance(head, nn.Linear) or not isinstance(embedding, nn.Embedding):
            raise ValueError(f"{path} is not a head")
        head.weight = embedding.weight


def _is_copy(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors hold the same values, which are not all alike."""
    if one is other or one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.is_meta or other.is_meta or one.data_ptr() == other.data_ptr():
        return False
    few = one[:2].detach()  # random rows differ at once
    if not torch.equal(few, other[:2].detach()) or bool((few == few.flatten()[0]).all()):
        return False
    return torch.equal(one.detach(), other.detach())
