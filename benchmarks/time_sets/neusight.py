"""NeuSight's measurements of language models on five GPUs (sitar-lab/NeuSight).

What was run, with the evidence (``neusight/Tracing/trace.py``, ``measure_e2e``):

- *Models*: transformers with ``attn_implementation="eager"``, float32, TF32 off; the sizes are in
  ``scripts/asplos/data/DLmodel_configs``. "fusion" is ``torch.compile``.
- *Inference*: one forward under ``no_grad``. *Training*: forward and backward, timed one after the
  other by CUDA events, without an optimizer; the mean of the five fastest of 25.
- *Loop*: ``torch.cuda.empty_cache()`` before each step, so that the driver is asked for all of the
  memory anew in each: the forward of BERT-large at batch 8 takes 325 ms in training and 205 ms in
  inference on two A100s.
- *Switch transformers*: their sparse layers were replaced by a loop over the experts, each of
  which multiplies ``batch × capacity`` rows, filled or not; so they are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.time_sets.cases import Loss, NotPredicted, TensorSpec, TimeCase, rows
from torchgauge.facts.scenario import Scenario
from torchgauge.models.torchvision_operators import define_missing_operators

FILES = {
    "neusight": "latency_neusight_a100_v100_t4.csv",
    "neusight L4 and P100": "latency_neusight_l4_p100.csv",
}
GPUS = {
    "NVIDIA_A100-PCIE-40GB": "A100-PCIe-40GB",
    "NVIDIA_A100_80GB_PCIe": "A100-PCIe-80GB",
    "Tesla_T4": "T4",
    "Tesla_V100-PCIE-32GB": "V100-PCIe-32GB",
    "NVIDIA_H100_80GB_HBM3": "H100-SXM",
    "NVIDIA_H100_PCIe": "H100-PCIe",
    "NVIDIA_L4": "L4",
    "Tesla_P4": "Tesla P4",
    "Tesla_P100-PCIE-16GB": "P100-PCIe-16GB",
}
"""Their names → those of the device table."""

_GPT = {"vocab_size": 50_257, "activation_function": "gelu_new"}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert_large": ("Bert", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    }),
    "gpt2_large": ("GPT2", {**_GPT, "n_embd": 1280, "n_head": 20, "n_layer": 36}),
    "gpt3_xl": ("GPT2", {**_GPT, "n_embd": 3072, "n_head": 24, "n_layer": 24, "n_positions": 2048}),
    "gpt3_27": ("GPT2", {**_GPT, "n_embd": 2560, "n_head": 32, "n_layer": 32, "n_positions": 2048}),
    "opt_13": ("OPT", {
        "hidden_size": 2048, "ffn_dim": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
        "max_position_embeddings": 2048, "vocab_size": 50_272,
    }),
    "switchxl4": ("SwitchTransformers", {
        "d_model": 1024, "d_ff": 16_384, "d_kv": 128, "num_heads": 32, "num_layers": 24,
        "num_decoder_layers": 24, "num_sparse_encoder_layers": 12, "num_sparse_decoder_layers": 12,
        "num_experts": 4, "expert_capacity": 64, "vocab_size": 32_128,
    }),
}  # fmt: skip
"""Name in the file → configuration class of transformers and its settings."""

_CLASSES = {
    "Bert": ("BertForSequenceClassification", "BertForPreTraining"),
    "GPT2": ("GPT2LMHeadModel", "GPT2LMHeadModel"),
    "OPT": ("OPTForCausalLM", "OPTForCausalLM"),
    "SwitchTransformers": ("SwitchTransformersForConditionalGeneration",) * 2,
}
"""The models of inference and of training."""


def cases(set: str, data: Path) -> Iterator[TimeCase | NotPredicted]:
    """Yield the rows of a file."""
    for row in rows(data / FILES[set]):
        name, training = row["model"], row["mode"] == "train"
        batch, length = int(row["batch"]), int(row["seqlen"])
        fused = row["option"] == "fusion"
        gpu = GPUS.get(row["device"])
        id = f"{name} {row['mode']} {batch}x{length}{' compiled' if fused else ''}, {gpu}"
        if gpu is None or name not in CONFIGS or row["option"] not in ("", "fusion"):
            why = f"{row['device']}, {name}, {row['option'] or 'eager'} is not modelled"
            yield NotPredicted(id=id, set=set, why=why)
            continue
        yield TimeCase(
            id=id,
            set=set,
            family=name,
            build=partial(transformer, name, training=training),
            inputs=_inputs(name, batch, length),
            scenario=Scenario(mode="training", optimizer="none") if training else Scenario(),
            gpu=gpu,
            measured_ms=float(row["e2e_latency_ms"]),
            forward_ms=float(row["fw_latency_ms"]) if training else None,
            loss=partial(language_loss, batch, length) if training else None,
            compiled=fused,
            empties_cache=True,
        )


def _inputs(name: str, batch: int, length: int) -> tuple[TensorSpec, ...]:
    names = ["input_ids"]
    if name.startswith("switch"):
        names += ["decoder_input_ids", "attention_mask"]
    shape = (batch, length)
    return tuple(TensorSpec(name=each, shape=shape, dtype="int64", fill=1) for each in names)


def transformer(name: str, *, training: bool) -> nn.Module:
    """Return a model of transformers, attention written out, without a cache."""
    define_missing_operators()
    import transformers

    transformers.logging.set_verbosity_error()
    kind, settings = CONFIGS[name]
    config = getattr(transformers, f"{kind}Config")(**settings)
    config._attn_implementation = "eager"
    config.use_cache = False
    model: nn.Module = getattr(transformers, _CLASSES[kind][training])(config)
    for module in model.modules():
        if type(module).__name__ == "SwitchTransformersSparseMLP":
            module.forward = partial(_all_experts, module)  # type: ignore[method-assign]
    return model


def _all_experts(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Route as the measured code did, with sizes that do not depend on values."""
    chosen, probability, _ = layer.router(hidden)
    batch, length, width = hidden.shape
    rows_of_expert = min(batch * layer.router.expert_capacity, batch * length)
    result = hidden.clone()
    flat = hidden.reshape(-1, width)
    for index, expert in enumerate(layer.experts.values()):
        torch.count_nonzero(chosen[:, :, index].bool())
        made = expert(flat[:rows_of_expert].clone())
        result.view(-1, width)[:rows_of_expert].copy_(made)
    return probability * result


def language_loss(batch: int, length: int) -> Loss:
    """Return the cross entropy of the logits against tokens of that shape."""
    tokens = torch.empty((batch, length), dtype=torch.int64, device="meta")

    def loss(output: Any) -> torch.Tensor:
        logits = output.prediction_logits if "prediction_logits" in output else output.logits
        return F.cross_entropy(logits.view(-1, logits.size(-1)), tokens.view(-1))

    return loss
