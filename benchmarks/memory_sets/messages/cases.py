"""The runs of ``runs.csv`` as cases: facts with the address of the public text that states them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.memory_sets.cases import Measured, MemoryCase, NotPredicted, TensorSpec, image
from benchmarks.memory_sets.messages import models
from benchmarks.memory_sets.vision import torchvision_model
from torchgauge.devices.tables import rows
from torchgauge.facts.scenario import Scenario
from torchgauge.units import parse_bytes

RUNS = Path(__file__).with_name("runs.csv")
LEFT_OUT = Path(__file__).with_name("left-out.csv")
OLDEST = "2.6"
"""The oldest release whose allocator is known; it stands for those before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The numbers of an out-of-memory message, as far as the text has them."""

    tried: str
    """As printed, since the rounding is the message's."""
    allocated_bytes: int | None
    limit_bytes: int | None
    """What the allocator held and could still get: reserved and free."""
    text: str
    """The message itself, as PyTorch 1.5 words it; empty where the source has not all numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRun:
    """A case, the text that it comes from, and what is to be compared."""

    case: MemoryCase
    source: str
    message: Message | None
    """Of a run that failed."""
    peaks: Mapping[Measured, int]
    """Of a run that ended: its figures."""
    steps: int | None
    """How often it was repeated, where that is not what a training loop does."""
    note: str


# ------------------------------------------------------------------------------ models and inputs

Inputs = Callable[[int, str], tuple[TensorSpec, ...]]
Model = tuple[partial[nn.Module], Inputs]


def _ids(name: str, *shape: int, fill: int = 1) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, dtype="int64", fill=fill)


def _tokens(*more: str, mask: bool = True) -> Inputs:
    """Return inputs of a language model; ``more`` are of the length of the ids, or end in ``*``."""

    def inputs(batch: int, size: str) -> tuple[TensorSpec, ...]:
        found = [_ids("input_ids", batch, int(size))]
        if mask:
            found.append(TensorSpec(name="attention_mask", shape=(batch, int(size)),
                                    dtype="int64", fill=1, padded=True))  # fmt: skip
        for name in more:
            shape = (batch,) if name.endswith("*") else (batch, int(size))
            found.append(_ids(name.removesuffix("*"), *shape, fill=0))
        return tuple(found)

    return inputs


def _volume(dtype: str) -> Inputs:
    def inputs(_: int, size: str) -> tuple[TensorSpec, ...]:
        return (TensorSpec(shape=tuple(map(int, size.split("x"))), dtype=dtype),)

    return inputs


def _images(batch: int, size: str) -> tuple[TensorSpec, ...]:
    return image(batch, int(size))


_BERT_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
               "intermediate_size": 4096}  # fmt: skip
_ROBERTA = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1,
            "pad_token_id": 1, "layer_norm_eps": 1e-5}  # fmt: skip
_GPT_NEO = {"num_layers": 12, "attention_types": [[["global", "local"], 6]], "hidden_size": 768,
            "num_heads": 12, "max_position_embeddings": 2048, "vocab_size": 50_257}  # fmt: skip
_LLAMA = {"vocab_size": 32_000}
_ANSWERS = _tokens("token_type_ids", "start_positions*", "end_positions*")
_CAUSAL = _tokens("labels")
_PLAIN = _tokens("labels", mask=False)


def _made(inputs: Inputs, maker: Callable[..., nn.Module], *args: Any, **settings: Any) -> Model:
    return partial(maker, *args, **settings), inputs


def _hub(config: str, model: str, inputs: Inputs, **settings: Any) -> Model:
    return _made(inputs, models.of_transformers, config, model, **settings)


def _gpt(size: models.GptSize, attention: str, **settings: Any) -> Model:
    return _made(_PLAIN, models.Gpt, size, attention, **settings)


MODELS: Mapping[str, Model] = {
    "gpt2 early 2020": _gpt(models.GPT2, "multiply"),
    "gpt2 late 2020": _gpt(models.GPT2, "where"),
    "nanogpt gpt2-large": _gpt(models.GPT2_LARGE, "fused", dropout=0.0),
    "nanogpt gpt2-xl": _gpt(models.GPT2_XL, "fused", dropout=0.0),
    "nanogpt gpt2 evaluation": _gpt(
        replace(models.GPT2, vocab=50_304), "fill", dropout=0.0, bias=False),
    "bert-base-cased answers": _hub(
        "BertConfig", "BertForQuestionAnswering", _ANSWERS, vocab_size=28_996),
    "bert-base-uncased answers": _hub("BertConfig", "BertForQuestionAnswering", _ANSWERS),
    "bert-large-uncased answers": _hub(
        "BertConfig", "BertForQuestionAnswering", _ANSWERS, **_BERT_LARGE),
    "bert-large-uncased classes": _hub(
        "BertConfig", "BertForSequenceClassification", _tokens("labels*"), **_BERT_LARGE),
    "roberta-base masked": _hub("RobertaConfig", "RobertaForMaskedLM", _CAUSAL, **_ROBERTA),
    "gpt-neo-125m": _hub("GPTNeoConfig", "GPTNeoForCausalLM", _CAUSAL, attention="eager",
                         **_GPT_NEO),
    "gpt-j-6b": _hub("GPTJConfig", "GPTJForCausalLM", _CAUSAL, attention="eager"),
    "llama-2-7b": _hub("LlamaConfig", "LlamaForCausalLM", _CAUSAL, attention="sdpa", **_LLAMA),
    "llama-2-7b half": _hub("LlamaConfig", "LlamaForCausalLM", _tokens(mask=False),
                            attention="sdpa", dtype="float16", **_LLAMA),
    "conv3d 64-32 half": _made(_volume("float16"), models.conv3d, 64, 32, 1, "float16"),
    "conv3d 128-128": _made(_volume("float16"), models.conv3d, 128, 128, 1, "float32"),
    "conv3d 256-64": _made(_volume("float32"), models.conv3d, 256, 64, 0, "float32"),
    "distances 80000": _made(_volume("float32"), models.Distances, 2, 80_000, 5),
    "densenet121": _made(_images, torchvision_model, "densenet121"),
}  # fmt: skip
"""Name in ``runs.csv`` → what makes the model, and its inputs."""

ONCE = "once"
"""The option of a script that runs its model once."""
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "clip": {"gradient_clipping": True},
    "for-loop": {"optimizer_implementation": "for-loop"},
    "fused": {"optimizer_implementation": "fused"},
    "checkpoint": {"checkpointing": True},
    "zero": {"zero_grad": "set-to-zero"},
    "sum": {"loss": "sum"},
    **{f"accumulate={batches}": {"accumulation": 4} for batches in (4, 32, 1024)},
}
"""What an option of a row says of the scenario. Micro-batches after the second are alike, so four
stand for more."""


# ------------------------------------------------------------------------------ rows

_WORDING = (
    "CUDA out of memory. Tried to allocate {tried} (GPU 0; {total} total capacity; {allocated} "
    "already allocated; {free} free; {reserved} reserved in total by PyTorch)"
)


def runs() -> Iterator[PublicRun]:
    """Yield the runs in the order of the file."""
    for row in rows(RUNS):
        yield _run(row)


def left_out() -> Iterator[NotPredicted]:
    """Yield the texts that were read and not taken."""
    for row in rows(LEFT_OUT):
        yield NotPredicted(id=row["source"], set="messages", why=row["why"])


def _run(row: Mapping[str, str]) -> PublicRun:
    build, inputs = MODELS[row["model"]]
    has_failed = row["outcome"] == "failed"
    peaks = {} if has_failed else {
        measured: nbytes
        for measured, column in ((Measured.ACTIVE, "allocated"), (Measured.RESERVED, "reserved"),
                                 (Measured.DEVICE, "device"))
        if (nbytes := size_of(row[column])) is not None
    }  # fmt: skip
    allocated, free, reserved = (size_of(row[name]) for name in ("allocated", "free", "reserved"))
    limit = None if free is None or reserved is None else free + reserved
    case = MemoryCase(
        id=row["id"],
        set="messages",
        family=row["model"].partition(" ")[0],
        build=build,
        inputs=inputs(int(row["batch"]), row["size"]),
        scenario=_scenario(row),
        gpu=row["gpu"],
        measured=next(iter(peaks), Measured.ACTIVE),
        measured_bytes=next(iter(peaks.values()), 0),
        out_of_memory=has_failed,
        context_bytes=size_of(row["context"]),
    )
    message = Message(
        tried=row["tried"],
        allocated_bytes=allocated,
        limit_bytes=limit,
        text="" if limit is None else _WORDING.format_map(row),
    )
    return PublicRun(
        case=case,
        source=row["source"],
        message=message if has_failed else None,
        peaks=peaks,
        steps=1 if ONCE in row["options"].split() else None,
        note=row["note"],
    )


def _scenario(row: Mapping[str, str]) -> Scenario:
    options = [name for name in row["options"].split() if name != ONCE]
    more = {key: value for name in options for key, value in _OPTIONS[name].items()}
    return Scenario(
        mode=row["mode"],
        device=row["gpu"],
        precision=row["precision"],
        optimizer=row["optimizer"] or None,
        torch_release=OLDEST,
        **more,
    )


def size_of(text: str) -> int | None:
    """Return the bytes of a number as a message prints it, ``None`` for no text.

    >>> size_of("786.00 MiB")
    824180736
    """
    return parse_bytes(text) if text else None
