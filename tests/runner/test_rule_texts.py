"""The texts of rules that a report carries are those that `ftcheck explain` prints."""

import os
from pathlib import Path

import pytest

from ftcheck.extension.plugin_host import make_host
from ftcheck.paths import in_repository
from ftcheck.records import Check, Stage
from ftcheck.runner.rule_texts import rule_texts


def test_the_rules_of_the_plan_with_what_they_say() -> None:
    host = make_host((), ())
    checks = [Check(f"m::{name}", name, "special-tokens", "m", Stage.BEFORE) for name in ("a", "b")]

    [(name, text)] = rule_texts(host, checks).items()

    rule = host.rules["special-tokens"]
    assert (name, text.holds, text.why, text.how) == ("special-tokens", rule.summary, rule.why, rule.detail)
    assert text.thread == "https://github.com/huggingface/trl/issues/1400"


def test_parameters_have_kind_default_and_meaning() -> None:
    host = make_host((), ())
    [text] = rule_texts(host, [Check("m::seq", "seq", "percentile-seq-len", "m", Stage.BEFORE)]).values()

    assert text.params
    assert all(one.name and one.kind and one.help for one in text.params)


def test_the_folder_is_named_from_the_top_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert in_repository() == ""

    os.mkdir(tmp_path / ".git")
    assert in_repository() == "a/b"

    monkeypatch.chdir(tmp_path)
    assert in_repository() == ""
