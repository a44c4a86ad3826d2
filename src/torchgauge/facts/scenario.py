"""What is run: the frozen description of one execution, validated without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from torchgauge.errors import ScenarioError
from torchgauge.facts.choices.checkpointing import Checkpointing as Checkpointing
from torchgauge.facts.choices.checkpointing import read_places
from torchgauge.facts.choices.optimizers import as_class, class_of
from torchgauge.facts.choices.precision_names import precision_hint
from torchgauge.facts.codec.shape import Shape

Member = TypeVar("Member", bound=StrEnum)


class Mode(StrEnum):
    """What the model is run for."""

    INFERENCE = "inference"
    """One forward without gradients, modules in evaluation mode."""
    TRAINING = "training"
    """Forward, loss, backward and one optimizer step, modules in training mode."""


class Precision(StrEnum):
    """The arithmetic of the run.

    All but ``AS_BUILT`` cast the model as ``model.float()``, ``.bfloat16()`` and ``.half()`` do:
    floating-point parameters and buffers, those of a quantized layer left out.
    """

    AS_BUILT = "as-built"
    """Nothing is cast: every parameter, buffer and input is computed with in its own dtype."""
    FP32 = "fp32"
    """Parameters, inputs and arithmetic in float32."""
    TF32 = "tf32"
    """float32 storage, TF32 matmuls on GPUs that have them; same bytes and FLOPs as fp32."""
    BF16 = "bf16"
    """Parameters, inputs and arithmetic in bfloat16."""
    FP16 = "fp16"
    """Parameters, inputs and arithmetic in float16."""

    BF16_AUTOCAST = "bf16-autocast"
    """Parameters in float32; the operators of ``torch.autocast``'s list compute in bfloat16."""
    FP16_AUTOCAST = "fp16-autocast"
    """Parameters in float32; the operators of ``torch.autocast``'s list compute in float16, and
    training scales the loss with ``GradScaler``."""

    @property
    def parameter_dtype(self) -> str | None:
        """Return the dtype that floating parameters are cast to, ``None`` for none."""
        if self is Precision.AS_BUILT:
            return None
        return {"bf16": "bfloat16", "fp16": "float16"}.get(self.value, "float32")

    @property
    def input_dtype(self) -> str | None:
        """Return the dtype that floating inputs are cast to, ``None`` for none.

        Autocast casts what its operators get, not what the model is called with.
        """
        return None if self.autocast_dtype is not None else self.parameter_dtype

    @property
    def autocast_dtype(self) -> str | None:
        """Return the dtype that autocast computes in, ``None`` without autocast."""
        return {"bf16-autocast": "bfloat16", "fp16-autocast": "float16"}.get(self.value)


class OptimizerImplementation(StrEnum):
    """How an optimizer of ``torch.optim`` goes over the parameters."""

    FOR_LOOP = "for-loop"
    """One parameter after the other: the default on a CPU."""
    FOREACH = "foreach"
    """All at once, in operators on lists, with temporaries as large as all parameters: the
    default on CUDA."""
    FUSED = "fused"
    """In one kernel without temporaries; for sgd, adam, adamw and adagrad."""


class ZeroGrad(StrEnum):
    """When the gradients of the step before are let go."""

    BEFORE_FORWARD = "before-forward"
    BEFORE_BACKWARD = "before-backward"
    """They stay alive through the forward."""
    NEVER_FREED = "set-to-zero"
    """``zero_grad(set_to_none=False)``: they are set to zero and stay alive all the time."""


OPTIMIZERS = (
    "sgd", "sgd-momentum", "adam", "adamw", "adagrad", "rmsprop", "adadelta", "adamax",
    "nadam", "radam", "asgd", "rprop", "adafactor", "adamw-8bit", "none",
)  # fmt: skip
"""Names that a scenario accepts; ``none`` trains without an optimizer step, ``adamw-8bit`` is
bitsandbytes' AdamW8bit, simulated."""

LOSSES = ("auto", "mean", "sum", "cross_entropy", "mse")
"""Names that a scenario accepts. ``auto`` takes the model's own loss if it returns one, else the
mean of all floating-point outputs; which of them was used is listed under ``assumptions``."""

