"""Model + inputs → a folder that can be served: exported, checked, described, hashed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch import nn

from torchgauge.analyze import as_module, described, model_error, run_model
from torchgauge.deploy.contents.example import Example, example_call
from torchgauge.deploy.export.call import Call, FlatModel
from torchgauge.deploy.export.exporting import Exported, export_model
from torchgauge.deploy.export.inputs import InputMaker
from torchgauge.deploy.export.signature import BATCH, Signature, SizeRange
from torchgauge.deploy.package_budget import check_memory, check_time
from torchgauge.deploy.parts import Package, PackageRequest
from torchgauge.deploy.prediction import predict_memory, predict_milliseconds
from torchgauge.deploy.verification import (
    Comparison,
    compare_outputs,
    size_choices,
    with_observed_shapes,
)
from torchgauge.deploy.writing import write_package
from torchgauge.errors import InputError, ModelError, UsageError
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Scenario
from torchgauge.reports import report_of

LONGEST = 2048
"""What a dimension without a limit is planned for."""

Progress = Callable[[str], None]


def package_model(
    output: Path,
    request: PackageRequest,
    *,
    overwrite: bool = False,
    on_progress: Progress | None = None,
    before_writing: Callable[[Package], None] | None = None,
) -> Package:
    """Write the package of a model to the folder ``output``, whole or not at all.

    ``before_writing`` is given what will be written; nothing is where it raises.

    Raises:
        ModelError: the model does not run, cannot be exported, or its program does not do the same.
        CheckFailed: it needs more memory or time than the budget; nothing is written.
        PackageError: the folder cannot be written.
        MissingExtraError: a package for what was asked is not installed.
    """
    tell = on_progress or (lambda _: None)
    model = as_module(request.asked.model)
    with _evaluating(model):
        tell("analysis")
        report, example = _analysed(model, request)
        call = example.call
        flat = FlatModel(model, call).eval()
        tell("export")
        exported = export_model(flat, call.names, call.tensors, example.dynamic)
        maker = _input_maker(exported.signature, call, request)
        exported = replace(exported, signature=_limited(exported.signature, model, request))
        program = exported.program.module()
        tell("comparison with the original")
        signature, comparisons, notes = _compared(program, flat, exported, maker)
        signature = with_observed_shapes(signature, comparisons)
        exported = replace(exported, signature=signature, notes=(*exported.notes, *notes))
        notes = ()
        asked = request.asked.scenario
        memory = tuple(
            predict_memory(program, exported.signature, scenario, maker, tell)
            for scenario in (Scenario(), *([asked] if asked.device != "cpu" else []))
        )
        has_lengths = bool(exported.signature.dimensions.keys() - {BATCH})
        if request.longest is not None and not has_lengths:
            notes = (f"--longest {request.longest} changes nothing: no length varies",)
        package = Package(
            folder=output,
            exported=exported,
            model=model,
            report=report,
            comparisons=comparisons,
            memory=memory,
            request=request,
            example=maker(maker.example_sizes),
            notes=(*example.notes, *exported.notes, *notes),
        )
        _check_budgets(package, program, maker)
        if before_writing is not None:
            before_writing(package)
        write_package(package, overwrite=overwrite, on_progress=tell)
    return package


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    flags = [(module, module.training) for module in model.modules()]
    for module, _ in flags:
        module.training = False
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _analysed(model: nn.Module, request: PackageRequest) -> tuple[Report, Example]:
    asked, notes = request.asked, []
    keywords = dict(asked.inputs.keywords)
    takes = inspect.signature(model.forward).parameters
    if "use_cache" not in keywords and hasattr(model, "config") and "use_cache" in takes:
        keywords["use_cache"] = False  # a cache of keys and values has no place in one request
        notes.append("use_cache=False: the program returns no cache of keys and values")
    run = run_model(replace(asked, inputs=replace(asked.inputs, keywords=keywords)))
    report = report_of(described(run.outcome.trace, asked, run.target), run.target)
    if run.outcome.error is not None:
        raise model_error(run.outcome, report) from run.outcome.error
    if run.run_plan is None:
        raise InputError(
            "nothing can be exported without an input",
            hint="add --input-size 3,224,224, or whatever the model takes",
        )
    plan = run.outcome.plan or run.run_plan.plan
    return report, example_call(model, plan, request.dynamic, tuple(notes))


def _input_maker(signature: Signature, call: Call, request: PackageRequest) -> InputMaker:
    if request.examples is None:
        return InputMaker(signature, call.tensors, keep=False)
    missing = [name for name in call.names if name not in request.examples]
    if missing or len(request.examples) != len(call.names):
        raise InputError(
            f"the example inputs are {', '.join(request.examples) or 'none'}, the model takes "
            f"{', '.join(call.names)}",
            hint="name the tensors in the file as the model's arguments",
        )
    return InputMaker(signature, tuple(request.examples[name] for name in call.names), keep=True)


def _compared(
    program: nn.Module, model: nn.Module, exported: Exported, maker: InputMaker
) -> tuple[Signature, tuple[Comparison, ...], tuple[str, ...]]:
    """Compare; where a single sample alone does not run, the range of the batch says so."""
    signature = exported.signature
    choices = size_choices(signature, maker.example_sizes)
    try:
        return signature, compare_outputs(program, model, signature, maker, choices), ()
    except ModelError:
        several = [choice for choice in choices if choice.get(BATCH) != 1]
        if BATCH not in signature.dimensions or len(several) == len(choices) or not several:
            raise
        narrowed = SizeRange(minimum=2, maximum=signature.dimensions[BATCH].maximum)
        signature = replace(signature, dimensions={**signature.dimensions, BATCH: narrowed})
        return (
            signature,
            compare_outputs(program, model, signature, maker, several),
            ("the program does not run with a batch of 1; it takes 2 and more",),
        )


def _limited(signature: Signature, model: nn.Module, request: PackageRequest) -> Signature:
    """Give every dynamic dimension but the batch a largest size: memory is planned up to it."""
    made_for = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    longest = request.longest or (made_for if isinstance(made_for, int) else LONGEST)
    return replace(
        signature,
        dimensions={
            name: sizes
            if name == BATCH
            else replace(sizes, maximum=min(longest, sizes.maximum or longest))
            for name, sizes in signature.dimensions.items()
        },
    )


def _check_budgets(package: Package, program: nn.Module, maker: InputMaker) -> None:
    request = package.request
    has_budget = request.budget_bytes is not None or request.budget_ms is not None
    if has_budget and request.budget_batch > 1 and BATCH not in package.signature.dimensions:
        raise UsageError(
            f"a budget for a batch of {request.budget_batch}, but this program has no batch that "
            "may vary",
            hint="leave --budget-batch out: the sizes are fixed",
        )

    def milliseconds(batch: int, sizes: Mapping[str, int]) -> float:
        return predict_milliseconds(program, request.asked.scenario, maker({**sizes, BATCH: batch}))

    check_memory(package)
    check_time(package, milliseconds)
