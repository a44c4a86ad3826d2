"""A request that names its model by a spec, with the model built and the inputs completed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torchgauge.errors import UsageError
from torchgauge.models.build import ModelBuild
from torchgauge.models.spec import build_model, parse_model_spec
from torchgauge.request import Inputs, InputSize, Request, ask


def build_for(request: Request, *, with_weights: bool = False) -> ModelBuild:
    """Build the model that the spec of a request names.

    Raises:
        ModelSpecError: the spec leads to no model.
    """
    assert request.spec is not None
    spec = parse_model_spec(request.spec, dict(request.settings))
    request.tell(f"building {spec.without_arguments}")
    return build_model(spec, with_weights=with_weights)


def with_build(request: Request, build: ModelBuild, *, without_inputs: bool = False) -> Request:
    """Return the request with a model that was built for it.

    The inputs that the source of the model gives take the place of missing ones, unless
    ``without_inputs``.

    Raises:
        UsageError: the inputs do not go with the model.
    """
    inputs = request.inputs
    why: tuple[str, ...] = ()
    if not without_inputs:
        inputs = _completed(request.inputs, build)
        if build.default_inputs is not None and request.inputs.size is None:
            why = (build.default_inputs.why,)
    return replace(
        request,
        model=build.model,
        spec=build.spec,
        name=request.name or build.name,
        inputs=inputs,
        assumptions=(*why, *build.assumptions, *request.assumptions),
        warnings=(*build.warnings, *request.warnings),
    )


def request_of(
    model: Any,
    input_size: InputSize | None,
    options: Mapping[str, Any],
    *,
    with_weights: bool = False,
    without_inputs: bool = False,
) -> Request:
    """Return the request that ``analyze`` makes of its arguments, the model of a spec built.

    Raises:
        TorchGaugeError: what ``ask``, ``build_for`` and ``with_build`` raise.
    """
    from torchgauge.trace.run.keywords import forward_names

    if not isinstance(model, str):
        return ask(model, input_size, options, forward_names)
    asked = Request(spec=model, on_progress=options.get("on_progress"))
    made = build_for(asked, with_weights=with_weights)
    request = ask(made.model, input_size, options, forward_names)
    return with_build(request, made, without_inputs=without_inputs)


def _completed(given: Inputs, build: ModelBuild) -> Inputs:
    """Return the inputs, completed by those that the model's source gives."""
    described = bool(given.dtypes) or given.batch_dim is not None
    if not build.runs:
        if given.are_given or described or given.batch_size is not None:
            raise UsageError(
                f"{build.spec} holds weights and no forward, so it takes no inputs",
                hint="leave the input sizes out, or name the class: file.py:Name",
            )
        return given
    if given.are_given:
        return given
    defaults = build.default_inputs
    is_bare = not described and given.batch_size is None
    if defaults is None:
        if not is_bare:
            raise UsageError(
                "a batch size, a batch dimension and dtypes need a size to act on",
                hint="add a size: input_size=(3, 224, 224), --input-size 3,224,224",
            )
        return given
    if defaults.data is not None:
        if not is_bare:
            raise UsageError(
                f"the example inputs in {build.spec} have their batch and dtypes",
                hint="add a size as well: input_size=…, --input-size …",
            )
        return replace(given, data=defaults.data, keywords=defaults.keywords)
    if defaults.tensors:
        if described:
            raise UsageError(
                "dtypes and a batch dimension need a size to act on",
                hint="add a size for each input: " + defaults.why,
            )
        batch = given.batch_size or 1
        tensors = {tensor.name: tensor.with_batch(batch) for tensor in defaults.tensors}
        return Inputs(data=tensors, as_given=given.as_given)
    # Default sizes have no batch dimension; saying a batch size tells the analysis so.
    return replace(
        given,
        size=defaults.sizes,
        batch_size=1 if given.batch_size is None else given.batch_size,
        dtypes=given.dtypes or list(defaults.dtypes) or None,
    )


def check_runs(build: ModelBuild) -> None:
    """Refuse a model without a forward.

    Raises:
        UsageError: there is nothing to run.
    """
    if not build.runs:
        raise UsageError(
            f"{build.spec} holds weights and no forward, so there is nothing to run",
            hint="name the class: file.py:Name",
        )
