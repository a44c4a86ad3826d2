"""Work in a process of its own: what comes back, and what is told where nothing does."""

from __future__ import annotations

import pytest

from torchgauge.apart import run_apart
from torchgauge.errors import UsageError


def test_each_task_has_a_process_and_an_answer() -> None:
    tasks = [
        "1 + 1",
        "__import__('os').__dict__.__setitem__('left', 1)",
        "hasattr(__import__('os'), 'left')",
        "1 / 0",
        "__import__('sys').exit('that is all')",
        "__import__('os')._exit(3)",
        "__import__('signal').raise_signal(9)",
        "print('noise') or 'quiet'",
        "lambda: 1",
    ]
    found = run_apart("builtins:eval", tasks, limit_s=300)
    assert [getattr(item, "message", item) for item in found] == [
        2,
        None,
        False,
        "ZeroDivisionError: division by zero",
        "SystemExit: that is all",
        "its process ended: exit status 3",
        "its process ended: SIGKILL",
        "quiet",
        found[-1].message,
    ]
    assert found[-1].message.startswith("its result cannot be sent back: ")


def test_what_cannot_be_pickled_is_told_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="it cannot be sent to a process of its own"):
        run_apart("builtins:len", [lambda: 1], limit_s=1)


def test_a_process_that_does_not_start_says_its_last_words() -> None:
    (found,) = run_apart("nothing_of_the_kind:work", [1], limit_s=300)
    assert found.message == (
        "its process ended: ModuleNotFoundError: No module named 'nothing_of_the_kind'"
    )


def test_a_process_that_takes_too_long_is_ended() -> None:
    with pytest.raises(UsageError, match="it took longer than 1 s"):
        run_apart("time:sleep", [600], limit_s=1)
