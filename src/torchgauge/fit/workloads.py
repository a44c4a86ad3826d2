"""What is run: a model on its inputs, or a language model that generates."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from torchgauge.changes.lora import adapt
from torchgauge.errors import MissingExtraError, UsageError
from torchgauge.facts.trace import Role, StorageRecord, Trace
from torchgauge.fit.variants import Variant, VariantError, resized
from torchgauge.trace.copy.converters import MetaConverter
from torchgauge.trace.copy.meta_copy import ModelCopy
from torchgauge.trace.inputs.plan import InputPlan, InputTensor


@dataclass(slots=True, kw_only=True)
class PlainRun:
    """The model on its inputs."""

    model: nn.Module
    plan: InputPlan
    steps: int | None = None
    _adapted: nn.Module | None = None

    def arguments(self, variant: Variant) -> tuple[nn.Module, InputPlan]:
        """Return the model or its copy with adapters, and the inputs of that batch size."""
        plan: InputPlan | None = self.plan
        if variant.batch is not None:
            plan = resized(self.plan, variant.batch)
        if plan is None:
            raise VariantError(UsageError("no input has a batch dimension to change"))
        if not variant.lora:
            return self.model, plan
        if self._adapted is None:
            copied = ModelCopy(self.model, MetaConverter()).root
            adapt(copied)
            self._adapted = copied
        return self._adapted, plan


class Generation(nn.Module):
    """Read a prompt, then make one token: what a language model does at its longest.

    The prompt is one token shorter than the context, so that the cache ends up with all of it.
    """

    def __init__(self, model: nn.Module, kind: str, context: int) -> None:
        super().__init__()
        self.model = model
        self._kind = kind
        self._context = context

    def forward(self, prompt: torch.Tensor, token: torch.Tensor) -> dict[str, Any]:
        """``[B, context - 1]`` and ``[B, 1]`` token numbers → the cache and ``[B, 1, V]``."""
        keywords: dict[str, Any] = {"use_cache": True, "past_key_values": self._cache()}
        if "logits_to_keep" in inspect.signature(type(self.model).forward).parameters:
            keywords["logits_to_keep"] = 1  # as generate() asks for it
        cache = self.model(input_ids=prompt, **keywords).past_key_values
        keywords["past_key_values"] = cache
        output = self.model(input_ids=token, **keywords)
        return {"cache": _tensors(output.past_key_values, self.model), "logits": output.logits}

    def _cache(self) -> Any:
        from transformers import DynamicCache, StaticCache

        config = self.model.config
        if self._kind == "static":
            return StaticCache(config=config, max_cache_len=self._context)
        return DynamicCache(config=config)


@dataclass(slots=True, kw_only=True)
class GenerationRun:
    """A language model of transformers that fills its cache once."""

    model: nn.Module
    kind: str
    steps: int | None = 1
    _known: dict[int, nn.Module] = field(default_factory=dict)

    def arguments(self, variant: Variant) -> tuple[nn.Module, InputPlan]:
        """Return the model inside of a generation, and its prompt and next token."""
        assert variant.batch is not None and variant.context is not None
        if variant.context not in self._known:
            self._known[variant.context] = Generation(self.model, self.kind, variant.context)
        inputs = tuple(
            InputTensor(
                name=name, keyword=False, shape=(variant.batch, length), dtype=torch.int64,
                is_guess=False,
            )
            for name, length in (("prompt", variant.context - 1), ("token", 1))
        )  # fmt: skip
        plan = InputPlan(args=inputs, kwargs={}, batch_size=variant.batch)
        return self._known[variant.context], plan

    @staticmethod
    def with_cache_as_output(trace: Trace) -> Trace:
        """Return the trace with what the first forward leaves behind as outputs.

        The second replaces the keys and values of a dynamic cache, so the recorder takes those
        of the first for temporaries. Weights that autocast keeps in 16 bits are none of them.
        """
        first = next(call for call in trace.calls if call.path == "model")
        alive: set[int] = set()
        for event in trace.events[first.first_event : first.end_event]:
            (alive.discard if event.is_free else alive.add)(event.storage)
        storages = tuple(
            replace(storage, role=Role.OUTPUT)
            if storage.index in alive
            and storage.role is Role.TEMPORARY
            and not _is_cast_weight(trace, storage)
            else storage
            for storage in trace.storages
        )
        return replace(trace, storages=storages)


def _is_cast_weight(trace: Trace, storage: StorageRecord) -> bool:
    """Return whether a storage holds a parameter in another dtype."""
    if storage.op < 0 or trace.ops[storage.op].name != "aten._to_copy.default":
        return False
    reads = trace.ops[storage.op].reads
    return all(trace.storages[index].role is Role.PARAMETER for index in reads)


def check_generates(model: nn.Module, context: int) -> None:
    """Check that a model keeps keys and values in a cache of transformers.

    Raises:
        UsageError: it does not, or the context is too short.
        MissingExtraError: transformers is not installed.
    """
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "the KV cache is the one of transformers, which is not installed",
            hint='pip install "torchgauge[hf]"',
        ) from error
    parameters = inspect.signature(model.forward).parameters
    if not {"input_ids", "past_key_values"} <= set(parameters) or not hasattr(model, "config"):
        raise UsageError(
            f"{type(model).__name__} keeps no KV cache",
            hint="a context needs a language model of transformers, such as hf:llama",
        )
    if context < 2:
        raise UsageError(
            f"a context of {context} has no room for a prompt and a token", hint="use 2 or more"
        )


def longest_context(model: nn.Module) -> int | None:
    """Return the positions that the model has, ``None`` where it does not say."""
    config: Any = model.config
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    found = getattr(text, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _tensors(cache: Any, model: nn.Module) -> list[dict[str, torch.Tensor]]:
    """Return the tensors of a cache, layer by layer, by their names."""
    layers = getattr(cache, "layers", None)
    if layers is None:
        raise UsageError(
            f"{type(model).__name__} returned no KV cache",
            hint="a context needs a model that generates: one with a language model's head",
        )
    return [_kept(vars(layer)) for layer in layers]


def _kept(fields: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    tensors = {name: v for name, v in fields.items() if isinstance(v, torch.Tensor)}
    return {name: tensor for name, tensor in tensors.items() if tensor.dim() > 0}
