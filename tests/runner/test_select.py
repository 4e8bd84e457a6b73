"""Selections: by job, id, name, expression, tag, and what failed last time."""

import pytest

from ftcheck.errors import UsageError
from ftcheck.records import Check, Stage
from ftcheck.runner.select import Selection, narrow, parse
from tests.cli.project import Project, rule_text

CHECKS = tuple(
    Check(
        id=f"{job}::{name}" if job else name,
        name=name,
        rule=name,
        job=job,
        stage=Stage.BEFORE,
        tags=("length",) if "len" in name else (),
    )
    for job, name in [(None, "environment"), ("a", "seq-len"), ("a", "data"), ("b", "seq-len"), ("b", "data")]
)


def ids(**selection: object) -> list[str]:
    chosen = Selection(**selection)  # type: ignore[arg-type]
    return [check.id for check in narrow(CHECKS, chosen, ["a", "b"])]


def test_a_job_comes_with_the_hosts_checks() -> None:
    assert ids(jobs=("a",)) == ["environment", "a::seq-len", "a::data"]


def test_checks_are_selected_by_id_name_or_pattern() -> None:
    assert ids(select=("data",)) == ["a::data", "b::data"]
    assert ids(select=("a::*",)) == ["a::seq-len", "a::data"]
    assert ids(ignore=("*::data", "environment")) == ["a::seq-len", "b::seq-len"]


def test_checks_are_selected_by_expression_and_tag() -> None:
    assert ids(keyword="len and not b::") == ["a::seq-len"]
    assert ids(keyword="(a:: or b::) and data") == ["a::data", "b::data"]
    assert ids(tags=("length",)) == ["a::seq-len", "b::seq-len"]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ({"jobs": ("c",)}, "no job 'c'; known: a, b"),
        ({"select": ("sec-len",)}, "no check 'sec-len'; did you mean 'seq-len'?"),
        ({"tags": ("lenght",)}, "no tag 'lenght'; did you mean 'length'?"),
    ],
)
def test_a_name_that_means_nothing_is_an_error(selection: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        ids(**selection)


@pytest.mark.parametrize("text", ["a and", "(a", "and a", "a b", "a )", "not"])
def test_a_broken_expression_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="-k"):
        parse(text)


def test_last_failed_runs_what_failed_and_then_everything(project: Project) -> None:
    bad = rule_text("bad", "if os.path.exists('bad'):\n    yield Finding('bad')\nyield Measurement('n', 1)")
    project.rules(bad)
    project.policy("bad: {}\nfine: {}")
    project.write("bad", "")
    assert project.run().code == 1

    (project.folder / "bad").unlink()
    again = project.run("--lf")

    assert again.code == 0
    assert [result["id"] for result in again.report["results"]] == ["bad"]
    assert again.report["status"] == "partial"
    assert project.run("--lf").report["counts"]["planned"] == 2


def test_maxfail_stops_after_n_and_what_is_left_did_not_run(project: Project) -> None:
    project.rules(*[rule_text(f"bad-{n}", "yield Finding('bad')") for n in range(3)])
    project.policy("bad-0: {}\nbad-1: {}\nbad-2: {}\nfine: {}")

    ran = project.run("--maxfail", "2")

    assert ran.code == 1
    assert ran.report["counts"]["failed"] == 2
    assert ran.outcome("fine") == "not-run"


def test_collect_only_lists_the_plan_and_runs_nothing(project: Project) -> None:
    project.rules(rule_text("marks", "open('ran', 'w').close()\nyield Measurement('n', 1)"))
    project.policy("marks: {}\nfine: {}")

    ran = project.call("run", "policy.yaml", "--rules-dir", "rules", "--collect-only")

    assert ran.out.split() == ["marks", "fine"]
    assert not (project.folder / "ran").exists()


def test_durations_name_the_slowest(project: Project) -> None:
    project.rules(rule_text("slow", "time.sleep(0.3)\nyield Measurement('n', 1)"))
    project.policy("fine: {}\nslow: {}")

    ran = project.run("--durations", "1")

    seconds = ran.report["run"]["seconds"]
    slowest, other = sorted(("fine", "slow"), key=lambda name: -seconds[name])
    assert seconds["slow"] >= 0.3
    told = ran.out.partition("slowest")[2]
    assert slowest in told
    assert other not in told


def test_a_plugins_report_format_is_written_like_any_other(project: Project) -> None:
    project.write(
        "rules/format.py",
        "from ftcheck import Reporter, hookimpl\n"
        "@hookimpl\ndef ftcheck_reporters():\n"
        "    return [Reporter('tally', lambda report: f'{report.status} {len(report.results)}')]\n",
    )
    project.policy("fine: {}")

    ran = project.run("-o", "tally=t.txt")

    assert ran.code == 0, ran.err
    assert (project.folder / "t.txt").read_text(encoding="utf-8") == "complete 1"


def test_rules_dirs_come_from_the_callers_pyproject_too(project: Project) -> None:
    project.write("pyproject.toml", '[tool.ftcheck]\nrules-dirs = ["rules"]\n')
    project.policy("fine: {}")

    assert project.call("run", "policy.yaml").code == 0
