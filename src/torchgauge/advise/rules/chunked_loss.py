"""Cross-entropy over a vocabulary, a few tokens at a time: never all logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from torchgauge.advise.rules.only_finds import named
from torchgauge.advise.rules.own_loss import with_parts
from torchgauge.advise.rules.retraced import given_tensors
from torchgauge.advise.subject import Subject, put
from torchgauge.changes.change import Change
from torchgauge.facts.trace import OpRecord
from torchgauge.units import format_bytes

_CHUNKS = 8
_LEAST_SHARE = 0.05
"""Of the step's peak, in the logits in float32."""
_SOURCE = "Wijmans et al., Cut Your Losses, arXiv 2411.09009"
_CASTS = ("aten._to_copy.", "aten.clone.", "aten.slice.", "aten.constant_pad_nd.")


class HeadInChunks(nn.Linear):
    """A head that leaves its product to the loss where a loss is computed in training."""

    def forward(self, input: Tensor) -> Tensor:
        """Return logits; in training, the hidden states that go in."""
        return input if self.training else self.logits(input)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``[…, V]`` for hidden states ``[…, H]``."""
        return F.linear(hidden, self.weight, self.bias)


class OutputOfHead:
    """A hook of the whole model: hidden states do not leave it as logits."""

    def __init__(self, head: HeadInChunks) -> None:
        self.head = head

    def __call__(self, module: nn.Module, given: Any, output: Any) -> Any:
        """Return an output without logits where there is a loss, else with them."""
        if not self.head.training or not hasattr(output, "logits"):
            return output
        has_loss = getattr(output, "loss", None) is not None
        return type(output)(
            **{**output, "logits": None if has_loss else self.head.logits(output.logits)}
        )


class LossInChunks:
    """Logits and loss of the next token, for a part of the tokens at a time.

    The logits of a part are recomputed in the backward, so one part of them is alive at once.
    """

    def __init__(self, head: HeadInChunks, whole: Any, chunks: int) -> None:
        self.head, self.whole, self.chunks = (head,), whole, chunks  # not a module of its own

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        vocab_size: int,
        num_items_in_batch: Tensor | int | None = None,
        ignore_index: int = -100,
        shift_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the mean loss; ``logits`` are the hidden states ``[B, S, H]`` in training."""
        (head,) = self.head
        if not head.training:
            loss: Tensor = self.whole(
                logits, labels, vocab_size, num_items_in_batch, ignore_index, shift_labels,
                **kwargs,
            )  # fmt: skip
            return loss
        if shift_labels is None:
            shift_labels = F.pad(labels, (0, 1), value=ignore_index)[..., 1:]
        hidden, targets = logits.flatten(0, -2), shift_labels.reshape(-1)
        count: Any = num_items_in_batch
        if count is None:
            count = (targets != ignore_index).sum()

        def part(states: Tensor, wanted: Tensor) -> Tensor:
            found = head.logits(states).float()
            return F.cross_entropy(found, wanted, ignore_index=ignore_index, reduction="sum")

        total = hidden.new_zeros((), dtype=torch.float32)
        pairs = zip(hidden.chunk(self.chunks), targets.chunk(self.chunks), strict=True)
        for states, wanted in pairs:
            total = total + checkpoint(part, states, wanted, use_reentrant=False)
        mean: Tensor = total / count
        return mean


