"""Single published figures (``published_memory.md``), as far as a scenario can say them.

Llama 3.2 3B, full fine-tuning with torchtune on one A100: batch 2, sequence 4,096, bfloat16,
AdamW; the file gives GiB that the allocator has *active*. Later rows of that table add to the one
before, beginning with sample packing, whose effect is that each sequence is full. Without it
(the baseline) samples are padded to the longest of the batch, whose length the table does not say.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.memory_sets.cases import Measured, MemoryCase, NotPredicted, tokens
from benchmarks.memory_sets.language_models import language_model
from torchgauge.facts.scenario import Scenario

FILE = "published_memory.md"
GIB = 2**30

NOT_EXPRESSIBLE = {
    "torchtune Llama 3.2 3B baseline": "its sequences are as long as the data, which is not said",
    "torchtune Llama 3.2 3B + compile": "torch.compile",
    "torchtune Llama 3.2 3B + chunked cross-entropy": "torch.compile, cross-entropy in chunks",
    "torchtune Llama 3.2 3B + activation checkpointing": "torch.compile, cross-entropy in chunks",
    "torchtitan Llama 3.1 8B": "FSDP2 over 8 GPUs, selective checkpointing of operators",
    "torchtitan Llama 3.1 70B": "FSDP and tensor parallelism over 256 GPUs, float8, compile",
}


def cases(data: Path) -> Iterator[MemoryCase | NotPredicted]:
    """Yield the figure that can be predicted, and the names of the others."""
    if not (data / FILE).is_file():
        raise FileNotFoundError(2, "no such file", data / FILE)
    yield MemoryCase(
        id="torchtune Llama 3.2 3B packed",
        set="published",
        family="torchtune",
        build=partial(language_model, "meta-llama/Llama-3.2-3B", dtype="bfloat16"),
        inputs=tokens(2, 4096),
        scenario=Scenario(mode="training", optimizer="adamw"),
        gpu="A100 SXM4 80GB",
        measured=Measured.ACTIVE,
        measured_bytes=int(60.0 * GIB),
    )
    for name, why in NOT_EXPRESSIBLE.items():
        yield NotPredicted(id=name, set="published", why=why)
