"""A server in the place of api.github.com that knows the comments of one pull request."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Api:
    """Its comments by page, what it answers instead of them (a status), and what it was asked."""

    pages: list[list[dict[str, Any]]] = field(default_factory=lambda: [[]])
    status: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""

    def bodies(self) -> list[str]:
        """The texts of all comments."""
        return [one["body"] for page in self.pages for one in page]

    def answer(self, method: str, target: str, sent: Any) -> tuple[int, Any]:
        """The status and the body of an answer."""
        parts = urlsplit(target)
        self.asked.append((method, parts.path))
        if self.status is not None:
            return self.status, {"message": "no"}
        if method == "GET":
            page = int(parse_qs(parts.query)["page"][0])
            return 200, self.pages[page - 1] if page <= len(self.pages) else []
        if method == "POST":
            made = comment(1000 + len(self.asked), sent["body"])
            self.pages[-1].append(made)
            return 201, made
        number = int(parts.path.rpartition("/")[2])
        [found] = [one for page in self.pages for one in page if one["id"] == number]
        found["body"] = sent["body"]
        return 200, found


def comment(number: int, body: str, login: str = "github-actions[bot]") -> dict[str, Any]:
    """A comment as the API lists it."""
    return {"id": number, "body": body, "user": {"login": login}}


@contextmanager
def serving(api: Api) -> Iterator[Api]:
    """The server, at `api.url`."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = json.loads(self.rfile.read(length)) if length else None
            api.tokens.add(self.headers["Authorization"])
            status, body = api.answer(self.command, self.path, sent)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST = do_PATCH = _any

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
