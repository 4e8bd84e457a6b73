"""The plan: which checks there are, in which order, and what its digest holds."""

from dataclasses import replace

import pytest

from ftcheck.policy import bind
from ftcheck.policy.plan import looks_at_job, matching, of_job, plan, plan_digest
from ftcheck.records import Check, Location, Severity, Stage
from ftcheck.settings import CheckSettings, JobSettings, Model, Policy
from tests.policy.kit import HEAD, environment, host, lengths, read

JOBS = "ftcheck: 1\njobs:\n  mapper: {model: {name: m}}\n  analyst: {model: {name: m}}\n"
CHECKS = "checks:\n  strict: {rule: lengths, params: {percentile: 100}}\n  duplicates: {jobs: [analyst]}\n"
POLICY = JOBS + CHECKS + "  lengths:\n  environment:\n  accuracy:\n"


@pytest.fixture(autouse=True)
def here(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))


def checks_of(text: str, stage: Stage | None = None) -> tuple[Check, ...]:
    return bind(read(text), host(), stage)[1]


def test_host_checks_come_first_then_job_by_job_in_the_order_of_the_policy() -> None:
    assert [check.id for check in checks_of(POLICY)] == [
        "environment",
        "mapper::strict",
        "mapper::lengths",
        "analyst::strict",
        "analyst::duplicates",
        "analyst::lengths",
    ]


def test_a_stage_plans_its_own_rules_only() -> None:
    assert [check.id for check in checks_of(POLICY, Stage.AFTER)] == ["mapper::accuracy", "analyst::accuracy"]
    assert checks_of(POLICY, Stage.DURING) == ()


def test_without_a_stage_the_policys_own_is_planned() -> None:
    assert [check.id for check in checks_of(POLICY + "stage: after\n")] == [
        "mapper::accuracy",
        "analyst::accuracy",
    ]


def test_a_check_holds_everything_that_a_run_needs() -> None:
    text = (
        HEAD
        + "checks:\n  strict: {rule: lengths, severity: warning, timeout: 5, tags: [length],"
        + " params: {names: [a]}}\n"
    )

    [check] = checks_of(text)

    assert check == Check(
        id="mapper::strict",
        name="strict",
        rule="lengths",
        job="mapper",
        stage=Stage.BEFORE,
        severity=Severity.WARNING,
        params={"percentile": 95, "at": "error", "names": ["a"]},
        timeout=5.0,
        tags=("length",),
        needs=("prepared",),
        plugin="rules 0.1",
        at=Location("policy.yaml", 6, 11, "checks.strict"),
    )


def test_a_rule_looks_at_a_job_if_one_of_its_inputs_does() -> None:
    assert looks_at_job(lengths, host())
    assert not looks_at_job(environment, host())


def test_a_plan_is_made_from_a_policy_of_ones_own() -> None:
    from ftcheck.settings import Job

    sections = JobSettings(model=Model(name="m"))
    policy = Policy(
        path="p.yaml",
        name="p",
        stage=Stage.BEFORE,
        jobs={"a": Job(name="a", model=sections.model)},
        checks={"duplicates": CheckSettings(), "accuracy": CheckSettings()},
    )

    checks = plan(policy, host())

    assert [(check.id, check.stage) for check in checks] == [
        ("a::duplicates", "before"),
        ("a::accuracy", "after"),
    ]
    assert checks[0].at == Location("p.yaml", 1, 1, "checks.duplicates")


SERVED = """ftcheck: 1
jobs:
  told: {model: {name: tiny}, serving: {engine: vllm}}
  silent: {model: {name: tiny}}
checks:
  server-limits: {%s}
%s
"""


@pytest.mark.parametrize(
    ("check", "more", "planned"),
    [
        ("", "", ["told"]),
        ("jobs: [silent]", "", ["silent"]),
        ("", "gate: {require: ['*::server-limits']}", ["told", "silent"]),
        ("", "gate: {require: ['silent::server-limits']}", ["told", "silent"]),
    ],
)
def test_a_rule_for_some_jobs_is_planned_where_they_state_it_or_the_policy_asks(
    check: str, more: str, planned: list[str]
) -> None:
    from ftcheck.extension.plugin_host import make_host

    _, checks = bind(read(SERVED % (check, more)), make_host())

    assert [one.job for one in checks] == planned


def test_a_rule_that_is_not_there_is_no_silent_gap() -> None:
    policy = Policy(path="p", name="p", stage=Stage.BEFORE, jobs={}, checks={"nothing": CheckSettings()})
    with pytest.raises(KeyError):
        plan(policy, host(), Stage.BEFORE)


def test_a_job_is_decided_by_its_own_checks_and_the_hosts() -> None:
    chosen = of_job(checks_of(POLICY), "mapper")
    assert [check.id for check in chosen] == ["environment", "mapper::strict", "mapper::lengths"]


def test_patterns_match_whole_ids_and_case_counts() -> None:
    ids = ["environment", "mapper::lengths", "analyst::lengths"]
    assert matching("*::lengths", ids) == ("mapper::lengths", "analyst::lengths")
    assert matching("*", ids) == tuple(ids)
    assert matching("lengths", ids) == matching("*::Lengths", ids) == ()


def test_the_digest_does_not_depend_on_order_timeouts_tags_or_places() -> None:
    checks = checks_of(POLICY)
    others = [replace(check, timeout=1.0, tags=("x",), at=None) for check in reversed(checks)]

    assert plan_digest(checks).startswith("sha256:")
    assert plan_digest(others) == plan_digest(checks)


@pytest.mark.parametrize(
    "change",
    [
        {"rule": "other"},
        {"params": {"percentile": 1}},
        {"severity": Severity.INFO},
        {"plugin": "rules 0.2"},
        {"id": "mapper::other"},
    ],
)
def test_the_digest_changes_with_what_is_checked_and_how_strictly(change: dict[str, object]) -> None:
    first, *rest = checks_of(POLICY)
    changed = replace(first, **change)  # type: ignore[arg-type]
    assert plan_digest([changed, *rest]) != plan_digest([first, *rest])
    assert plan_digest(rest) != plan_digest([first, *rest])


def test_a_check_knows_whether_the_gate_requires_it() -> None:
    text = POLICY + "gate: {require: ['*::strict', environment]}\n"

    required = [check.id for check in checks_of(text, Stage.BEFORE) if check.required]

    assert required == ["environment", "mapper::strict", "analyst::strict"]
