"""A small OpenAI-compatible server on the loopback, and a LiteLLM proxy in front of it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.commands import HANG

GOOD = '{"intent": "report_loss", "team": "security", "urgency": "high", "device": "laptop"}'
BROKEN = '{"intent": "sing", "team": "choir"}'
STRICTER = "Answer with one JSON value and nothing else."
"""What the guard puts behind a question that it asks again."""


@dataclass
class Model:
    """What answers: valid JSON, but for probes. `count` gives the tokens of a rendered conversation.

    A question with `break the schema` is answered with `broken` once, and well when it is asked again more
    strictly (never, with `stubborn`); one with `write long` with as many words as it may, or 500.
    `requests` are the bodies that arrived.
    """

    count: Callable[[list[dict[str, Any]], dict[str, Any]], int] = lambda messages, switches: 7
    answer: str = GOOD
    broken: str = BROKEN
    stubborn: bool = False
    obeys_cap: bool = True
    fails: int | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)

    def reply(self, body: dict[str, Any]) -> tuple[str, int, str]:
        """Text, its tokens, and the reason why it ends."""
        said = str(body["messages"][-1]["content"])
        cap = body.get("max_tokens") or body.get("max_completion_tokens") or 500
        if "write long" in said:
            tokens = cap if self.obeys_cap else 500
            return " ".join(["on"] * tokens), tokens, "length"
        if "break the schema" in said and (self.stubborn or STRICTER not in said):
            return self.broken, 5, "stop"
        return self.answer, 9, "stop"


class _Handler(BaseHTTPRequestHandler):
    """`POST /v1/chat/completions`, whole and streamed."""

    model: Model

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.model.requests.append(body)
        if self.model.fails is not None:
            self._send(self.model.fails, {"error": {"message": "no"}})
            return
        text, tokens, finish = self.model.reply(body)
        prompt = self.model.count(body["messages"], body.get("chat_template_kwargs") or {})
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        if body.get("stream"):
            self._stream(text, finish)
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        self._send(200, {**self._head("chat.completion"), "choices": [choice], "usage": usage})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "tiny"}

    def _stream(self, text: str, finish: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in [*(text[n : n + 20] for n in range(0, len(text), 20)), None]:
            delta = {"role": "assistant", "content": piece} if piece is not None else {}
            choice = {"index": 0, "delta": delta, "finish_reason": None if piece is not None else finish}
            chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(model: Model) -> Iterator[str]:
    """The model behind a URL."""
    handler = type("Handler", (_Handler,), {"model": model})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Reply:
    """What a request came back with."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        """The answer."""
        return str(self.body["choices"][0]["message"]["content"])

    @property
    def pieces(self) -> str:
        """The answer of a stream."""
        lines = [line[6:] for line in str(self.body).splitlines() if line.startswith("data: {")]
        deltas = [json.loads(line)["choices"][0]["delta"].get("content") for line in lines]
        return "".join(delta or "" for delta in deltas)


def ask(url: str, user: str, model: str = "mapper", path: str = "chat/completions", **more: Any) -> Reply:
    """Ask once; an HTTP error is a reply too."""
    body = {"model": model, "messages": [{"role": "user", "content": user}], **more}
    headers = {"content-type": "application/json", "authorization": "Bearer sk-loopback"}
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=HANG) as response:
            status, raw, got = response.status, response.read().decode(), dict(response.headers)
    except urllib.error.HTTPError as error:
        status, raw, got = error.code, error.read().decode(), dict(error.headers)
    try:
        return Reply(status, json.loads(raw), got)
    except ValueError:
        return Reply(status, raw, got)


@contextlib.contextmanager
def proxy(config: Path, log: Path) -> Iterator[str]:
    """A real `litellm --config` process; what it prints goes to `log`."""
    port = _free_port()
    command = [str(Path(sys.executable).with_name("litellm")), "--config", str(config), "--host", "127.0.0.1"]
    environment = {
        **os.environ,
        "LITELLM_MASTER_KEY": "sk-loopback",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--telemetry", "False"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=config.parent,
            start_new_session=True,
        )
    try:
        yield _ready(f"http://127.0.0.1:{port}", process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class NotStarted(Exception):
    """The proxy ended before it answered."""


def _ready(url: str, process: subprocess.Popen[bytes], log: Path, patience: float = HANG) -> str:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process.poll() is not None:
            raise NotStarted(log.read_text(errors="replace")[-3000:])
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health/liveliness", timeout=5):
            return f"{url}/v1"
        time.sleep(0.3)
    raise NotStarted(f"not ready after {patience} s: {log.read_text(errors='replace')[-3000:]}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
