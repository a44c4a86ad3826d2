"""The planner beside PyTorch's own program for selective checkpointing, on ten models.

Both are priced by the same trace. PyTorch's answer is a share of each module's activations. It is
applied as modules, where a share above nothing is the whole module, and as operators, as PyTorch's
own policy turns the share into outputs that are kept. The peak of either is the planner's goal.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import pytest
from torch import nn
from torch_ilp import Choice, TorchProgram

import torchgauge as tg
from torchgauge.models.spec import build_model, parse_model_spec

pytestmark = [
    pytest.mark.models,
    # PyTorch's own calls of PuLP 3
    pytest.mark.filterwarnings("ignore:.*PuLP 4.0:DeprecationWarning"),
]

FLOPS = "totals.total_flops"
PEAK = "memory.peak_allocated_bytes"
KEEPS = (0.85, 0.7, 0.5)
_HARD = ("torchvision:vit_b_16", "hf:bert")
"""What PyTorch's program takes minutes for at the first of these shares."""
IMAGES, TOKENS = (8, 3, 224, 224), (4, 256)
_SMALL = "hidden_size=256,num_hidden_layers=6,num_attention_heads=4,vocab_size=512"
_LLAMA = f"{_SMALL},intermediate_size=1024,num_key_value_heads=2,use_cache=False"
MODELS = {
    "torchvision:resnet18": IMAGES,
    "torchvision:resnet34": IMAGES,
    "torchvision:squeezenet1_1": IMAGES,
    "torchvision:squeezenet1_0": IMAGES,
    "torchvision:vit_b_16": IMAGES,
    f"hf:llama({_LLAMA})": TOKENS,
    f"hf:opt({_SMALL},ffn_dim=1024,word_embed_proj_dim=256,use_cache=False)": TOKENS,
    f"hf:gpt_neox({_SMALL},intermediate_size=1024,use_cache=False)": TOKENS,
    f"hf:bert({_SMALL},intermediate_size=1024)": TOKENS,
    "hf:gpt2(n_embd=256,n_layer=6,n_head=4,vocab_size=512,use_cache=False)": TOKENS,
}


@pytest.fixture(autouse=True, scope="module")
def quiet():
    """Its warnings say where one figure of its own is replaced by another."""
    logger = logging.getLogger("torch.distributed._tools.sac_ilp")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@cache
def model_of(spec: str) -> nn.Module:
    model: nn.Module = build_model(parse_model_spec(spec, {}), with_weights=False).model
    return model


def options_of(spec: str) -> dict[str, Any]:
    return {"optimizer": "none"} | ({"dtypes": ["int64"]} if MODELS[spec] is TOKENS else {})


def traced(spec: str, **options: Any) -> tg.Report:
    model = model_of(spec)
    return tg.analyze(model, MODELS[spec], mode="training", **options_of(spec), **options)


def planned(spec: str, **goal: Any):
    return tg.plan_checkpoints(model_of(spec), MODELS[spec], **options_of(spec), **goal)


@cache
def program(spec: str) -> TorchProgram:
    return TorchProgram(report=traced(spec))


def choice(spec: str, keep: float) -> Choice | None:
    """Return PyTorch's choice among the modules that can be run again."""
    own = program(spec)
    memory = own.report.memory
    most = memory.peak_allocated_bytes - round((1 - keep) * memory.saved_activation_bytes)
    refused = planned(spec, keep=1.0).refused
    return own.chosen(most, [path for path in own.calls if path and path not in refused])


@pytest.mark.parametrize("spec", MODELS)
def test_it_needs_no_more_flops_at_no_higher_peak(spec: str) -> None:
    pytest.importorskip("pulp")
    if spec.startswith("hf:"):
        pytest.importorskip("transformers")
    keeps = KEEPS[1:] if spec.startswith(_HARD) else KEEPS
    found = [made for keep in keeps if (made := choice(spec, keep)) is not None]
    assert found, "its model of the memory sees a plan for one of the shares"
    for theirs in found:
        as_operators = program(spec).applied(model_of(spec), theirs)
        for report in (
            traced(spec, checkpointed=list(theirs.shares)),
            tg.analyze(as_operators, MODELS[spec], mode="training", **options_of(spec)),
        ):
            plan = planned(spec, memory=report.memory.peak_allocated_bytes)
            assert plan.fits and plan.figure(PEAK).after <= report.memory.peak_allocated_bytes
            assert plan.figure(FLOPS).after <= report.totals.total_flops


def test_its_account_of_the_peak_is_near_the_traced_one() -> None:
    """The fields are filled as it means them: applied by its own rounding, the peak is as it says.

    Its account leaves out what a module needs while it runs again.
    """
    pytest.importorskip("pulp")
    pytest.importorskip("transformers")
    spec = next(name for name in MODELS if name.startswith("hf:gpt2"))
    theirs = choice(spec, 0.5)
    assert theirs is not None
    own = program(spec)
    applied = own.applied(model_of(spec), theirs)
    peak = tg.analyze(
        applied, MODELS[spec], mode="training", **options_of(spec)
    ).memory.peak_allocated_bytes
    assert peak == pytest.approx(theirs.peak_bytes, rel=0.05)
    assert peak < 0.7 * own.report.memory.peak_allocated_bytes
