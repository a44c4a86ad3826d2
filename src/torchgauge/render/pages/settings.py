"""What a scenario is, in words: the settings in the title of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchgauge.facts.precision import precision_text
from torchgauge.facts.scenario import Precision, Scenario, ZeroGrad
from torchgauge.units import format_number_of


def settings(scenario: Scenario, dtypes: Sequence[str]) -> Iterator[str]:
    """Yield mode, optimizer, precision, device, and all that differs from what most runs have.

    ``dtypes`` are those of the parameters: float32 all over goes without saying unless it was
    asked for.
    """
    checkpointing = scenario.checkpointing
    kind = "" if checkpointing is True else f"{checkpointing} "
    places = len(scenario.checkpointed)
    is_usual = scenario.precision == Precision.AS_BUILT and set(dtypes) <= {"float32"}
    yield str(scenario.mode)
    for is_on, text in (
        (scenario.is_training, f"{scenario.optimizer}"),
        (not is_usual, precision_text(scenario.precision, dtypes)),
        (scenario.device != "cpu", scenario.device),
        (bool(checkpointing) and not places, f"{kind}checkpointing"),
        (places > 0, f"{kind}checkpointing of {format_number_of(places, 'place')}"),
        (scenario.offload_activations, "activations in host memory"),
        (scenario.accumulation > 1, f"{scenario.accumulation} micro-batches"),
        *((True, f"{name}={value}") for name, value in dict(scenario.optimizer_options).items()),
        (scenario.is_training and scenario.loss != "auto", f"loss {scenario.loss}"),
        (bool(scenario.optimizer_implementation), f"{scenario.optimizer_implementation} optimizer"),
        (scenario.zero_grad is not ZeroGrad.BEFORE_FORWARD, f"zero_grad {scenario.zero_grad}"),
        (scenario.gradient_clipping, "gradient clipping"),
        (scenario.ema, "moving average of the parameters"),
        (scenario.channels_last, "channels last"),
        (scenario.cudnn_benchmark, "cuDNN benchmark"),
        (bool(scenario.attn_implementation), f"{scenario.attn_implementation} attention"),
        (scenario.compiled, "compiled"),
        (scenario.grad_enabled, "with gradients"),
        (bool(scenario.allocator), f"allocator {scenario.allocator}"),
        (scenario.first_step, "first step"),
        (scenario.torch_release is not None, f"PyTorch {scenario.torch_release}"),
    ):
        if is_on:
            yield text