OptionValue: TypeAlias = bool | int | float | str | tuple["OptionValue", ...] | None
OptimizerOptions: TypeAlias = tuple[tuple[str, OptionValue], ...]

CUSTOM_LOSS = "custom:"
"""What the name of a loss begins with that was given as a function."""
FUSED_OPTIMIZERS = ("sgd", "sgd-momentum", "adam", "adamw", "adagrad")
TRAINING_ONLY: dict[str, object] = {
    "checkpointed": (), "checkpointing": False, "accumulation": 1, "optimizer_implementation": None,
    "zero_grad": ZeroGrad.BEFORE_FORWARD, "gradient_clipping": False, "ema": False,
    "first_step": False, "optimizer_options": (), "offload_activations": False,
}  # fmt: skip
"""Fields that mean nothing in inference, with the value that says nothing."""
_FLAGS = (
    "gradient_clipping", "offload_activations", "ema", "channels_last", "cudnn_benchmark",
    "first_step", "compiled", "grad_enabled",
)  # fmt: skip
"""Fields that are true or false."""
_COUNTS = (("accumulation", 1, "micro-batches"), ("other_programs_bytes", 0, "bytes"))


def _only_in_training(name: str, value: object) -> ScenarioError:
    return ScenarioError(
        f"{name}={value!r} has no meaning in inference",
        hint="use mode='training' (--mode training), or leave it out",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Describe what is run.

    Raises:
        ScenarioError: for an unknown value, or an optimizer or loss in inference.

    >>> Scenario(mode="training", optimizer="adamw").optimizer
    'adamw'
    """

    mode: Mode = Mode.INFERENCE
    device: str = "cpu"
    """``"cpu"``, ``"cuda"`` (the GPU at hand) or a name that ``torchgauge devices`` lists."""
    precision: Precision = Precision.AS_BUILT
    optimizer: str | None = None
    """A name of ``OPTIMIZERS``, or ``package.module:Class`` of a ``torch.optim.Optimizer``."""
    loss: str | None = None
    checkpointing: bool | Checkpointing = False
    """``True`` or a kind of ``Checkpointing``; of the repeated blocks of the model."""
    checkpointed: tuple[str, ...] = ()
    """What is checkpointed instead of the repeated blocks: paths of modules, or children of an
    ``nn.Sequential`` (``"features[0:5]"``). Behind ``+`` stand the operators whose outputs are
    kept: ``"layers.3+addmm#0,2+mm"``. A scenario that names any place is one with
    ``checkpointing``."""
    accumulation: int = 1
    optimizer_options: OptimizerOptions = ()
    """Arguments of the optimizer that differ from its defaults, such as ``weight_decay``."""
    optimizer_implementation: OptimizerImplementation | None = None
    """``None`` for PyTorch's default on the device."""
    zero_grad: ZeroGrad = ZeroGrad.BEFORE_FORWARD
    gradient_clipping: bool = False
    """``torch.nn.utils.clip_grad_norm_`` over all gradients before the optimizer's step."""
    offload_activations: bool = False
    """``torch.autograd.graph.save_on_cpu`` around the forward: what the backward needs lies in main
    memory."""
    ema: bool = False
    """Keep a moving average of the parameters: a copy of them, updated after each step."""
    channels_last: bool = False
    """Model and image inputs in ``torch.channels_last``."""
    cudnn_benchmark: bool = False
    """``torch.backends.cudnn.benchmark``: the first step tries every algorithm of a convolution and
    empties the allocator's cache after each. What the trials themselves take is not known."""
    first_step: bool = False
    """Peak of the very first step, which makes the optimizer's states, not of one of many."""
    compiled: bool = False
    """``torch.compile`` in its default mode: the time is that of fused kernels. Memory and layers
    are those of the eager step."""
    allocator: str = ""
    """``PYTORCH_CUDA_ALLOC_CONF``: settings of the CUDA caching allocator."""
    torch_release: str | None = None
    """Release of PyTorch whose allocator and kernels the target runs (``"2.6"``); ``None`` for the
    installed one."""
    attn_implementation: str | None = None
    """Attention of a transformers model: ``"eager"``, ``"sdpa"`` or another that it has; ``None``
    for the one that it was built with."""
    grad_enabled: bool = False
    """An inference without ``torch.no_grad()``: the output keeps what a backward would need. In a
    loop, the graph of one forward lives until the next output replaces it."""
    other_programs_bytes: int = 0
    """GPU memory that a desktop and other processes use; the step gets the rest."""

    json: ClassVar = Shape(
        sources={"optimizer_options": "options"},
        left_out=("checkpointed",),
        later=(
            "optimizer_options", "optimizer_implementation", "zero_grad", "gradient_clipping",
            "offload_activations", "ema", "channels_last", "cudnn_benchmark", "first_step",
            "compiled", "allocator", "torch_release", "attn_implementation", "grad_enabled",
            "other_programs_bytes",
        ),
        types={"optimizer_options": Any},
    )  # fmt: skip

    if TYPE_CHECKING:  # text is taken for members, a mapping for options

        def __init__(
            self,
            *,
            mode: Mode | str = ...,
            device: str = ...,
            precision: Precision | str = ...,
            optimizer: str | None = ...,
            loss: str | None = ...,
            checkpointing: bool | Checkpointing | str = ...,
            checkpointed: Iterable[str] = ...,
            accumulation: int = ...,
            optimizer_options: OptimizerOptions | Mapping[str, OptionValue] = ...,
            optimizer_implementation: OptimizerImplementation | str | None = ...,
            zero_grad: ZeroGrad | str = ...,
            gradient_clipping: bool = ...,
            offload_activations: bool = ...,
            ema: bool = ...,
            channels_last: bool = ...,
            cudnn_benchmark: bool = ...,
            first_step: bool = ...,
            compiled: bool = ...,
            allocator: str = ...,
            torch_release: str | None = ...,
            attn_implementation: str | None = ...,
            grad_enabled: bool = ...,
            other_programs_bytes: int = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        for field, kind in (("mode", Mode), ("precision", Precision), ("zero_grad", ZeroGrad)):
            object.__setattr__(self, field, _member(kind, getattr(self, field), field))
        if not isinstance(self.device, str) or not self.device.strip():
            hint = "cpu, cuda, or a GPU's name: torchgauge devices lists them"
            raise ScenarioError(f"{self.device!r} is not the name of a device", hint=hint)
        self._check_types()
        if self.torch_release is not None:  # torch.__version__ is a class of torch's own
            object.__setattr__(self, "torch_release", str(self.torch_release))
        self._read_checkpointing()
        training = self.mode is Mode.TRAINING
        try:
            given = dict(self.optimizer_options)
        except (TypeError, ValueError):
            raise ScenarioError(
                f"optimizer_options={self.optimizer_options!r} is not a dict",
                hint="write optimizer_options={'weight_decay': 0.01}",
            ) from None
        options = tuple((name, _plain(name, given[name])) for name in sorted(given))
        object.__setattr__(self, "optimizer_options", options)
        self._check_optimizer()
        for name, allowed in (("optimizer", OPTIMIZERS), ("loss", LOSSES)):
            value = getattr(self, name)
            if value is None:
                if training:
                    object.__setattr__(self, name, "sgd" if name == "optimizer" else "auto")
                continue
            if not training:
                raise _only_in_training(name, value)
            if value not in allowed and not _is_of_the_user(name, value):
                said = repr(value) if isinstance(value, str) else class_of(value).__name__
                raise ScenarioError(
                    f"unknown {name} {said}",
                    hint=(as_class(value) if name == "optimizer" else "")
                    or "one of " + ", ".join(allowed),
                )
        for name, neutral in TRAINING_ONLY.items():
            if not training and getattr(self, name) != neutral:
                raise _only_in_training(name, getattr(self, name))
        for name, least, what in _COUNTS:
            number = getattr(self, name)
            if not hasattr(number, "__index__") or number < least:
                raise ScenarioError(
                    f"{name}={number} is not a number of {what}", hint=f"use {least} or more"
                )
            object.__setattr__(self, name, int(number))

    def _check_types(self) -> None:
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ScenarioError(
                    f"{name}={getattr(self, name)!r} is neither True nor False", hint="write one"
                )
        if self.grad_enabled and self.is_training:
            raise ScenarioError("grad_enabled=True has no meaning in training", hint="leave it out")
        if not isinstance(self.allocator, str):
            raise ScenarioError(
                f"allocator={self.allocator!r} is not text",
                hint="write it as PYTORCH_CUDA_ALLOC_CONF: 'expandable_segments:True'",
            )
        attention: object = self.attn_implementation
        if attention is not None and not (isinstance(attention, str) and attention.strip()):
            text = f"attn_implementation={attention!r} is not the name of an attention"
            raise ScenarioError(text, hint="write 'eager' or 'sdpa'")
        release: object = self.torch_release
        is_text = isinstance(release, str) and re.fullmatch(r"\d+\.\d+([.+a-z]\S*)?", release)
        if release is not None and not is_text:
            raise ScenarioError(f"{release!r} is not a release of PyTorch", hint="write '2.6'")

    def _read_checkpointing(self) -> None:
        object.__setattr__(self, "checkpointed", read_places(self.checkpointed))
        given = self.checkpointing
        if self.checkpointed and given is False:
            object.__setattr__(self, "checkpointing", True)
        if isinstance(given, bool):
            return
        kind: Checkpointing | bool = _member(Checkpointing, given, "checkpointing")
        if kind is Checkpointing.OFFLOAD:
            object.__setattr__(self, "offload_activations", True)
        if kind in (Checkpointing.NON_REENTRANT, Checkpointing.OFFLOAD):
            kind = kind is Checkpointing.NON_REENTRANT
        if kind is Checkpointing.REENTRANT and any("+" in place for place in self.checkpointed):
            raise ScenarioError(
                "reentrant checkpoints keep no operator's output",
                hint="leave the kind of checkpointing out, or what stands behind the +",
            )
        object.__setattr__(self, "checkpointing", kind)

    def _check_optimizer(self) -> None:
        if self.optimizer_implementation is None:
            return
        kind = _member(
            OptimizerImplementation, self.optimizer_implementation, "optimizer_implementation"
        )
        object.__setattr__(self, "optimizer_implementation", kind)
        optimizer = self.optimizer or "sgd"
        if kind is OptimizerImplementation.FUSED and optimizer not in FUSED_OPTIMIZERS:
            raise ScenarioError(
                f"{optimizer} has no fused implementation",
                hint="one of " + ", ".join(FUSED_OPTIMIZERS) + ", or foreach",
            )

    @property
    def checkpointing_kind(self) -> Checkpointing | None:
        """Return how blocks are checkpointed, ``None`` for not at all."""
        if isinstance(self.checkpointing, bool):
            return Checkpointing.NON_REENTRANT if self.checkpointing else None
        return Checkpointing(self.checkpointing)

    @property
    def is_training(self) -> bool:
        """Return whether gradients are computed."""
        return self.mode is Mode.TRAINING

    @property
    def options(self) -> dict[str, OptionValue]:
        """Return the optimizer's options by name."""
        return dict(self.optimizer_options)

    def to_dict(self) -> dict[str, Any]:
        """Return the scenario as plain data, in the order of the JSON report."""
        from torchgauge.facts.codec.wire import to_dict  # the command line's --help needs none

        return to_dict(self)


def _is_of_the_user(name: str, value: object) -> bool:
    """Return whether a value names a function or class of the user's own."""
    if not isinstance(value, str):
        return False
    return value.startswith(CUSTOM_LOSS) if name == "loss" else ":" in value


def _plain(name: str, value: object) -> OptionValue:
    """Return an optimizer's option as plain data; a list, as JSON has it, is a tuple."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(name, item) for item in value)
    if value is None:
        return None
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)  # numpy's float64 is a float, and takes numpy to be loaded
    raise ScenarioError(
        f"the optimizer's option {name}={value!r} is neither number, text nor a tuple of them",
        hint="write it as plain data, such as betas=(0.9, 0.95)",
    )


def _member(kind: type[Member], value: object, name: str) -> Member:
    try:
        return kind(str(value))
    except ValueError:
        hint = (name == "precision" and precision_hint(str(value))) or "one of " + ", ".join(kind)
        raise ScenarioError(f"unknown {name} {str(value)!r}", hint=hint) from None
