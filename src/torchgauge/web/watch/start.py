"""The page as the watch in the terminal sees it: started, told, ended."""

from __future__ import annotations

import multiprocessing
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from torchgauge.facts.loop.comparison import Comparison
from torchgauge.language import current
from torchgauge.loop.watching import Version, named
from torchgauge.request import Request
from torchgauge.web.live.start import HOST, check_installed
from torchgauge.web.watch.messages import Saved, Told, told_of

_END_SECONDS = 5.0


class WatchPage:
    """The page's server, in a process of its own: the watch forks, and may have no threads."""

    def __init__(
        self, request: Request, *, port: int, opens: bool, on_message: Callable[[str], None]
    ) -> None:
        """Start the server.

        Args:
            request: what is watched.
            port: of 127.0.0.1; 0 takes a free one.
            opens: whether a browser is opened.
            on_message: told the address, and where the server has ended too early.

        Raises:
            MissingExtraError: what it is served with is not installed.
            UsageError: the port is taken.
        """
        check_installed()
        from torchgauge.deploy.serving.http.server import bind
        from torchgauge.web.live.guard import TOKEN
        from torchgauge.web.watch.server import Serving, serve_watch

        self._on_message = on_message
        with bind(HOST, port) as listener:
            port = listener.getsockname()[1]
            token = secrets.token_urlsafe(24)
            url = f"http://{HOST}:{port}/?{TOKEN}={token}"
            serving = Serving(
                request=replace(request, on_progress=None), token=token, url=url, port=port,
                language=current(), opens=opens,
            )  # fmt: skip
            context = multiprocessing.get_context("spawn")
            its_end, self._told = context.Pipe(duplex=False)
            self._process = context.Process(
                target=serve_watch, args=(serving, listener, its_end, os.getpid()),
                name="torchgauge-page",
            )  # fmt: skip
            self._process.start()
            its_end.close()
        self._is_there = True
        on_message(f"the page is at {url}")

    def saved(self, files: Iterable[Path]) -> None:
        """Show that files were saved and are being analysed."""
        self._tell(Saved(files=named(files)))

    def show(self, version: Version, since: Mapping[int, Comparison]) -> None:
        """Show what came of a save; ``since`` says what changed, by the earlier version's number.

        The version is one whose report was drawn with ``messages.drawn``.
        """
        self._tell(told_of(version, since))

    def _tell(self, told: Told) -> None:
        """Pass it on; nothing where the server has ended, which is said once."""
        if not self._is_there:
            return
        try:
            self._told.send(told)
        except OSError:
            self._is_there = False
            self._on_message("the page's server has ended; the watch continues")

    def __enter__(self) -> Self:
        """Return the page, which ends with the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server, and wait until it is gone."""
        self._told.close()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
