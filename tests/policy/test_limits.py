"""Ranges, durations, dates and names: what a type does not say."""

from datetime import date

import pytest

from ftcheck.policy import draft, seconds
from tests.policy.kit import HEAD, job, read, said, write

WAIVER = HEAD + "waivers: [{check: a, reason: r, owner: o, expires: 2026-11-22}]\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("training: {max_length: 0}", "28: jobs.mapper.training.max_length: must be at least 1, not 0"),
        ("training: {learning_rate: 0}", "31: jobs.mapper.training.learning_rate: must be above 0, not 0"),
        ("training: {max_steps: -2}", "27: jobs.mapper.training.max_steps: must be at least -1, not -2"),
        ("training: {save_steps: -0.5}", "28: jobs.mapper.training.save_steps: must be above 0, not -0.5"),
        (
            "training: {lora: {lora_dropout: 1}}",
            "37: jobs.mapper.training.lora.lora_dropout: must be at least 0 and below 1, not 1",
        ),
        (
            "data: {outliers: {above_percentile: 101}}",
            "41: jobs.mapper.data.outliers.above_percentile: must be above 0 and at most 100, not 101",
        ),
        (
            "targets: {accuracy: 95}",
            "25: jobs.mapper.targets.accuracy: must be at least 0 and at most 1, not 95",
        ),
        (
            "targets: {max_length: [768, 512]}",
            "27: jobs.mapper.targets.max_length: the lower bound (768) is above the upper bound (512)",
        ),
        (
            "targets: {tokens_per_step: [0, 9]}",
            "32: jobs.mapper.targets.tokens_per_step: must be at least 1, not 0",
        ),
        (
            "targets: {deadline: soon}",
            "25: jobs.mapper.targets.deadline: must be a duration such as 8h, or a time such as 07:00 or "
            "2026-11-23T07:00, not the text 'soon'",
        ),
        ("hardware: {count: 0}", "23: jobs.mapper.hardware.count: must be at least 1, not 0"),
        (
            "serving: {schema_retries: -1}",
            "31: jobs.mapper.serving.schema_retries: must be at least 0, not -1",
        ),
        ("trainer: {use: ''}", "20: jobs.mapper.trainer.use: must not be empty"),
    ],
)
def test_a_value_outside_its_range_is_named_with_the_range(line: str, message: str) -> None:
    assert said(read(job(line))) == [f"policy.yaml:5:{message}"]


@pytest.mark.parametrize("deadline", ["8h", "1h30m", "07:00", "2026-11-23", "2026-11-23T07:00"])
def test_a_deadline_is_a_duration_or_a_time(deadline: str) -> None:
    assert said(read(job(f"targets: {{deadline: {deadline}}}"))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", 5400),
        ("24h", 86400),
        ("7d", 604800),
        ("1h 30m", 5400),
        ("0.5h", 1800),
        ("2w", 1209600),
        ("45s", 45),
    ],
)
def test_durations_are_counted_in_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "24", "h", "24 hours", "-1h", "0h", "1h x", "h24"])
def test_other_texts_are_no_durations(text: str) -> None:
    assert seconds(text) is None


def test_max_age_must_be_a_duration() -> None:
    assert said(read(HEAD + "gate: {max_age: 1 day}\n")) == [
        "policy.yaml:5:17: gate.max_age: must be a duration such as 90m, 24h or 7d, not the text '1 day'"
    ]


def test_a_waiver_holds_to_the_end_of_its_last_day() -> None:
    assert said(draft(write("policy.yaml", WAIVER), today=date(2026, 11, 22))) == []


def test_a_waiver_is_expired_when_the_next_day_has_begun() -> None:
    assert said(draft(write("policy.yaml", WAIVER), today=date(2026, 11, 23))) == [
        "policy.yaml:5:52: waivers.0.expires: the waiver expired with 2026-11-22 (UTC): "
        "fix the finding, or renew the waiver"
    ]


def test_without_another_day_waivers_are_held_against_today() -> None:
    text = WAIVER.replace("2026-11-22", "2020-01-31")
    assert said(draft(write("policy.yaml", text))) == [
        "policy.yaml:5:52: waivers.0.expires: the waiver expired with 2020-01-31 (UTC): "
        "fix the finding, or renew the waiver"
    ]


@pytest.mark.parametrize(
    ("expires", "shown"),
    [("2026-13-01", "the text '2026-13-01'"), ("tomorrow", "the text 'tomorrow'"), ("20261231", "20261231")],
)
def test_a_waiver_ends_on_a_date(expires: str, shown: str) -> None:
    assert said(read(WAIVER.replace("2026-11-22", expires))) == [
        f"policy.yaml:5:52: waivers.0.expires: must be a date such as 2026-12-31, not {shown}"
    ]


def test_a_waiver_gives_a_reason_and_an_owner() -> None:
    assert said(read(WAIVER.replace("reason: r", "reason: ' '").replace("owner: o", "owner: ''"))) == [
        "policy.yaml:5:30: waivers.0.reason: must not be empty",
        "policy.yaml:5:42: waivers.0.owner: must not be empty",
    ]


def test_job_and_check_names_are_plain() -> None:
    text = "ftcheck: 1\njobs:\n  my job: {model: {name: m}}\nchecks:\n  a::b: {rule: lengths}\n"
    assert said(read(text)) == [
        "policy.yaml:3:3: jobs.my job: the name 'my job' may contain only letters, digits and . _ -",
        "policy.yaml:5:3: checks.a::b: the name 'a::b' may contain only letters, digits and . _ -",
    ]


def test_a_timeout_is_positive() -> None:
    assert said(read(HEAD + "checks: {lengths: {timeout: 0}}\n")) == [
        "policy.yaml:5:29: checks.lengths.timeout: must be above 0, not 0"
    ]


ONE = "0123456789abcdef0123456789abcdef:1"


@pytest.mark.parametrize("wrong", ["abc", ONE[:-2], ONE.upper(), ONE[:-1] + "0"])
def test_a_waiver_names_fingerprints(wrong: str) -> None:
    text = WAIVER.replace("2026-11-22", f"2026-11-22, fingerprints: ['{ONE}', '{wrong}']")
    [problem] = said(draft(write("policy.yaml", text), today=date(2026, 11, 22)))

    assert problem.startswith(
        "policy.yaml:5:117: waivers.0.fingerprints.1: must be a fingerprint of a report"
    )


def test_a_waiver_of_all_that_a_check_finds_is_short() -> None:
    text = WAIVER.replace("2026-11-22", "2026-12-06, all: true")
    assert said(draft(write("policy.yaml", text), today=date(2026, 11, 22))) == []

    later = write("policy.yaml", text.replace("12-06", "12-07"))
    assert said(draft(later, today=date(2026, 11, 22))) == [
        "policy.yaml:5:52: waivers.0.expires: "
        "a waiver with all: true lasts at most 14 days, until 2026-12-06: "
        "name the findings instead (`ftcheck waive`), or shorten it"
    ]


def test_a_waiver_of_all_names_nothing() -> None:
    text = WAIVER.replace("2026-11-22", f"2026-11-22, all: true, fingerprints: ['{ONE}']")
    assert said(draft(write("policy.yaml", text), today=date(2026, 11, 22))) == [
        "policy.yaml:5:69: waivers.0.all: excludes fingerprints (policy.yaml:5:89): "
        "a waiver covers the findings that it names, or all of a check; remove one"
    ]
