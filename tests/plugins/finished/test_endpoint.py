import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ftcheck_plugins.finished import endpoint as module
from ftcheck_plugins.finished.endpoint import HttpEndpoint

from ftcheck.errors import InputError
from ftcheck.inputs import urls
from ftcheck.inputs.container import Run
from ftcheck.inputs.endpoint import Endpoint, Reply
from ftcheck.testing import job
from tests.commands import HANG
from tests.plugins.guard.backend import Model, serving

ASKED = ({"role": "user", "content": "secret heron"},)
COMPLETION = (
    b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}'
)


def opened(
    folder: Path, url: str | None, *, offline: bool = False, log: Path | None = None
) -> Endpoint | None:
    stated = {"endpoint": url, "log_path": str(log) if log else None}
    found: Endpoint | None = module.endpoint.open(job(serving=stated), Run(folder, offline=offline))
    return found


@contextlib.contextmanager
def answering(
    data: bytes,
    status: int = 200,
    headers: dict[str, str] | None = None,
    until: threading.Event | None = None,
) -> Iterator[str]:
    """A server that sends this; the second half waits until something has happened."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            half = len(data) // 2
            self.wfile.write(data[:half])
            self.wfile.flush()
            if until is not None:
                until.wait(HANG)
            with contextlib.suppress(OSError):
                self.wfile.write(data[half:])

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def asked(url: str, seconds: float = HANG) -> Reply:
    return HttpEndpoint(url).ask("job", ASKED, 8, seconds)


def test_a_job_without_endpoint_has_none(tmp_path: Path) -> None:
    assert opened(tmp_path, None) is None


def test_an_answer_comes_with_its_counts_and_the_guards_headers() -> None:
    headers = {"X-Ftcheck-Guard": "job", "x-ftcheck-retries": "1", "x-ftcheck-chunks": "many"}

    with answering(COMPLETION, headers=headers) as url:
        reply = asked(url)

    assert (reply.status, reply.text, reply.prompt_tokens, reply.completion_tokens) == (200, "hi", 3, None)
    assert (reply.guard["guard"], reply.retries, reply.chunks) == ("job", 1, 0)


def test_a_request_is_as_a_user_would_send_it() -> None:
    model = Model()
    with serving(model) as url:
        assert asked(url).status == 200

    [sent] = model.requests
    assert sent == {"model": "job", "messages": list(ASKED), "max_tokens": 8, "temperature": 0}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": 5}]}',
        b"null",
        b"[" * 100_000,
    ],
)
def test_nonsense_is_no_answer(data: bytes) -> None:
    with answering(data) as url:
        reply = asked(url)

    assert (reply.status, reply.trouble) == (None, "the response is not a chat completion")


def test_what_is_no_number_is_no_count() -> None:
    usage = b'{"prompt_tokens": "3", "completion_tokens": true}'
    data = b'{"choices": [{"message": {"content": 5}}], "usage": ' + usage + b"}"
    with answering(data) as url:
        reply = asked(url)

    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("", None, None)


def test_a_server_that_does_not_end_its_answer_is_given_up() -> None:
    given_up = threading.Event()
    with answering(COMPLETION, until=given_up) as url:
        assert asked(url, seconds=0.3).trouble == "no answer within 0.3 s"
        given_up.set()


def test_a_server_that_is_down_is_said() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]

    assert asked(f"http://127.0.0.1:{port}").trouble == "connection refused"


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 1000)
    with answering(COMPLETION + b" " * 5000) as url:
        assert "larger than" in str(asked(url).trouble)


def test_a_redirect_is_not_followed() -> None:
    with answering(b"{}", status=302, headers={"location": "http://127.0.0.1:9/"}) as url:
        assert asked(url).status == 302


def test_a_refusal_of_the_guard_has_its_code_and_one_of_another_has_none() -> None:
    ours = (
        b'{"error": {"provider_specific_fields": {"type": "ftcheck_guard", "code": "schema", "retries": 1}}}'
    )
    with answering(ours, status=502) as url:
        assert (asked(url).refusal, asked(url).retries) == ("schema", 1)
    with answering(b'{"error": {"code": "schema"}}', status=502) as url:
        assert asked(url).refusal is None


def test_the_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.KEY, "heron-key")
    assert module._headers()["authorization"] == "Bearer heron-key"
    monkeypatch.delenv(module.KEY)
    assert "authorization" not in module._headers()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/v1",
        "h:4000",
        "http://",
        "http://u:heron@h/v1",
        "http://h:99999/v1",
        "http://h/v1?key=heron",
        "",
    ],
)
def test_a_url_that_is_none_is_named_by_its_setting_and_not_quoted(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError) as caught:
        opened(tmp_path, url)

    assert caught.value.problems[0].yaml_path == "jobs.job.serving.endpoint"
    assert "heron" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("http://127.0.0.1:4000/v1", True),
        ("http://localhost:4000", True),
        ("https://[::1]/v1", True),
        ("http://10.0.0.1/v1", False),
        ("http://localhost.example.com/v1", False),
        ("http://127.0.0.1.nip.io/v1", False),
    ],
)
def test_offline_only_this_machine_is_asked(tmp_path: Path, url: str, inside: bool) -> None:
    assert urls.is_loopback(url) is inside
    found = opened(tmp_path, url, offline=True)
    assert found is not None
    assert (found.closed is None) is inside
    online = opened(tmp_path, url)
    assert online is not None
    assert online.closed is None


def test_only_what_the_log_has_grown_by_is_looked_at(tmp_path: Path) -> None:
    log = tmp_path / "guard.log"
    log.write_text("old\n")
    found = opened(tmp_path, "http://127.0.0.1:1/v1", log=log)
    assert found is not None

    assert found.logged(0) == ""
    log.write_text("old\nnew\n")
    assert found.logged(5) == "new\n"


def test_a_log_that_is_not_there_is_an_error_and_none_is_none(tmp_path: Path) -> None:
    gone = opened(tmp_path, "http://127.0.0.1:1/v1", log=tmp_path / "absent.log")
    none = opened(tmp_path, "http://127.0.0.1:1/v1")
    assert gone is not None
    assert none is not None

    with pytest.raises(FileNotFoundError):
        gone.logged(0)
    assert none.logged(0) is None
