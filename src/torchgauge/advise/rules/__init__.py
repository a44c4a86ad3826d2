"""The rules, each in a file of its own, by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Final

from torchgauge.advise.rules.rule import Rule
from torchgauge.errors import UsageError
from torchgauge.models.suggest import did_you_mean

_PLACES: Final = {
    # faults
    "missing-activation": "missing_activation:MissingActivation",
    "double-softmax": "double_softmax:DoubleSoftmax",
    "batch-of-one": "batch_of_one:BatchOfOne",
    "frozen-batchnorm": "frozen_batchnorm:FrozenBatchNorm",
    "wrong-mode": "wrong_mode:WrongMode",
    "layernorm-axis": "layernorm_axis:LayerNormAxis",
    "double-norm": "double_norm:DoubleNorm",
    "hidden-modules": "hidden_modules:HiddenModules",
    "untied-copy": "untied_copy:UntiedCopy",
    "kept-graph": "kept_graph:KeptGraph",
    # size and compute
    "global-pooling": "global_pooling:GlobalPooling",
    "depthwise-separable": "depthwise:DepthwiseSeparable",
    "large-kernel": "large_kernel:LargeKernel",
    "grouped-convolution": "grouped:Grouped",
    "stride-earlier": "stride_earlier:StrideEarlier",
    "no-downsampling": "no_downsampling:NoDownsampling",
    "wide-early-maps": "wide_early_maps:WideEarlyMaps",
    "shared-keys": "shared_keys:SharedKeys",
    "low-rank": "low_rank:LowRank",
    "prune": "prune:Prune",
    # free of effect on what the model computes
    "fold-batchnorm": "fold_batchnorm:FoldBatchNorm",
    "attention": "attention:FusedAttention",
    "bias-before-norm": "bias_before_norm:BiasBeforeNorm",
    "dead-output": "dead_output:DeadOutput",
    "in-place": "in_place:InPlace",
    "repeated-activation": "repeated_activation:RepeatedActivation",
    "never-called": "never_called:NeverCalled",
    "unused-parameter": "unused_parameter:UnusedParameter",
    "constant-folding": "constant_folding:ConstantFolding",
    "chunked-loss": "chunked_loss:ChunkedLoss",
    # how it runs
    "fp32-islands": "fp32_islands:Fp32Islands",
    "tf32": "tf32:Tf32",
    "compile": "compile:Compile",
    "int8-weights": "int8_weights:Int8Weights",
    "plan-checkpoints": "plan_checkpoints:PlanCheckpoints",
    "scenario": "scenario:HowItRuns",
    "lora": "lora:Lora",
}
"""The class of each rule, in a module of this package."""

ON_REQUEST: Final = ("prune", "int8-weights")
"""Rules that take long: they look only where they are named."""
RULES: Final = tuple(name for name in _PLACES if name not in ON_REQUEST)


@cache
def rule_of(name: str) -> Rule:
    """Return a rule.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in _PLACES:
        raise UsageError(
            f"there is no rule {name!r}",
            hint=did_you_mean(name, list(_PLACES), otherwise="one of " + ", ".join(_PLACES)),
        )
    module, _, kind = _PLACES[name].partition(":")
    rule: Rule = getattr(import_module(f"{__name__}.{module}"), kind)()
    return rule
