"""Asks a served job over HTTP with the standard library: bounded in time and size, without redirects."""

import contextlib
import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message as Headers
from typing import IO, Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs import bounded, tool_parsers, urls
from ftcheck.inputs.container import Run
from ftcheck.inputs.endpoint import GUARDED, Endpoint, Reply
from ftcheck.inputs.loader import loader
from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_parsers import Unreadable
from ftcheck.settings import Job

KEY = "FTCHECK_ENDPOINT_KEY"
"""The environment variable with the key of the endpoint; there is no setting for it."""
LARGEST = 4 << 20
"""Bytes of an answer, or of a log's growth, that are read."""
PIECE = 1 << 16


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another server."""

    def redirect_request(self, *given: Any, **more: Any) -> None:
        return None


@dataclass(frozen=True)
class HttpEndpoint:
    """An OpenAI-compatible server. See `inputs.endpoint.Endpoint`. `start` is where its log ended before."""

    url: str
    log: str | None = None
    start: int = 0
    closed: str | None = None

    def ask(
        self,
        model: str,
        messages: Sequence[Message],
        max_tokens: int,
        seconds: float,
        switches: Mapping[str, Any] | None = None,
        tools: Any = None,
    ) -> Reply:
        """Ask once and wait so long at most. Never raises."""
        end = time.monotonic() + seconds
        body: dict[str, Any] = {"model": model, "messages": list(messages), "max_tokens": max_tokens}
        body["temperature"] = 0
        if switches:
            body["chat_template_kwargs"] = dict(switches)
        if tools:
            body["tools"] = tools
        try:
            status, headers, data = self._sent(json.dumps(body).encode(), end)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Reply(None, trouble=_why(error, seconds))
        if len(data) > LARGEST:
            return Reply(None, trouble=f"the answer is larger than {LARGEST >> 20} MiB")
        return _read(status, headers, data)

    def _sent(self, body: bytes, end: float) -> tuple[int, Headers, bytes]:
        request = urllib.request.Request(f"{self.url}/chat/completions", body, _headers())
        through: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if urls.is_loopback(self.url):
            through.append(urllib.request.ProxyHandler({}))
        opener = urllib.request.build_opener(*through)
        try:
            with opener.open(request, timeout=_left(end)) as response:
                return response.status, response.headers, _bytes(response, end)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, _bytes(error, end)

    def logged(self, seconds: float) -> str | None:
        """What the log has grown by. Raises `OSError`."""
        if self.log is None:
            return None
        end = time.monotonic() + seconds
        while os.path.getsize(self.log) <= self.start and time.monotonic() < end:
            time.sleep(0.05)
        with bounded.open_file(self.log) as stream:
            stream.seek(self.start)
            return stream.read(LARGEST).decode("utf-8", "replace")


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY, "").strip()
    return {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _bytes(response: IO[bytes], end: float) -> bytes:
    """The body, up to the largest size; a server that drips is cut off at the end of its time."""
    data = b""
    while len(data) <= LARGEST:
        _left(end)
        piece = response.read1(PIECE) if hasattr(response, "read1") else response.read(PIECE)
        if not piece:
            return data
        data += piece
    return data


def _why(error: Exception, seconds: float) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError | socket.timeout):
        return f"no answer within {seconds:g} s"
    if isinstance(reason, socket.gaierror):
        return "its host name cannot be resolved"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return type(reason if isinstance(reason, Exception) else error).__name__


def _read(status: int, headers: Headers, data: bytes) -> Reply:
    sent = {name.lower(): value for name, value in headers.items()}
    ours = {name.removeprefix(GUARDED): sent[name] for name in sent if name.startswith(GUARDED)}
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if status != 200:
        return _refusal(status, ours, body)
    try:
        choice = body["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        calls = tool_parsers.declared(message)
        text = message["content"] if not calls else message.get("content")
    except (TypeError, KeyError, IndexError, AttributeError):
        return Reply(None, guard=ours, trouble="the response is not a chat completion")
    except Unreadable as error:
        return Reply(None, guard=ours, trouble=f"the response has {error}")
    usage = body.get("usage") if isinstance(body.get("usage"), Mapping) else {}
    return Reply(
        status,
        text if isinstance(text, str) else "",
        finish if isinstance(finish, str) else None,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        ours,
        retries=_number(ours.get("retries")),
        chunks=_number(ours.get("chunks")),
        calls=calls,
    )


def _refusal(status: int, ours: Mapping[str, str], body: Any) -> Reply:
    """An error, with the guard's own code where the guard refused."""
    error = body.get("error") if isinstance(body, Mapping) else None
    fields = error.get("provider_specific_fields") if isinstance(error, Mapping) else None
    said = fields if isinstance(fields, Mapping) and fields.get("type") == "ftcheck_guard" else {}
    code = said.get("code")
    return Reply(
        status,
        completion_tokens=_count(said.get("completion_tokens")),
        guard=ours,
        refusal=code if isinstance(code, str) else None,
        retries=_count(said.get("retries")) or 0,
        chunks=_number(ours.get("chunks")),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0


@loader("endpoint")
def endpoint(job: Job, run: Run) -> Endpoint | None:
    """The served job; None if `serving.endpoint` names none. Offline, only this machine is asked."""
    url = job.serving.endpoint
    if url is None:
        return None
    if wrong := urls.problem(url):
        place = job.at("serving.endpoint")
        message = f"serving.endpoint of job {job.name}: {wrong}"
        raise InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])
    closed = "--offline is set, and the endpoint is not on this machine" if _outside(url, run) else None
    log, start = job.serving.log_path, 0
    if log is not None:
        with contextlib.suppress(OSError):
            start = os.path.getsize(log)
    return HttpEndpoint(url.rstrip("/"), log, start, closed)


def _outside(url: str, run: Run) -> bool:
    return run.offline and not urls.is_loopback(url)
