"""``%load_ext torchgauge``: the line magic ``%gauge``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchgauge.facts.report import Report
from torchgauge.notebook.line import asked_by


def load_ipython_extension(shell: Any) -> None:
    """Give a shell of IPython the magic ``%gauge``; called by ``%load_ext torchgauge``."""

    def gauge(line: str, local_ns: Mapping[str, Any] | None = None) -> Report:
        """Show what a model costs: %gauge MODEL [SIZE] [keyword=value ...].

        ::

            %gauge net (3, 224, 224)
            %gauge net (3, 224, 224) mode=training optimizer=adamw device=T4 batch_size=64
            %gauge torchvision:resnet50 (3, 224, 224)
            report = %gauge net input_data=batch

        MODEL and SIZE are Python, seen from the cell; a model may be a model spec. Keywords are
        those of torchgauge.summary. A word is text (mode=training) where the keyword takes text;
        device=(name) reads the variable.
        """
        from torchgauge.api import summary

        asked = asked_by(line, {**shell.user_ns, **(local_ns or {})})
        return summary(asked.model, asked.size, **asked.options)

    # IPython reads these: the names of a function that calls the magic, and the line as typed.
    gauge.needs_local_scope = True  # type: ignore[attr-defined]
    gauge._ipython_magic_no_var_expand = True  # type: ignore[attr-defined]
    shell.register_magic_function(gauge, magic_kind="line", magic_name="gauge")


def unload_ipython_extension(shell: Any) -> None:
    """Take the magic away; called by ``%unload_ext torchgauge``."""
    shell.magics_manager.magics["line"].pop("gauge", None)