class ChunkedLoss:
    """Find a model with a loss of its own whose logits over the vocabulary are large."""

    name = "chunked-loss"
    about = "cross-entropy that keeps the logits of all tokens over a whole vocabulary"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change."""
        op = next(
            (op for op in subject.trace.ops if op.name.startswith("aten._log_softmax.")), None
        )
        memory = subject.report.memory
        if not subject.report.scenario.is_training or op is None or memory is None:
            yield "the step has no cross-entropy"
            return
        logits_bytes = 4 * op.outputs[0].numel
        if logits_bytes < _LEAST_SHARE * memory.peak_allocated_bytes:
            yield "the logits take less than 5 % of the peak"
            return
        why = (
            f"the logits of all tokens take {format_bytes(logits_bytes)} in float32, "
            "and several copies of them are alive at once"
        )
        if hasattr(subject.model, "loss_function"):
            yield from self._of_transformers(subject, op, why)
        else:
            yield from self._of_own_code(subject, op, why)

    def _of_own_code(self, subject: Subject, op: OpRecord, why: str) -> Iterator[Change | str]:
        call = None if op.call < 0 else subject.trace.calls[op.call]
        if call is not None and isinstance(subject.modules.get(call.path), nn.CrossEntropyLoss):
            call = subject.trace.calls[call.parent] if call.parent >= 0 else None
        if call is None or subject.only_call(call.path) is None:
            yield "the loss is not computed by the model"
            return
        given = given_tensors(call)
        try:
            with_parts(subject.modules[call.path], given, _CHUNKS)
        except Exception as error:  # whatever the module's code does with a proxy
            said = next(iter(str(error).splitlines()), "")
            yield f"{named(call.path)} cannot be changed: {said}"
            return
        yield Change(
            rule=self.name,
            text=f"compute the loss in {_CHUNKS} parts, with their logits",
            why=why,
            where=(call.path,),
            settings={"chunks": _CHUNKS, "given": list(given)},
            cost="the head multiplies again in the backward",
            source=_SOURCE,
            snippet=(
                f"for h, t in zip(hidden.chunk({_CHUNKS}), targets.chunk({_CHUNKS})):",
                "    loss += torch.utils.checkpoint.checkpoint(head_and_loss, h, t, "
                "use_reentrant=False)",
            ),
        )

    def _of_transformers(self, subject: Subject, op: OpRecord, why: str) -> Iterator[Change | str]:
        path = _head(subject, op)
        if path is None:
            yield "the loss is not right after a linear head"
            return
        if getattr(subject.model.loss_function, "__name__", "") != "ForCausalLMLoss":
            yield "the loss is not that of the next token"
            return
        yield Change(
            rule=self.name,
            text=f"compute the loss in {_CHUNKS} parts, with their logits",
            why=why,
            where=(path,),
            settings={"chunks": _CHUNKS},
            cost="the head multiplies again in the backward; in training the output has a loss "
            "and no logits",
            source=_SOURCE,
            snippet=(
                "# pip install liger-kernel does the same in one kernel:",
                "liger_kernel.transformers.apply_liger_kernel_to_llama("
                "fused_linear_cross_entropy=True)",
            ),
            keeps_outputs=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Replace the head by one that waits, and the loss by one that asks it."""
        (path,) = change.where
        if "given" in change.settings:
            given = tuple(change.settings["given"])
            new_owner = with_parts(model.get_submodule(path), given, change.settings["chunks"])
            return put(model, path, new_owner)
        old: Any = model.get_submodule(path)
        if type(old) is not nn.Linear or not hasattr(model, "loss_function"):
            raise ValueError(f"{path} is not the head of a model of transformers")
        with torch.device("meta"):
            new = HeadInChunks(old.in_features, old.out_features, old.bias is not None)
        new.weight, new.bias = old.weight, old.bias
        whole: Any = model.loss_function
        model.loss_function = LossInChunks(  # type: ignore[assignment]
            new, whole, change.settings["chunks"]
        )
        model.register_forward_hook(OutputOfHead(new))
        return put(model, path, new.train(old.training))


def _head(subject: Subject, loss: OpRecord) -> str | None:
    """Return the linear layer that made the logits of a loss, through casts and slices alone."""
    storage = loss.reads[0]
    for op in reversed(subject.trace.ops[: loss.index]):
        if op.is_view or storage not in op.writes:
            continue
        path = subject.path_of(op)
        if type(subject.modules.get(path)) is nn.Linear:
            return path
        if not op.name.startswith(_CASTS) or not op.reads:
            return None
        storage = op.reads[0]
    return None
