"""Rules that read rows' words: which words, in which order, and what the report says of it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ftcheck_plugins.preparation import row_stream

from ftcheck.cli import run_command
from ftcheck.errors import InputError
from tests.places import CHECKOUT
from tests.plugins.preparation.test_preparation import chat, inputs, prepare
from tests.sample_rules.ticket_numbers import ticket_numbers

RULES = CHECKOUT / "tests" / "sample_rules"


def test_rows_give_role_and_text_of_each_message(samples: Path, tmp_path: Path) -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "in parts"}]}
    rows = prepare(
        samples, tmp_path, [chat("one"), "{broken", {"messages": [parts, *chat("two")["messages"]]}]
    ).rows

    assert rows.texts(0) == (("user", "how?"), ("assistant", "one"))
    assert rows.texts(1) == ()
    assert [role for role, _ in rows.texts(2)] == ["user", "user", "assistant"]
    assert "in parts" in rows.texts(2)[0][1]


def test_plain_text_has_a_role_too(samples: Path, tmp_path: Path) -> None:
    made = inputs(samples, tmp_path, [{"prompt": "a", "completion": "b"}]).get("rows")

    assert made.texts(0) == (("prompt", "a"), ("completion", "b"))


def test_any_order_gives_the_same_texts(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_stream, "BLOCK", 2)
    rows = prepare(samples, tmp_path, [chat(str(n)) for n in range(7)]).rows

    said = {row: rows.texts(row)[1][1] for row in (6, 0, 3, 2, 5, 1, 4)}

    assert said == {row: str(row) for row in range(7)}


def test_a_file_that_lost_rows_is_an_error(samples: Path, tmp_path: Path) -> None:
    rows = prepare(samples, tmp_path, [chat("a"), chat("b")]).rows
    (tmp_path / "rows.jsonl").write_text("", encoding="utf-8")

    with pytest.raises(InputError, match="changed since it was prepared"):
        rows.texts(1)


def test_a_row_that_changed_in_its_place_is_an_error(samples: Path, tmp_path: Path) -> None:
    rows = prepare(samples, tmp_path, [chat("a"), chat("b")]).rows
    lines = (json.dumps(chat(answer)) + "\n" for answer in ("a", "c"))
    (tmp_path / "rows.jsonl").write_text("".join(lines), encoding="utf-8")

    with pytest.raises(InputError, match="changed since it was prepared"):
        rows.texts(1)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_report_says_that_a_check_reads_content(
    suffix: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [chat("fine"), chat("It is INC0012345."), chat("fine")]
    path = tmp_path / f"train{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = samples / "models" / "mapper-tiny"
    checks = "checks:\n  ticket-numbers: {}\n  data-readable: {}\n"
    text = f"ftcheck: 1\njobs:\n  j:\n    model: {{name: {model}}}\n    data: {{train: {path}}}\n{checks}"
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    report = tmp_path / "r.json"

    code = run_command(
        ["run", str(tmp_path / "policy.yaml"), "--rules-dir", str(RULES), "--offline", "-o", f"json={report}"]
    )

    out = capsys.readouterr().out
    results = {one["name"]: one for one in json.loads(report.read_text(encoding="utf-8"))["results"]}
    assert code == 1
    assert results["ticket-numbers"]["reads_content"] is True
    assert results["data-readable"]["reads_content"] is False
    [finding] = results["ticket-numbers"]["findings"]
    assert (finding["row"], finding["message"]) == (2, "an answer names a ticket")
    assert "j::ticket-numbers reads the text of rows" in out
    assert "INC0012345" not in out + report.read_text(encoding="utf-8")


def test_the_sample_rule_s_own_test() -> None:
    from ftcheck.testing import rows, run

    said = run(ticket_numbers, rows=rows(1, texts=[[("user", "Which?"), ("assistant", "It is INC0012345.")]]))

    assert said.measured == {"rows_with_ticket_numbers": 1}
    assert "INC" not in said.findings[0].message
