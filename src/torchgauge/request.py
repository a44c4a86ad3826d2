"""What is asked: a model or its spec, its inputs, the scenario and the options, in one object.

``analyze``, ``measure``, ``fits``, the drop-ins and the command line each make one ``Request``,
and everything below takes it whole. It imports no torch. One that is made from a spec holds plain
data alone, so it can be pickled and answered by another process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, TypeAlias

from torchgauge.devices import find_device
from torchgauge.errors import DeviceError, ScenarioError, UsageError
from torchgauge.facts.scenario import CUSTOM_LOSS, OPTIMIZERS, TRAINING_ONLY, Precision, Scenario

Size: TypeAlias = tuple[int, ...]
InputSize: TypeAlias = "Size | Sequence[Size | Sequence[int]] | Mapping[str, Sequence[int]] | int"
"""A shape, several of them, or shapes by argument name."""
Progress: TypeAlias = Callable[[str], None]

SCENARIO_FIELDS = frozenset(item.name for item in fields(Scenario))
_OURS = {"dtype": "dtypes", "input_dtype": "dtypes", "input_shape": "input_size",
         "data": "input_data", "inputs": "input_data", "batch": "batch_size"}  # fmt: skip
"""What users write for an argument of ``analyze``."""
_OPTIONS = (
    "input_data", "batch_size", "batch_dim", "dtypes", "scenario", "loss", "model_name",
    "model_spec", "real_run", "on_progress", "forward_kwargs",
)  # fmt: skip
"""The options of ``analyze`` besides the fields of a scenario."""
_PLAIN = (str, bool, int, float, type(None))
_OTHER_WORDS = {"train": "training", "eval": "inference"} | {
    f"torch.{precision.parameter_dtype}": str(precision)
    for precision in (Precision.FP32, Precision.BF16, Precision.FP16)
}
"""What users write for a value of a scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What goes into the model's forward, as the user wrote it."""

    size: InputSize | None = None
    data: Any = None
    """Instead of sizes: tensors, arrays, a tuple or dict of them, or a function that returns it."""
    batch_size: int | None = None
    """Says that the sizes have no batch dimension, and how large it is."""
    batch_dim: int | None = None
    dtypes: Sequence[Any] | None = None
    """Names or ``torch.dtype``: one for all inputs or one per input."""
    keywords: Mapping[str, Any] = field(default_factory=dict)
    """Passed to the forward as they are."""
    as_given: bool = False
    """Sizes are shapes, batch included, and no other reading is tried."""

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Inputs:
        """Take what describes inputs out of arguments as ``analyze`` names them."""
        names = {"input_size": "size", "input_data": "data", "forward_kwargs": "keywords"}
        names |= {name: name for name in ("batch_size", "batch_dim", "dtypes", "as_given")}
        found = {names[name]: options.pop(name) for name in names.keys() & options.keys()}
        keywords = found.get("keywords") or {}
        if not isinstance(keywords, Mapping):
            raise UsageError(
                "forward_kwargs is not a dict", hint='write forward_kwargs={"name": value}'
            )
        return cls(**{**found, "keywords": keywords})

    @property
    def are_given(self) -> bool:
        """Return whether anything says what goes into the model."""
        return self.size is not None or self.data is not None or bool(self.keywords)

    @property
    def describes_sizes(self) -> bool:
        """Return whether there is anything that only goes with sizes."""
        return (self.batch_size, self.batch_dim, self.dtypes) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """How much of a run is recorded; the drop-ins for other tools ask for more, or for less."""

    on_call: Callable[..., Any] | None = None
    """Called after each forward of a module with the module's first path, its copy, the positional
    arguments and the output. What it computes is not recorded; what it returns is kept in
    ``Outcome.observed``, unless it is ``None``."""
    note_composites: bool = False
    """Run an inference in inference mode and note the composite operators that it shows whole
    (``linear``, ``matmul``)."""
    forward_only: bool = False
    """End a training run after its forward."""
    calls_only: bool = False
    """Keep module calls without operators and storages, where a simulated run is all it takes."""
    modules_only_of_failures: bool = False
    """Leave the modules, and what is said of their tensors, out of the trace of a whole run."""
    copies: Any = None
    """Where a run of calls alone leaves its copy of the model for the next run
    (``trace.copy.kept_copy.KeptCopies``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question about one model.

    Raises:
        UsageError: there is neither a model nor a spec, the scenario is not a ``Scenario``, or the
            loss is not a function.
    """

    model: Any = None
    """A module or an exported program; ``None`` where ``spec`` says how to build it."""
    spec: str | None = None
    """The model spec; beside a ``model`` it is only shown in the report."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the model that a spec names."""
    inputs: Inputs = field(default_factory=Inputs)
    scenario: Scenario = field(default_factory=Scenario)
    loss: Callable[[Any], Any] | None = None
    """For training: a function from the model's output to a scalar."""
    name: str | None = None
    """The name shown; the class name where it is ``None``."""
    real_run: bool = True
    """Whether the model may run for real on the CPU where a simulated run is not enough."""
    recording: Recording = field(default_factory=Recording)
    on_progress: Progress | None = None
    """Called with what is being done."""
    assumptions: tuple[str, ...] = ()
    """What was assumed before the analysis began; it opens the report's assumptions."""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.model is None and not self.spec:
            raise UsageError("there is no model", hint="pass a torch.nn.Module or a model spec")
        asked: object = self.scenario
        if not isinstance(asked, Scenario):
            given = asked if isinstance(asked, Mapping) else {"mode": asked}
            known = {name: value for name, value in given.items() if name in SCENARIO_FIELDS}
            raise UsageError(
                f"scenario={_text(asked)} is not a Scenario",
                hint=f"write scenario=tg.Scenario({_written(known)})",
            )
        for name in ("name", "spec"):
            value: object = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise UsageError(f"model_{name}={value!r} is not text", hint="write a string")
        if self.scenario.device not in ("cpu", "cuda"):
            with suppress(DeviceError):  # which is told where the device is needed
                found = find_device(self.scenario.device).name
                object.__setattr__(self, "scenario", replace(self.scenario, device=found))
        if self.loss is not None:
            if not callable(self.loss):
                raise UsageError(
                    f"loss={_text(self.loss)} is not a function",
                    hint='write loss="cross_entropy", or a function from the output to a scalar',
                )
            name = getattr(self.loss, "__name__", type(self.loss).__name__)
            object.__setattr__(
                self, "scenario", replace(self.scenario, loss=f"{CUSTOM_LOSS}{name}")
            )

    def tell(self, text: str) -> None:
        """Tell whoever asked what is being done."""
        if self.on_progress is not None:
            self.on_progress(text)


