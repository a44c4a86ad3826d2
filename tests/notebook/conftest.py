"""Shells of IPython for tests: a kernel's and a terminal's, without IPython."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import pytest
from fake_shell import Shell, running_in


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """The shell of a kernel that the test is a cell of."""
    with running_in(Shell(), monkeypatch) as made:
        yield made


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """The shell of IPython in a terminal."""
    with running_in(Shell(kernel=None), monkeypatch) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Give a test in a kernel the kernel's output: pytest sets its own after the fixtures."""
    shell = pyfuncitem.funcargs.get("shell")
    if not isinstance(shell, Shell):
        return (yield)
    with contextlib.redirect_stdout(shell.stream):  # type: ignore[type-var]
        return (yield)
