import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.guard import fallback

from ftcheck.errors import InputError
from ftcheck.testing import job, output_schema
from tests.plugins.guard.kit import TEAM, user

RULES = [{"if_any": ["Password", "log in"], "answer": {"team": "it"}}, {"answer": {"team": "hr"}}]


def read(folder: Path, rules: Any, schema: Any = None) -> fallback.Fallback:
    path = folder / "rules.json"
    path.write_text(rules if isinstance(rules, str) else json.dumps(rules))
    return fallback.read(job(serving={"rules": str(path)}), output_schema(schema) if schema else None)


@pytest.mark.parametrize(
    ("said", "team"),
    [("my PASSWORD is gone", "it"), ("I cannot log in", "it"), ("a raise, please", "hr"), ("", "hr")],
)
def test_the_first_rule_that_holds_answers(tmp_path: Path, said: str, team: str) -> None:
    assert json.loads(read(tmp_path, RULES, TEAM).answer(user(said))) == {"team": team}


def test_only_what_the_user_wrote_last_counts(tmp_path: Path) -> None:
    turns = [*user("password"), {"role": "assistant", "content": "password"}, *user("a raise")]

    assert json.loads(read(tmp_path, RULES).answer(turns)) == {"team": "hr"}


def test_a_text_is_answered_as_it_stands(tmp_path: Path) -> None:
    assert read(tmp_path, [{"answer": "Ask a person."}]).answer(user("x")) == "Ask a person."


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("[", "not readable JSON"),
        ([], "a list of objects"),
        ({"answer": "x"}, "a list of objects"),
        ([{"if_any": ["a"], "answer": "x"}], "the last rule"),
        ([{"answer": "x"}, {"answer": "y"}], "the last rule"),
        ([{"if_any": [], "answer": "x"}, {"answer": "y"}], "rule 1: 'if_any' is empty"),
        ([{"if_any": "word", "answer": "x"}, {"answer": "y"}], "a list of words"),
        ([{"when": "x", "answer": "x"}], "rule 1: must be an object with 'answer'"),
    ],
)
def test_rules_that_cannot_be_used_are_named(tmp_path: Path, rules: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, rules)

    assert caught.value.problems[0].yaml_path == "jobs.job.serving.rules"


def test_an_answer_that_breaks_the_schema_is_no_fallback(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rule 1: the answer violates"):
        read(tmp_path, [{"answer": {"team": "law"}}], TEAM)


def test_a_file_that_is_not_there_or_not_named_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        fallback.read(job(serving={"rules": str(tmp_path / "absent.json")}), None)
    with pytest.raises(InputError, match="rules is not set"):
        fallback.read(job(), None)


@pytest.mark.parametrize("name", ["mapper", "analyst"])
def test_the_shipped_rules_satisfy_the_shipped_schema(samples: Path, name: str) -> None:
    schema = samples / name / "output_schema.json"
    held = output_schema(json.loads(schema.read_text())) if schema.is_file() else None

    assert fallback.read(job(serving={"rules": str(samples / name / "rules.json")}), held).rules