def ask(
    model: Any,
    input_size: InputSize | None,
    options: Mapping[str, Any],
    forward_names: Callable[[Any], tuple[frozenset[str], bool]],
) -> Request:
    """Return the request that the arguments of ``analyze`` and its like make.

    Fields of ``Scenario`` among the options change the scenario; what is left goes to the forward.
    ``forward_names`` returns the arguments that a model's forward names, and whether it takes any
    other as well.

    Raises:
        UsageError: an argument belongs elsewhere; the hint says how to write it.
        ScenarioError: the scenario makes no sense.
    """
    given = dict(options)
    inputs = replace(Inputs.taken_from(given), size=input_size)
    named, takes_any = (frozenset[str](), True) if isinstance(model, type) else forward_names(model)
    loss = given.pop("loss", None)
    if isinstance(loss, str):
        given["loss"], loss = loss, None
    known = {
        "loss": loss,
        "name": given.pop("model_name", None),
        "spec": given.pop("model_spec", None),
        "real_run": given.pop("real_run", True),
        "on_progress": given.pop("on_progress", None),
    }
    scenario = given.pop("scenario", None)
    asked = {name: given.pop(name) for name in sorted(given.keys() & SCENARIO_FIELDS)}
    kind = type(model).__name__
    _refuse_ambiguous(kind, asked, named)
    _refuse_misspelt(kind, given, named)
    _refuse_unknown(kind, given, named, takes_any)
    scenario = Scenario() if scenario is None else scenario
    return Request(
        model=model,
        inputs=replace(inputs, keywords={**given, **inputs.keywords}),
        scenario=changed(scenario, asked) if isinstance(scenario, Scenario) else scenario,
        **known,
    )


