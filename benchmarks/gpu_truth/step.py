"""One real step of a case, phase by phase, in the precision and with the optimizer it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_truth import zoo
from benchmarks.gpu_truth.cases import Case
from torchgauge.facts.scenario import Checkpointing
from torchgauge.facts.trace import Phase
from torchgauge.trace.step.checkpointing import checkpoint_blocks
from torchgauge.trace.step.training import compute_loss

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
_OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 1e-3}),
    "adamw": ("AdamW", {}),
}
_IMPLEMENTATIONS: dict[str | None, dict[str, bool]] = {
    None: {},
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}

PhaseHook = Callable[[Phase], None]


class Step:
    """A model with its inputs on a device, ready to run again and again."""

    def __init__(self, case: Case, device: str) -> None:
        self.case = case
        spec = zoo.spec_of(case.model)
        torch.manual_seed(0)
        dtype = DTYPES.get(case.precision, torch.float32)
        with torch.device(device):
            model, self.built_from = zoo.build(spec)
        self.model: nn.Module = model.to(device, dtype)
        self.model.train(case.mode == "training")
        self.args, self.kwargs = zoo.inputs(
            spec, case.batch, device, dtype, training=case.mode == "training"
        )
        own = spec.loss == "auto" or self.built_from.split(":")[1] == "detector"
        self.loss = "auto" if own else spec.loss
        self.device = device
        self.optimizer: torch.optim.Optimizer | None = None

    @property
    def is_training(self) -> bool:
        """Return whether the step has a backward."""
        return self.case.mode == "training"

    def forget(self) -> None:
        """Drop gradients and optimizer states, as before the first step."""
        self.optimizer = None
        self.model.zero_grad(set_to_none=True)

    def apply_checkpointing(self) -> None:
        """Checkpoint the repeated blocks if the case asks for it."""
        if self.case.checkpointing:
            checkpoint_blocks(self.model, Checkpointing.NON_REENTRANT)

    def make_optimizer(self) -> None:
        """Make the optimizer; its states come with its first step."""
        if self.case.optimizer is not None:
            name, settings = _OPTIMIZERS[self.case.optimizer]
            chosen = _IMPLEMENTATIONS[self.case.implementation]
            trainable = [p for p in self.model.parameters() if p.requires_grad]
            self.optimizer = getattr(torch.optim, name)(trainable, **settings, **chosen)

    def states(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the optimizer's state tensors with their names."""
        for state in self.optimizer.state.values() if self.optimizer is not None else ():
            yield from ((n, value) for n, value in state.items() if torch.is_tensor(value))

    def run(self, start: PhaseHook = lambda _: None, end: PhaseHook = lambda _: None) -> Any:
        """Run the step; the hooks hear of every phase. Returns what lives to its end."""
        if self.is_training:
            return self._train(start, end)
        start(Phase.FORWARD)
        with torch.no_grad(), self._autocast():
            output = self.model(*self.args, **self.kwargs)
        end(Phase.FORWARD)
        return output

    def _train(self, start: PhaseHook, end: PhaseHook) -> Any:
        if self.optimizer is None:
            self.make_optimizer()
        self.model.zero_grad(set_to_none=True)
        with torch.enable_grad():
            with self._autocast():
                start(Phase.FORWARD)
                output = self.model(*self.args, **self.kwargs)
                end(Phase.FORWARD)
                start(Phase.LOSS)
                loss, _ = compute_loss(output, self.loss, None)
                end(Phase.LOSS)
            start(Phase.BACKWARD)
            loss.backward()
            end(Phase.BACKWARD)
        if self.optimizer is not None:
            start(Phase.OPTIMIZER)
            self.optimizer.step()
            end(Phase.OPTIMIZER)
        return output, loss

    def _autocast(self) -> AbstractContextManager[Any]:
        kind, _, dtype = self.case.precision.partition("-")
        if kind != "autocast":
            return nullcontext()
        return torch.autocast(self.device, dtype=DTYPES[dtype])


@contextmanager
def flags(precision: str, sdpa: str | None) -> Iterator[None]:
    """Set TF32 and the attention backend, and put them back."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    if precision == "tf32":
        matmul.allow_tf32 = cudnn.allow_tf32 = True
    elif precision == "fp32-strict":
        matmul.allow_tf32 = cudnn.allow_tf32 = False
    backend = sdpa_kernel(_BACKENDS[sdpa]) if sdpa else nullcontext()
    try:
        with backend:
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
