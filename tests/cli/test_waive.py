"""`ftcheck waive` at the command line: what it writes, what it refuses, and that it covers nothing new."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.project import Project, rule_text

WORDS = rule_text(
    "words",
    """
    from pathlib import Path
    words = Path("words.txt").read_text().split()
    yield Measurement("words", len(words))
    for word in words:
        yield Finding(f"{word} is no word")
    """,
    "job: Job",
)
WAIVE = ("waive", "job::words", "policy.yaml", "--reason", "known: #3", "--days", "5", "--rules-dir", "rules")
LAST = (datetime.now(UTC) + timedelta(days=5)).date()


@pytest.fixture
def failing(project: Project) -> Project:
    """A project whose check finds two words."""
    project.rules(WORDS)
    project.policy("words: {}  # strict\nfine: {}", more="# the end\n")
    project.write("words.txt", "foo bar")
    return project


def result(project: Project) -> dict[str, Any]:
    report = json.loads((project.folder / "r.json").read_text())
    return next(one for one in report["results"] if one["id"] == "job::words")


def test_it_names_what_the_check_finds_now_and_nothing_else(failing: Project) -> None:
    before = (failing.folder / "policy.yaml").read_text()
    assert failing.run().code == 1

    ran = failing.call(*WAIVE, "--owner", "data-team")

    assert ran.code == 0
    assert ran.out == (
        f"waived in policy.yaml: 2 findings of job::words, until {LAST} (UTC)\n  known: #3 (data-team)\n"
    )
    after = (failing.folder / "policy.yaml").read_text()
    assert after.replace("# the end\n", "").startswith(before.replace("# the end\n", ""))
    assert "# the end\n" in after
    told = failing.run()
    assert (told.code, result(failing)["outcome"]) == (0, "waived")
    assert "note  waiver of job::words: expires in 5 days" in told.out

    failing.write("words.txt", "foo bar baz")
    assert failing.run().code == 1
    [left] = result(failing)["findings"]
    assert left["message"] == "baz is no word"
    assert "2 other findings are waived until" in result(failing)["reason"]


def test_what_is_gone_is_told(failing: Project) -> None:
    assert failing.call(*WAIVE, "--owner", "o").code == 0
    failing.write("words.txt", "foo")

    assert "note  waiver of job::words: 1 finding that it names is gone" in failing.run().out

    failing.write("words.txt", "")
    ran = failing.run()
    assert ran.code == 0, "a remark about a waiver makes nothing red"
    assert "note  waiver of job::words: unused: the check did not fail" in ran.out


def test_only_what_is_not_waived_yet_is_named(failing: Project) -> None:
    failing.call(*WAIVE, "--owner", "o")
    assert failing.call(*WAIVE, "--owner", "o").err == "job::words: all of its findings are waived already\n"

    failing.write("words.txt", "foo bar baz")
    assert "1 finding of job::words" in failing.call(*WAIVE, "--owner", "o").out
    failing.run()
    assert result(failing)["outcome"] == "waived"


def test_the_findings_of_a_stored_report(failing: Project) -> None:
    failing.run()
    failing.write("words.txt", "foo bar baz")

    assert "2 findings" in failing.call(*WAIVE, "--owner", "o", "--report", "r.json").out
    assert failing.run().code == 1


def test_a_whole_check_for_two_weeks_at_most(failing: Project) -> None:
    many = failing.call(*WAIVE, "--owner", "o", "--all", "--days", "15")
    assert (many.code, many.err) == (
        2,
        "--all covers whatever the check finds, for at most 14 days: "
        "give --days 14 or fewer, or leave out --all\n",
    )

    assert "all that it finds of job::words" in failing.call(*WAIVE, "--owner", "o", "--all").out
    failing.write("words.txt", "new")
    ran = failing.run()
    assert ran.code == 0
    assert "note  waiver of job::words: too broad" in ran.out


def test_the_owner_is_whom_git_names(failing: Project) -> None:
    alone = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    ran = failing.call(*WAIVE, **alone)
    assert (ran.code, ran.err) == (
        2,
        "no owner: `git config user.email` says nothing; set it, or give --owner\n",
    )

    subprocess.run(["git", "init", "-q", str(failing.folder)], check=True)
    subprocess.run(["git", "-C", str(failing.folder), "config", "user.email", "me@example.org"], check=True)
    assert "(me@example.org)" in failing.call(*WAIVE, **alone).out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["job::word"], "no check 'job::word'; did you mean 'job::words'?"),
        (["fine"], "fine: passed; only findings of a failed check are waived"),
        (["job::words", "--reason", " "], "--reason is empty: say why the findings are accepted"),
        (["job::words", "--report", "none.json"], "none.json: No such file or directory"),
    ],
)
def test_what_it_refuses(failing: Project, words: list[str], told: str) -> None:
    before = (failing.folder / "policy.yaml").read_text()
    rest = [*WAIVE[2:], "--owner", "o", *words[1:]]

    ran = failing.call("waive", words[0], *rest)

    assert (ran.code, ran.err.strip()) == (2, told)
    assert (failing.folder / "policy.yaml").read_text() == before


def test_waivers_of_another_file_are_not_replaced(failing: Project) -> None:
    other = '{check: "fine", reason: r, owner: o, expires: 2099-01-01}'
    failing.write("base.yaml", f"ftcheck: 1\nwaivers:\n  - {other}\n")
    text = (failing.folder / "policy.yaml").read_text()
    failing.write("policy.yaml", text.replace("name: test\n", "name: test\nextends: [./base.yaml]\n"))

    ran = failing.call(*WAIVE, "--owner", "o")

    assert ran.code == 2
    assert "its waivers come from" in ran.err
    assert "base.yaml:3" in ran.err or "base.yaml:2" in ran.err


def test_every_report_says_that_a_waiver_ends_soon_and_that_one_is_too_broad(failing: Project) -> None:
    day = (datetime.now(UTC) + timedelta(days=3)).date()
    broad = f"waivers: [{{check: 'job::words', reason: known, owner: me, expires: {day}}}]\n"
    failing.policy("words: {}\nfine: {}", more=broad)
    names = {"json": "a.json", "junit": "a.xml", "github": "a.txt", "markdown": "a.md"}
    names |= {"sarif": "a.sarif", "gitlab": "b.json", "html": "a.html"}
    outputs = [word for name, file in names.items() for word in ("-o", f"{name}={file}")]

    ran = failing.call("run", "policy.yaml", "--rules-dir", "rules", *outputs)

    assert ran.code == 0, ran.out + ran.err
    for file in names.values():
        text = (failing.folder / file).read_text()
        for words in ("expires in 3 days", "too broad: covers whatever"):
            assert words in text, (file, words)
