"""Who may ask: this machine's browser, from this page, with the token of the URL."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from torchgauge.deploy.serving.failures import RequestFailure
from torchgauge.web.live.refusal import language_of, refusal

TOKEN = "token"
_LONGEST_QUERY = 2000
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Forbidden(RequestFailure, status=403, code="forbidden", closes=True):
    """Another host or origin than this server's: a page of somebody else asks."""


class Unauthorized(RequestFailure, status=401, code="unauthorized", closes=True):
    """Without the token."""


class Guard:
    """ASGI middleware that lets through what comes from the page itself.

    A foreign page can send requests to a server on this machine. It cannot know the token, and its
    browser names it in ``Origin``. A name of its own that leads to 127.0.0.1 is in ``Host``.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refused(scope)
        language = language_of(Headers(scope=scope))
        app = self._app if refused is None else refusal(refused, language)
        await app(scope, receive, send_safely)

    def _refused(self, scope: Scope) -> RequestFailure | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return Forbidden("the Host header is not this server's; open the URL as it was printed")
        if any(origin not in self._origins for origin in headers.getlist("origin")):
            return Forbidden("the request comes from another page")
        if not hmac.compare_digest(_given_token(scope, headers), self._token):
            return Unauthorized("the token is missing or wrong; open the URL as it was printed")
        return None


def _given_token(scope: Scope, headers: Headers) -> bytes:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.encode()
    query = scope.get("query_string", b"").decode("latin-1")
    named: dict[str, str] = dict(parse_qsl(query[:_LONGEST_QUERY]))
    return named.get(TOKEN, "").encode()
