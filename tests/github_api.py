"""A stand-in of GitHub's API on this machine: the comments of one pull request."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Api:
    """Comments of pull request 7 of ``someone/model``, as the REST API serves them."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.status = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer()

            do_POST = do_PATCH = do_GET

            def _answer(self) -> None:
                api.seen.append(f"{self.command} {self.path}")
                size = int(self.headers.get("Content-Length") or 0)
                data = json.loads(self.rfile.read(size)) if size else None
                status, answer = api.answer(self.command, self.path, self.headers, data)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{api.url}/elsewhere")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v3"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: Any, data: Any) -> tuple[int, Any]:
        if self.status:
            return self.status, {"message": "no"}
        if headers["Authorization"] != "Bearer secret-token":
            return 401, {"message": "bad credentials"}
        of_pull = r"/api/v3/repos/someone/model/issues/7/comments"
        if method == "GET" and (
            page := re.fullmatch(rf"{of_pull}\?per_page=(\d+)&page=(\d+)", path)
        ):
            count, number = int(page[1]), int(page[2])
            return 200, self.comments[count * (number - 1) : count * number]
        if method == "POST" and path == of_pull:
            self.comments.append({"id": 1000 + len(self.comments), **data})
            return 201, self.comments[-1]
        one = re.fullmatch(r"/api/v3/repos/someone/model/issues/comments/(\d+)", path)
        if method == "PATCH" and one:
            found = next(item for item in self.comments if item["id"] == int(one[1]))
            found.update(data)
            return 200, found
        return 404, {"message": "not found"}

    def environment(self, folder: Path) -> dict[str, str]:
        """Return what GitHub Actions sets for a run about the pull request."""
        event = folder / "event.json"
        event.write_text(json.dumps({"action": "opened", "pull_request": {"number": 7}}))
        return {
            "GITHUB_API_URL": self.url, "GITHUB_REPOSITORY": "someone/model",
            "GITHUB_TOKEN": "secret-token", "GITHUB_EVENT_PATH": str(event),
        }  # fmt: skip
