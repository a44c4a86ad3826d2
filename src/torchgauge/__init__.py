"""How big a PyTorch model is, what it costs and where, from one simulated run.

>>> import torch, torchgauge as tg
>>> report = tg.analyze(torch.nn.Linear(8, 4), input_size=(8,))
>>> report.totals.params, report.totals.forward_macs
(36, 32)

Importing this package does not import torch: each public name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from torchgauge.version import __version__

_HOME = {
    "Report": "torchgauge.facts.report",
    "Scenario": "torchgauge.facts.scenario",
    "TorchGaugeError": "torchgauge.errors",
    "advise": "torchgauge.advise.public",
    "analyze": "torchgauge.api",
    "calibrate": "torchgauge.api",
    "compare": "torchgauge.loop.compare",
    "explain_oom": "torchgauge.oom.public",
    "fits": "torchgauge.api",
    "load": "torchgauge.api",
    "measure": "torchgauge.api",
    "meta_construction": "torchgauge.trace.copy.build",
    "plan_checkpoints": "torchgauge.checkpoints.public",
    "register_flop_formula": "torchgauge.api",
    "show": "torchgauge.api",
    "summary": "torchgauge.api",
}
"""The public names and the modules that hold them; at most 20, ``__version__`` included."""

_HOOKS = {
    "load_ipython_extension": "torchgauge.notebook.extension",
    "unload_ipython_extension": "torchgauge.notebook.extension",
}
"""What ``%load_ext torchgauge`` asks for."""

__all__ = [
    "Report",
    "Scenario",
    "TorchGaugeError",
    "__version__",
    "advise",
    "analyze",
    "calibrate",
    "compare",
    "devices",
    "estimate",
    "explain_oom",
    "fits",
    "load",
    "measure",
    "meta_construction",
    "plan_checkpoints",
    "register_flop_formula",
    "show",
    "summary",
]

if TYPE_CHECKING:
    from torchgauge import devices
    from torchgauge.advise.public import advise
    from torchgauge.api import (
        analyze,
        calibrate,
        estimate,
        fits,
        load,
        measure,
        register_flop_formula,
        show,
        summary,
    )
    from torchgauge.checkpoints.public import plan_checkpoints
    from torchgauge.errors import TorchGaugeError
    from torchgauge.facts.report import Report
    from torchgauge.facts.scenario import Scenario
    from torchgauge.facts.trace import Trace
    from torchgauge.loop.compare import compare
    from torchgauge.oom.public import explain_oom
    from torchgauge.trace.copy.build import meta_construction


def __getattr__(name: str) -> object:
    if name in ("devices", "estimate"):  # packages; the second is a function too
        return importlib.import_module(f"torchgauge.{name}")
    if name in _HOOKS:
        return getattr(importlib.import_module(_HOOKS[name]), name)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import random

    state = random.getstate()  # rich draws a number when it is imported
    try:
        value = getattr(importlib.import_module(_HOME[name]), name)
    finally:
        random.setstate(state)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Estimate(ModuleType):
    """The package of estimators, which is a function as well: ``torchgauge.api.estimate``."""

    def __call__(self, trace: Trace, device: str | None = None) -> Report:
        """Return what a recorded step costs on another device."""
        report: Report = importlib.import_module("torchgauge.api").estimate(trace, device)
        return report


class _Package(ModuleType):
    """Keep functions such as ``analyze`` although submodules have their names.

    Importing a submodule binds it in its parent package; for a public name that would replace
    the function by the module as soon as anything imported it.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name == "estimate" and isinstance(value, ModuleType):
            value.__class__ = _Estimate
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
