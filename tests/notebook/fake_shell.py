"""A stand-in for IPython's shell: as much of it as torchgauge looks at."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Publisher:
    def __init__(self) -> None:
        self.published: list[dict[str, str]] = []

    def publish(self, data: dict[str, str], metadata: dict[str, Any]) -> None:
        self.published.append(data)


class Events:
    def __init__(self) -> None:
        self.callbacks: list[Any] = []

    def register(self, event: str, callback: Any) -> None:
        assert event == "post_execute"
        if callback not in self.callbacks:
            self.callbacks.append(callback)

    def unregister(self, event: str, callback: Any) -> None:
        self.callbacks.remove(callback)


class Stream:
    """A kernel's standard output: torchgauge knows it by the module of its class."""

    __module__ = "ipykernel.iostream"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


class Compiler:
    def format_code_name(self, name: str) -> tuple[str, str] | None:
        return ("Cell", "In[1]") if name.startswith("<cell") else None


class Shell:
    """A kernel's shell, or with ``kernel=None`` that of a terminal."""

    def __init__(self, kernel: object = "a kernel") -> None:
        self.kernel = kernel
        self.execution_count = 1
        self.display_pub = Publisher()
        self.displayhook = SimpleNamespace(msg=None)
        self.events = Events()
        self.user_ns: dict[str, Any] = {}
        self.compile = Compiler()
        self.magics: dict[str, Any] = {}
        self.magics_manager = SimpleNamespace(magics={"line": self.magics})
        self.stream = Stream()

    @property
    def published(self) -> list[dict[str, str]]:
        return self.display_pub.published

    def register_magic_function(self, function: Any, magic_kind: str, magic_name: str) -> None:
        assert magic_kind == "line"
        self.magics[magic_name] = function

    def end_cell(self) -> None:
        for callback in list(self.events.callbacks):
            callback()
        self.execution_count += 1

    def shown_as_value(self, answer: Any) -> bool:
        """Whether a cell that ends in an answer shows it, as IPython's display hook decides."""
        self.displayhook.msg = {}
        try:
            shows_itself = getattr(answer, "_ipython_display_", None)
            if shows_itself is not None:
                shows_itself()
            return shows_itself is None
        finally:
            self.displayhook.msg = None


@contextmanager
def running_in(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Let the code run as in a cell of a shell."""
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "IPython", ipython)
        if shell.kernel is not None:
            patch.setattr(sys, "stdout", shell.stream)
        yield shell
        shell.end_cell()