def changed(scenario: Scenario, given: Mapping[str, Any]) -> Scenario:
    """Return the scenario with other values.

    Raises:
        UsageError: a value is written as another library writes it; the hint has ours.
        ScenarioError: the result makes no sense.
    """
    for name, value in given.items():
        meant = _meant(value)
        if meant is not None and meant != value:
            raise UsageError(
                f"{name}={_told(value)} is not a value of a scenario",
                hint=f"write {name}={_text(meant)}",
            )
    return replace(scenario, **given)


def in_mode(scenario: Scenario, mode: str) -> Scenario:
    """Return the scenario in another mode, without what has no meaning in it.

    Raises:
        ScenarioError: there is no such mode.
    """
    if mode == scenario.mode:
        return scenario
    if scenario.is_training:
        given: dict[str, Any] = {**TRAINING_ONLY, "mode": mode, "optimizer": None, "loss": None}
        return replace(scenario, **given)
    given = {"mode": mode, "grad_enabled": False}
    return replace(scenario, **given)


def _refuse_ambiguous(kind: str, asked: Mapping[str, Any], named: frozenset[str]) -> None:
    for name in asked.keys() & named:
        value = _text(asked[name])
        raise UsageError(
            f"{name}={value} has two meanings: the scenario and {kind}.forward have an argument "
            "of that name",
            hint=f"write scenario=tg.Scenario({name}={value}) or "
            f'forward_kwargs={{"{name}": {value}}}',
        )


def _refuse_misspelt(kind: str, given: Mapping[str, Any], named: frozenset[str]) -> None:
    """Refuse other names of our arguments; a forward with ``**kwargs`` would swallow them."""
    for name in given.keys() & _OURS.keys() - named:
        value = given[name]
        is_dtype = _OURS[name] == "dtypes"
        said = str(value).removeprefix("torch.") if is_dtype else _text(value)
        written = f'["{said}"]' if is_dtype else said
        raise UsageError(
            f"{name}={said}: {kind}.forward has no such argument",
            hint=f"write {_OURS[name]}={written}",
        )


def _refuse_unknown(
    kind: str, given: Mapping[str, Any], named: frozenset[str], takes_any: bool
) -> None:
    """Refuse what nobody takes; of a forward that takes anything what is nearly one of ours."""
    for name in given.keys() - named:
        ours = get_close_matches(name, [*SCENARIO_FIELDS, *_OPTIONS], n=1, cutoff=0.77)
        if takes_any and not ours:
            continue
        if takes_any:
            raise UsageError(
                f"{name}={_text(given[name])} is not an argument of torchgauge, and {kind}.forward "
                "does not name it",
                hint=f"did you mean {ours[0]}? If the forward takes it, write "
                f'forward_kwargs={{"{name}": {_text(given[name])}}}',
            )
        near = get_close_matches(name, [*SCENARIO_FIELDS, *_OPTIONS, *named], n=1)
        raise UsageError(
            f"{name}={_text(given[name])}: neither torchgauge nor {kind}.forward has an argument "
            "of that name",
            hint=f"did you mean {near[0]}?" if near else "leave it out",
        )


def _written(given: Mapping[str, Any]) -> str:
    """Write the scenario that was meant; what has a meaning in training alone says so."""
    given = {name: _meant(value) for name, value in given.items()}
    try:
        Scenario(**given)
    except (ScenarioError, TypeError):
        given = {"mode": "training", **given}
    return ", ".join(f"{name}={_text(value)}" for name, value in given.items())


def _meant(value: Any) -> Any:
    """Return the word of a scenario for what a user wrote; an optimizer by its class."""
    word = value if isinstance(value, _PLAIN) else _OTHER_WORDS.get(str(value))
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    if word is None and kind.lower() in OPTIMIZERS:
        word = kind.lower()
    if word is None and kind == "device":  # a torch.device
        word = value.type
    return _OTHER_WORDS.get(word, word) if isinstance(word, str) else word


def _told(value: Any) -> str:
    """Return what names a value of another library: a class, a dtype, the class of an object."""
    if isinstance(value, type):
        return value.__name__
    return str(value) if len(str(value)) <= 40 else type(value).__name__


def _text(value: Any) -> str:
    if isinstance(value, _PLAIN) and value is not None and len(repr(value)) <= 40:
        return repr(value).replace("'", '"')
    return "…"
