"""A ``Scenario`` from configuration: a dict, or what Hydra and OmegaConf read.

>>> scenario_from({"mode": "training", "optimizer": "adamw", "batch-size": 8})
Traceback (most recent call last):
    ...
torchgauge.errors.ScenarioError: batch-size: a scenario has no such key
  try: pass the batch size to analyze(…, batch_size=…)
>>> scenario_from({"mode": "training", "optimizer": "adamw"}).optimizer
'adamw'
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torchgauge.errors import ScenarioError, TorchGaugeError
from torchgauge.facts.scenario import Scenario
from torchgauge.integrations.optional import optional
from torchgauge.request import SCENARIO_FIELDS

_ELSEWHERE = {
    "batch_size": "pass the batch size to analyze(…, batch_size=…)",
    "input_size": "pass the input size to analyze(model, input_size)",
    "model": "pass the model to analyze(model, …)",
}
"""Keys of the same file that belong to another argument."""


def scenario_from(config: Any, *, key: str = "") -> Scenario:
    """Return the scenario that a configuration describes.

    Keys are the fields of ``Scenario``; a dash stands for an underscore. A key whose value is
    ``null`` is as if it were not there.

    Args:
        config: a mapping, or a ``DictConfig`` of OmegaConf, whose interpolations are resolved.
        key: where in it the scenario stands, such as ``"gauge.scenario"``; else the whole.

    Raises:
        ScenarioError: a key that a scenario does not have, or a value that it does not take. The
            message begins with the key's place in the file.
        MissingExtraError: the configuration is OmegaConf's, and that is not installed.
    """
    section = _section(_plain(config), key)
    given: dict[str, Any] = {}
    for name, value in section.items():
        field = str(name).replace("-", "_")
        place = _place(key, name)
        if field not in SCENARIO_FIELDS:
            raise ScenarioError(f"{place}: a scenario has no such key", hint=_hint(field))
        if field in given:
            raise ScenarioError(f"{place} is there twice, as {field} too", hint="keep one of them")
        if value is not None:
            given[field] = value
    _check_each(given, section, key)
    try:
        return Scenario(**given)
    except TorchGaugeError as error:  # keys that contradict each other
        place = key or "the configuration"
        raise ScenarioError(f"{place}: {error.message}", hint=error.hint) from error


def _check_each(given: Mapping[str, Any], section: Mapping[Any, Any], key: str) -> None:
    """Find the key whose value is refused whatever the others are."""
    written = {str(name).replace("-", "_"): name for name in section}
    mode = {"mode": given["mode"]} if "mode" in given else {}
    for field in (*mode, *given):
        try:
            Scenario(**{**mode, field: given[field]})
        except (TorchGaugeError, TypeError, ValueError) as error:
            message = getattr(error, "message", f"{type(error).__name__}: {error}")
            hint = getattr(error, "hint", "") or "correct the value"
            raise ScenarioError(f"{_place(key, written[field])}: {message}", hint=hint) from error


def _section(config: Any, key: str) -> Mapping[Any, Any]:
    found, walked = config, []
    for part in filter(None, key.split(".")):
        walked.append(part)
        if not isinstance(found, Mapping) or part not in found:
            there = ", ".join(map(str, found)) if isinstance(found, Mapping) else "no mapping"
            raise ScenarioError(
                f"{'.'.join(walked)}: the configuration has no such key", hint=f"it has {there}"
            )
        found = found[part]
    if not isinstance(found, Mapping):
        raise ScenarioError(
            f"{key or 'the configuration'} is a {type(found).__name__}, not a mapping",
            hint="write one key for each field: mode, device, precision, …",
        )
    return found


def _plain(config: Any) -> Any:
    """Return OmegaConf's containers as plain data."""
    if not type(config).__module__.startswith("omegaconf"):
        return config
    omegaconf = optional("omegaconf")
    try:
        return omegaconf.OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except omegaconf.errors.OmegaConfBaseException as error:
        place = getattr(error, "full_key", None) or "the configuration"
        first = str(error).partition("\n")[0]
        raise ScenarioError(f"{place}: {first}", hint="give the key a value") from error


def _place(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _hint(field: str) -> str:
    if field in _ELSEWHERE:
        return _ELSEWHERE[field]
    near = get_close_matches(field, sorted(SCENARIO_FIELDS), n=1)
    return f"did you mean {near[0]}?" if near else "its keys are the fields of tg.Scenario"
