import json
import stat
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.guard import Answer, Code, Record, Refused, admitted, record, write

from tests.plugins.guard.kit import guard, user

CANARY = "secret heron"


def made(**changes: Any) -> Record:
    question = admitted(guard(), user(CANARY))
    return record("job", question, Answer(CANARY, "stop", 9, 5, 1, 2), seconds=0.25, **changes)


def test_a_record_has_counts_and_no_word_of_question_or_answer() -> None:
    one = made(stream=True)

    assert (one.prompt_tokens, one.max_new_tokens, one.completion_tokens) == (len(CANARY) + 3, 16, 5)
    assert (one.retries, one.chunks, one.milliseconds, one.stream) == (1, 2, 250, True)
    assert "heron" not in json.dumps(asdict(one))


def test_no_field_of_a_record_takes_a_text_of_anybody() -> None:
    """`time` is ours and `job` the policy's; everything else is a number, a switch or one of a closed set."""
    texts = [one.name for one in fields(Record) if one.type in (str, "str")]

    assert texts == ["time", "job"]


def test_what_was_refused_is_logged_by_its_code_alone() -> None:
    error = Refused(Code.SCHEMA, CANARY, Answer(CANARY, None, 1, 2, 1))

    one = record("job", None, error.answer, status=error.status, reason=error.reason)

    assert (one.status, one.reason, one.completion_tokens, one.decision) == (502, "schema", 2, None)
    assert "heron" not in json.dumps(asdict(one))


def test_records_are_lines_of_json_that_only_the_owner_and_the_group_read(tmp_path: Path) -> None:
    path = tmp_path / "guard.log"

    for _ in range(3):
        write(str(path), made())

    assert [json.loads(line)["decision"] for line in path.read_text().splitlines()] == ["pass"] * 3
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_without_a_file_or_where_it_cannot_be_written_a_record_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(None, made())
    write(str(tmp_path), made())

    said = capsys.readouterr().err.splitlines()
    assert [json.loads(said[0])["job"], json.loads(said[-1])["job"]] == ["job", "job"]
    assert said[1].startswith("ftcheck guard: the log cannot be written")
