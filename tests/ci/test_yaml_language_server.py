"""A policy in an editor: the real yaml-language-server, spoken to over stdio as an editor does."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcheck.policy.editor import LINE, write_schema

PACKAGE = "yaml-language-server@2.0.0"
PLACE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ftcheck-tests" / PACKAGE
POLICY = """\
ftcheck: 1
extends: [recommended]
jobs:
  mapper:
    model: {name: org/name}
    training:
      max_length: 512
      packing: true
checks:
  truncation:
    severity: warning
gate:
  fail_on: error
"""


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The server's command line; it is installed once, outside the tree."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    binary = PLACE / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
    if not binary.exists():
        words = [npm, "install", "--prefix", str(PLACE), "--no-audit", "--no-fund", "--silent", PACKAGE]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{PACKAGE} cannot be installed: {done.stderr.strip()[:200]}")
    return [node, str(binary), "--stdio"]


class Editor:
    """What an editor says to the server, and what it hears."""

    def __init__(self, program: list[str], folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.number = 0
        self.diagnostics: list[dict[str, Any]] = []
        self.uri = (folder / "ftcheck.yaml").as_uri()
        root = {"rootUri": folder.as_uri(), "processId": os.getpid(), "capabilities": {}}
        self.ask("initialize", root)
        self.tell("initialized", {})

    def open(self, text: str) -> None:
        """Open the policy, and wait for what is wrong with it."""
        (self.folder / "ftcheck.yaml").write_text(text, encoding="utf-8")
        about = {"uri": self.uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": about})
        while self.hear().get("method") != "textDocument/publishDiagnostics":
            pass

    def at(self, kind: str, line: int, character: int) -> Any:
        """Completion or hover at a place (both from 0)."""
        place = {"line": line, "character": character}
        return self.ask(f"textDocument/{kind}", {"textDocument": {"uri": self.uri}, "position": place})

    def labels(self, line: int, character: int) -> set[str]:
        """What completion offers."""
        found = self.at("completion", line, character)
        return {one["label"] for one in (found["items"] if isinstance(found, dict) else found)}

    def ask(self, method: str, params: Any) -> Any:
        self.number += 1
        number = self.number
        self._send({"id": number, "method": method, "params": params})
        while True:
            heard = self.hear()
            if heard.get("id") == number and "method" not in heard:
                assert "error" not in heard, heard
                return heard["result"]

    def tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def hear(self) -> dict[str, Any]:
        """The next message; what the server asks is answered."""
        assert self.process.stdout is not None
        length = 0
        while (line := self.process.stdout.readline()) != b"\r\n":
            assert line, "the server has ended"
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        if message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics = message["params"]["diagnostics"]
        elif "id" in message and "method" in message:
            items = (
                message.get("params", {}).get("items", []) if isinstance(message.get("params"), dict) else []
            )
            settings = {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}}
            answer = [settings if one.get("section") == "yaml" else None for one in items] or None
            self._send({"id": message["id"], "result": answer})
        return message

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()


@pytest.fixture
def editor(program: list[str], tmp_path: Path) -> Iterator[Editor]:
    write_schema(tmp_path)
    opened = Editor(program, tmp_path)
    with opened.process:
        yield opened
        opened.process.kill()


def test_a_valid_policy_has_no_diagnostic(editor: Editor) -> None:
    editor.open(LINE + POLICY)

    assert editor.diagnostics == []


def test_keys_are_completed(editor: Editor) -> None:
    editor.open(LINE + POLICY.replace("      packing: true\n", "      packing: true\n      max_s\n"))

    assert {"max_steps"} <= editor.labels(9, 11)


def test_the_values_of_a_choice_are_completed(editor: Editor) -> None:
    editor.open(LINE + POLICY.replace("severity: warning", "severity: "))
    assert {"info", "warning", "error"} <= editor.labels(11, 14)


def test_hovering_says_what_a_key_and_a_check_are_for(editor: Editor) -> None:
    editor.open(LINE + POLICY)

    key = str(editor.at("hover", 8, 8)["contents"])
    check = str(editor.at("hover", 10, 5)["contents"])

    assert "Fill blocks of max" in key.replace("\\", "")
    assert "ftcheck explain truncation" in check.replace("\\", "")


@pytest.mark.parametrize(
    ("right", "wrong", "line", "column", "said"),
    [
        ("max_length: 512", "max_lenght: 512", 7, 6, "max_lenght"),
        ("severity: warning", "severity: bad", 11, 14, "info"),
        ("max_length: 512", "max_length: 0", 7, 18, "minimum"),
    ],
)
def test_a_mistake_is_underlined_where_it_stands(
    right: str, wrong: str, line: int, column: int, said: str, editor: Editor
) -> None:
    editor.open(LINE + POLICY.replace(right, wrong))

    places = [one["range"]["start"] for one in editor.diagnostics]
    assert {"line": line, "character": column} in places, editor.diagnostics
    assert any(said in one["message"] for one in editor.diagnostics), editor.diagnostics
