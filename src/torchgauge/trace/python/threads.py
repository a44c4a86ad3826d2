"""Threads that a model starts: what they run belongs to the layer that started them.

Dispatch modes belong to a thread, so without this the work of others would go unseen. A thread
that is started during a run, a task given to a pool of threads, and a layer that is called in any
other thread enter the recorder there. They run one after the other, each while its starter waits,
so that the order of operators is the same on every machine. Where one waits for another, both go
on side by side, and the report says so.
"""

from __future__ import annotations

import multiprocessing.pool
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from multiprocessing.pool import ThreadPool
from threading import get_ident
from time import monotonic
from typing import Any

from torchgauge.trace.torch_internals.replaced import replaced

_PACKAGES = ("threading", "_thread", "queue", "_queue", "concurrent", "multiprocessing", "asyncio")
_PATIENCE_S = 1.0
"""After so long without an operator a thread is taken to wait for another one."""
_SLICE_S = 0.02
_POOLS = ("concurrent.futures.thread", "multiprocessing.pool")
"""Whose threads live on between tasks: their tasks are followed instead."""
_POOL_METHODS = ("apply_async", "_map_async", "imap", "imap_unordered")
"""Methods of ``multiprocessing.pool.Pool`` that take a function first (Python 3.10–3.14)."""


def is_of_threads(kind: type) -> bool:
    """Return whether a class is one of threads, pools, queues and locks.

    A copy of a model has the model's own: no thread would read a copied queue.
    """
    if issubclass(kind, threading.local):
        return False
    return any(base.__module__.partition(".")[0] in _PACKAGES for base in kind.__mro__)


class _Local(threading.local):
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.has_turn = False
        self.let_go = threading.Event()
        """Set once nobody waits for this thread any longer."""


class Threads:
    """Which threads belong to a run, and whose turn it is."""

    def __init__(self, *, simulated: bool) -> None:
        self._simulated = simulated
        self.lock = threading.RLock()
        """Held while an operator runs, once there is more than one thread."""
        self.is_several = False
        self.ran_side_by_side = False
        """Whether operators of several threads were recorded as they came."""
        self.failure: Exception | None = None
        """What ended a thread of a simulated run: with data it might not have."""
        self.local = _Local()
        self._mode: AbstractContextManager[Any] | None = None
        self._main = self.local.stack
        self._idents: set[int] = set()
        self._turn = threading.Lock()
        self._ops = 0

    # ------------------------------------------------------------------ for the recorder

    def is_foreign(self) -> bool:
        """Return whether this thread does not belong to the run that goes on."""
        return self._mode is not None and get_ident() not in self._idents

    def note_op(self) -> bool:
        """Note that an operator runs; return whether it belongs to the run."""
        self._ops += 1
        if self.local.let_go.is_set():
            self.ran_side_by_side = True
        return self._mode is not None

    def check(self) -> None:
        """Raise what has ended a thread: its starter does not hear of it."""
        if self.failure is not None:
            raise self.failure

    # ------------------------------------------------------------------ following

    @contextmanager
    def followed(self, mode: AbstractContextManager[Any]) -> Iterator[None]:
        """Let threads that start, and tasks of pools, enter ``mode`` while the context is open."""
        self._mode, self._main = mode, self.local.stack
        self._idents.add(get_ident())
        pool: Any = multiprocessing.pool.Pool
        methods = {name: self._pool_method(getattr(pool, name)) for name in _POOL_METHODS}
        try:
            with (
                replaced(threading.Thread, start=self._start(threading.Thread.start)),
                replaced(ThreadPoolExecutor, submit=self._submit(ThreadPoolExecutor.submit)),
                replaced(pool, **methods),
            ):
                yield
        finally:
            self._mode = None

    def in_thread(
        self, function: Callable[..., Any], let_go: threading.Event | None = None
    ) -> Callable[..., Any]:
        """Return a function that runs inside the mode and in its turn, in whatever thread."""
        stack = self.local.stack if self._is_ours() else self._main

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            ident, mode, local = get_ident(), self._mode, self.local
            if mode is None or ident in self._idents:
                return function(*args, **kwargs)
            self.is_several = True
            local.stack = list(stack)
            local.let_go = let_go or threading.Event()
            self._take_turn()
            self._idents.add(ident)
            try:
                with mode:
                    return function(*args, **kwargs)
            finally:
                self._idents.discard(ident)
                self._end_turn()

        return run

    def _start(self, start: Callable[..., None]) -> Callable[..., None]:
        @wraps(start)
        def followed(thread: threading.Thread) -> None:
            target = getattr(thread, "_target", None)
            if not self._is_ours() or getattr(target, "__module__", "") in _POOLS:
                start(thread)
                return
            let_go = threading.Event()
            run = self._guarded(thread.run) if self._simulated else thread.run
            thread.run = self.in_thread(run, let_go)  # type: ignore[method-assign]
            start(thread)

            def is_done() -> bool:
                thread.join(_SLICE_S)
                return not thread.is_alive()

            self._wait(is_done, let_go)
            if not thread.is_alive():
                thread.__dict__.pop("run", None)

        return followed

    def _guarded(self, run: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            try:
                run()
            except Exception as error:
                self.failure = self.failure or error

        return guarded

    def _submit(self, submit: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
        @wraps(submit)
        def followed(
            pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> Future[Any]:
            if not self._is_ours():
                return submit(pool, function, *args, **kwargs)
            let_go = threading.Event()
            future = submit(pool, self.in_thread(function, let_go), *args, **kwargs)
            self._wait(lambda: bool(wait_for([future], timeout=_SLICE_S).done), let_go)
            return future

        return followed

    def _pool_method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def followed(pool: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(pool, ThreadPool) and self._is_ours():
                function = self.in_thread(function)
            return method(pool, function, *args, **kwargs)

        return followed

    def _is_ours(self) -> bool:
        return self._mode is not None and get_ident() in self._idents

    # ------------------------------------------------------------------ turns

    def _wait(self, is_done: Callable[[], bool], let_go: threading.Event) -> None:
        """Wait for a thread or a task, unless it waits itself."""
        had_turn = self.local.has_turn
        if had_turn:
            self._end_turn()
        if not self._until(is_done):
            let_go.set()
        if had_turn:
            self._take_turn()

    def _take_turn(self) -> None:
        def taken() -> bool:
            self.local.has_turn = self._turn.acquire(timeout=_SLICE_S)
            return self.local.has_turn

        if not self._until(taken):
            self.local.let_go.set()

    def _end_turn(self) -> None:
        if self.local.has_turn:
            self.local.has_turn = False
            self._turn.release()

    def _until(self, is_done: Callable[[], bool]) -> bool:
        """Wait until something is done; return False when nothing has run for a while."""
        ops, since = self._ops, monotonic()
        while not is_done():
            if self._ops != ops or self._is_busy():
                ops, since = self._ops, monotonic()
            elif monotonic() - since > _PATIENCE_S:
                return False
        return True

    def _is_busy(self) -> bool:
        if self.lock.acquire(blocking=False):
            self.lock.release()
            return False
        return True
