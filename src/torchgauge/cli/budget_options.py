"""Budgets from a TOML file: its keys are the options of the command line. No torch in here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from torchgauge.budget.check import Budget
from torchgauge.budget.config import BASELINES, Config, Table
from torchgauge.budget.limits import KEYS, Limit, limit_from
from torchgauge.cli import options, scenario_options
from torchgauge.errors import UsageError
from torchgauge.facts.scenario import Scenario
from torchgauge.models.suggest import did_you_mean
from torchgauge.request import Request

_SPEC = "spec"
_PAIRS = ("set", "optimizer-option")
"""Options that take KEY=VALUE; in the file each is a table."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument --"))


def budgets_from(config: Config, names: Sequence[str] = ()) -> list[Budget]:
    """Return the budgets of a file, or those of ``names``, in their order.

    Raises:
        UsageError: a name or a key is not known, or a value is not one of its option.
    """
    for name in names:
        if name not in config.tables:
            listed = "it has " + ", ".join(config.tables)
            hint = did_you_mean(name, config.tables, otherwise=listed)
            raise UsageError(f"{config.path.name} has no model {name!r}", hint=hint)
    return [_budget(config, config.tables[name]) for name in names or config.tables]


def _budget(config: Config, table: Table) -> Budget:
    return Budget(
        name=table.name,
        line=table.line,
        request=request_from_table(config, table),
        limits=tuple(_limits(config, table)),
        baseline=config.baselines / f"{table.name}.json",
    )


def request_from_table(config: Config, table: Table) -> Request:
    """Return what a model's table asks.

    Raises:
        UsageError: a key is not known, or a value is not one of its option.
    """
    parser = _parser()
    actions = {
        option.removeprefix("--"): action
        for action in parser._actions
        for option in action.option_strings
    }
    place = _place(config, table)
    known = (_SPEC, *actions, *KEYS)
    for key in table.values:
        if key not in known:
            if key == BASELINES:
                raise UsageError(
                    f"{place}: {key!r} is a key of all models", hint="move it to [tool.torchgauge]"
                )
            raise UsageError(
                f"{place}: the key {key!r} is not known",
                hint=did_you_mean(key, known, otherwise="one of " + ", ".join(known)),
            )
    if not isinstance(table.values.get(_SPEC), str):
        raise UsageError(f"{place}: there is no spec", hint='write spec = "net.py:Net"')
    try:
        tokens = [
            token
            for key, value in table.values.items()
            if key in actions
            for token in _tokens(key, value, is_flag=actions[key].nargs == 0)
        ]
        arguments = parser.parse_args(tokens)
        scenario = scenario_options.scenario_from(arguments)
        return Request(
            spec=table.values[_SPEC],
            settings=options.settings_from(arguments),
            inputs=options.inputs_from(arguments),
            scenario=_on_first_device(table, scenario),
            real_run=arguments.real_run,
        )
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from error


def _on_first_device(table: Table, scenario: Scenario) -> Scenario:
    """Return the scenario; without a device it is on the first that the model must fit into."""
    from dataclasses import replace

    wanted = table.values.get("fits")
    first = wanted[0] if isinstance(wanted, list) and wanted else wanted
    if "device" in table.values or not isinstance(first, str):
        return scenario
    return replace(scenario, device=first)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    options.add_model_options(parser, is_optional=True)
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    return parser


def _tokens(key: str, value: Any, *, is_flag: bool) -> Iterator[str]:
    """Yield a value as the command line has it."""
    if is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{key} = {value!r} is neither true nor false", hint="write true")
        if value:
            yield f"--{key}"
    elif key in _PAIRS:
        if not isinstance(value, Mapping):
            raise UsageError(
                f"{key} = {value!r} is not a table", hint=f"write {key} = {{ width = 2 }}"
            )
        yield from (f"--{key}={name}={item!r}" for name, item in value.items())
    elif isinstance(value, Mapping):
        yield from (f"--{key}={name}={_written(item)}" for name, item in value.items())
    elif isinstance(value, list) and not all(isinstance(item, int) for item in value):
        yield from (f"--{key}={_written(item)}" for item in value)
    else:
        yield f"--{key}={_written(value)}"


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _limits(config: Config, table: Table) -> Iterator[Limit]:
    for key in KEYS:
        if key in table.values:
            try:
                line = table.lines.get(key, table.line)
                limit = limit_from(key, table.values[key], line)
            except UsageError as error:
                place = _place(config, table)
                raise UsageError(f"{place}: {error.message}", hint=error.hint) from error
            if limit is not None:
                yield limit


def _place(config: Config, table: Table) -> str:
    return f"{config.path.name}, [tool.torchgauge.models.{table.name}]"


def name_here(path: Path, environment: Mapping[str, str]) -> str:
    """Return what a file is called: from the repository in a CI service, else from this folder."""
    services = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")
    roots = [Path(environment[name]) for name in services if environment.get(name)]
    for root in (*roots, Path.cwd()):
        if path.resolve().is_relative_to(root.resolve()):
            return path.resolve().relative_to(root.resolve()).as_posix()
    return path.as_posix()
