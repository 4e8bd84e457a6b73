"""`ftcheck show` on rows with tools: what is marked, what was dropped, what was made up."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftcheck.cli import run_command
from tests.places import CHECKOUT

MODEL = CHECKOUT / "policies" / "samples" / "models" / "mapper-tiny"
HEAD = "{{ bos_token }}{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
TURN = "{% for m in messages %}[{{ m.role }}]{{ m.content or '' }}"
CALLS = (
    "{% for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
)
TAIL = "{{ eos_token }}{% endfor %}"
TOOL = {
    "type": "function",
    "function": {
        "name": "open_case",
        "description": "Opens a case.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def shown(folder: Path, template: str, arguments: Any, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    call = {"type": "function", "id": "c1", "function": {"name": "open_case", "arguments": arguments}}
    row = {
        "messages": [
            {"role": "user", "content": "Open a case for Turin."},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"case": 11438}'},
            {"role": "assistant", "content": "Case 11438 is open."},
        ],
        "tools": [TOOL],
    }
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (folder / "t.jinja").write_text(template, encoding="utf-8")
    policy = (
        f"ftcheck: 1\njobs:\n  j:\n    model: {{name: {MODEL}, chat_template: t.jinja}}\n"
        "    data: {train: train.jsonl}\nchecks: {data-readable: {}}\n"
    )
    (folder / "p.yaml").write_text(policy, encoding="utf-8")
    assert run_command(["show", str(folder / "p.yaml"), "--job", "j", "--offline", *more]) in (0, None)
    return capsys.readouterr().out


def test_calls_results_and_definitions_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(tmp_path, HEAD + TURN + CALLS + TAIL, {"city": "Turin"}, capsys)

    assert "1 tool definition · 1 call · 1 result" in out
    assert "dropped" not in out
    assert '⟦call: «open_case {"city": "Turin"}»⟧' in out
    assert '⟦result: «{"case": 11438}»⟧' in out


def test_what_the_template_drops_is_struck_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(tmp_path, "{{ bos_token }}" + TURN + TAIL, {"city": "Turin"}, capsys)

    assert "2 pieces of the tools dropped by the template" in out.splitlines()[0]
    assert "⟦dropped call open_case⟧" in out
    assert "⟦dropped definition open_case⟧" in out

    page = tmp_path / "row.html"
    shown(tmp_path, "{{ bos_token }}" + TURN + TAIL, {"city": "Turin"}, capsys, "-o", f"html={page}")
    html = page.read_text(encoding="utf-8")
    assert "<del title=" in html
    assert "call open_case</del>" in html


def test_what_the_template_makes_up_is_underlined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps({"city": "Turin"})
    assert "⟦made up: " in shown(tmp_path, HEAD + TURN + CALLS + TAIL, text, capsys)

    page = tmp_path / "row.html"
    shown(tmp_path, HEAD + TURN + CALLS + TAIL, text, capsys, "-o", f"html={page}")
    assert "<u>" in page.read_text(encoding="utf-8").partition('<pre class="row"')[2]


def test_the_terminal_shows_the_same_with_styles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ftcheck.cli.pages.row_page import coloured
    from ftcheck.inputs.row_view import Dropped, Piece, RowView
    from ftcheck.records import Location

    pieces = (
        Piece("a", (1,), False, False, True),
        Piece("None", (2,), True, False, True, "call", True),
        Piece("b", (3,), True, False, True),
    )
    lost = (Dropped(1, "definition", "open_case", "words"),)
    text = coloured(RowView(0, Location("t.jsonl", 1), pieces, 3, 3, 2, "", tools={"call": 1}, dropped=lost))

    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert "strike" in styles["definition open_case"]
    assert "underline" in styles["None"]
    assert text.plain.endswith("adefinition open_case«⟦call: None⟧b»")
