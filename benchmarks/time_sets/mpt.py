"""MosaicML's measurements of training MPT language models: nothing is fitted on them.

What was run (``scripts/train/benchmarking/README.md`` of mosaicml/llm-foundry): bf16 autocast,
flash attention, AdamW, FSDP over 8 GPUs or more. What is predicted is one GPU's forward and
backward of a micro-batch, without communication and without the optimizer, of which each GPU has
an eighth or less: a predicted time is too short by what those take. The stand-in is a GPT-2 of the
same sizes. Rows of one node (8 GPUs) are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import nn

from benchmarks.time_sets.cases import NotPredicted, TensorSpec, TimeCase, rows
from torchgauge.facts.scenario import Scenario
from torchgauge.models.torchvision_operators import define_missing_operators

FILE = "throughput_mpt_training.csv"
GPUS = {"a100_40gb": "A100-SXM-40GB", "a100_80gb": "A100-SXM-80GB", "h100_80gb": "H100-SXM"}
PRECISIONS = {"amp_bf16": "bf16-autocast", "bf16": "bf16"}
SIZES = {
    "125m": (768, 12, 12), "350m": (1024, 24, 16), "760m": (1536, 24, 12), "1b": (2048, 24, 16),
    "3b": (2560, 32, 20), "7b": (4096, 32, 32), "13b": (5120, 40, 40), "30b": (7168, 48, 56),
    "70b": (8192, 80, 64),
}  # fmt: skip
"""Width, layers, heads: the configurations of llm-foundry; the parameter counts agree."""
VOCABULARY = 50_368
RELEASE = "2.1"
"""Of 2023; Hopper's own attention came to PyTorch later."""
_NODE = 8


def cases(data: Path) -> Iterator[TimeCase | NotPredicted]:
    """Yield the rows of one node."""
    for row in rows(data / FILE):
        if int(row["# GPUs"]) != _NODE:
            continue
        model, length, batch = row["Model"], int(row["SeqLen (T)"]), int(row["MicroBatchSize"])
        checkpointing = row["Activation Checkpointing"] == "True"
        id = f"{model} {batch}x{length} {row['GPU']}{' checkpointed' if checkpointing else ''}"
        precision = PRECISIONS.get(row["Precision"])
        if model not in SIZES or row["GPU"] not in GPUS or precision is None:
            why = f"{model}, {row['GPU']}, {row['Precision']} is not modelled"
            yield NotPredicted(id=id, set="mpt", why=why)
            continue
        yield TimeCase(
            id=id,
            set="mpt",
            family=model,
            build=partial(gpt, model, length),
            inputs=tuple(
                TensorSpec(name=name, shape=(batch, length), dtype="int64")
                for name in ("input_ids", "labels")
            ),
            scenario=Scenario(
                mode="training",
                precision=precision,
                optimizer="none",
                checkpointing=checkpointing,
                torch_release=RELEASE,
            ),
            gpu=GPUS[row["GPU"]],
            measured_ms=batch * length / float(row["Throughput (T/s/GPU)"]) * 1e3,
        )


def gpt(name: str, length: int) -> nn.Module:
    """Return a GPT-2 of the sizes of an MPT model."""
    define_missing_operators()
    import transformers

    transformers.logging.set_verbosity_error()
    width, layers, heads = SIZES[name]
    config = transformers.GPT2Config(
        n_embd=width, n_layer=layers, n_head=heads, n_positions=length, vocab_size=VOCABULARY,
        activation_function="gelu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    config.use_cache = False
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model
