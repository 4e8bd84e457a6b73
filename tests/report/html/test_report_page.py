import re
from dataclasses import replace

import pytest

from ftcheck.records import Change, Finding, Location, Measurement, Outcome, Severity
from ftcheck.report.html.jobs import Measured, bins_of
from ftcheck.report.html.report_page import page
from ftcheck.report.html.verdict import state, word
from ftcheck.report.html.waivers import days_left
from ftcheck.report.record import Report, RuleText, WaiverUse
from tests.plugins.reporters import fakes
from tests.report.html import worked


@pytest.mark.parametrize(
    ("report", "colour", "said"),
    [
        (fakes.green_night(), "pass", "Passed"),
        (fakes.many_findings(), "fail", "Failed"),
        (fakes.red_night(), "broken", "Incomplete"),
        (fakes.started(), "broken", "Did not finish"),
        (fakes.empty(), "broken", "Nothing was decided"),
        (replace(fakes.green_night(), status="partial"), "broken", "Passed, in part"),
        (
            replace(fakes.green_night(), gate={"mapper": "open", "analyst": "required"}),
            "broken",
            "Passed, but the gate is shut",
        ),
        (replace(fakes.green_night(), status="incomplete"), "broken", "Incomplete"),
        (replace(fakes.green_night(), verdict=None), "broken", "No verdict"),
        (
            fakes.report(fakes.result(outcome=Outcome.SKIPPED, reason="no rows")),
            "broken",
            "Nothing was decided",
        ),
    ],
    ids=[
        "green",
        "failed",
        "red",
        "started",
        "empty",
        "partial",
        "gate shut",
        "incomplete",
        "no verdict",
        "all skipped",
    ],
)
def test_only_a_complete_run_in_which_something_passed_is_green(
    report: Report, colour: str, said: str
) -> None:
    assert (state(report), word(report)) == (colour, said)
    text = page(report)
    assert f'class="verdict {colour}"' in text
    assert ('class="verdict pass"' in text) == (colour == "pass")


def order(text: str) -> list[str]:
    return re.findall(r'<section[^>]* id="([a-z]+)', text)


def test_verdict_failures_jobs_checks_waivers_and_surroundings_stand_in_this_order() -> None:
    assert order(page(fakes.red_night())) == [
        "problems",
        "failures",
        "unfinished",
        "jobs",
        "checks",
        "waivers",
        "notes",
        "ran",
    ]


def test_every_finding_measurement_input_and_version_is_on_the_page() -> None:
    report = fakes.red_night()
    text = page(report)

    for result in report.results:
        assert f">{result.check.name}<" in text
        for one in result.measurements:
            assert f">{one.name}<" in text
    for needed in (
        "1,204 of 7,473 rows cut",
        "data/analyst/train.jsonl:412",
        "transformers",
        "5.23.0",
        "not readable",
    ):
        assert needed in text


def test_a_failure_says_where_why_and_what_to_do_with_the_change_to_copy() -> None:
    finding = Finding(
        "p95 is 812 tokens",
        at=Location("night.yaml", 16, 28, "jobs.mapper.training.max_length"),
        fix="max_length: 768 -> 1024 (keeps 99 %)",
        change=Change("jobs.mapper.training.max_length", 768, 1024, safe=False),
    )
    report = fakes.report(fakes.failed("mapper::truncation", finding), policy_path="night.yaml")
    text = page(replace(report, rules={"truncation": RuleText("Nothing is cut.", "The answer is cut.")}))

    assert "night.yaml:16:28" in text
    assert "The answer is cut." in text
    assert 'data-copy="max_length: 1024"' in text
    assert ">keeps 99 %<" in text  # the change itself is said once
    assert 'data-copy="ftcheck fix night.yaml --unsafe --diff"' in text


def test_no_command_for_what_the_command_line_states_or_no_file_holds() -> None:
    change = Change("jobs.j.training.max_length", 1, 2)
    failed = fakes.failed("j::truncation", Finding("cut", change=change))
    stated = fakes.report(failed, overrides=("jobs.j.training.max_length=1",))

    assert "ftcheck fix" not in page(stated)
    assert "ftcheck fix" not in page(fakes.report(failed, policy_path="train.jsonl"))
    assert "ftcheck fix" in page(fakes.report(failed))


def test_an_info_changes_nothing_so_there_is_no_command() -> None:
    change = Change("jobs.j.training.max_length", 1, 2)
    failed = fakes.failed("j::truncation", Finding("cut", Severity.INFO, change=change))

    assert "ftcheck fix" not in page(fakes.report(failed))


def test_the_bins_of_a_histogram_are_read_with_their_width() -> None:
    assert bins_of(worked.BINS["text"], worked.BINS["unit"]) == ([2, 6, 0, 4], 3)
    assert bins_of("1 2 x", "rows per 3 tokens") == ([], 1)
    assert bins_of("1 2", None) == ([1, 2], 1)


def test_measurements_that_are_no_numbers_draw_nothing_and_break_nothing() -> None:
    odd = (
        Measurement("peak_gib", "nan", "GiB"),
        Measurement("histogram", "<b>", "rows"),
        Measurement("p95", None),
    )
    report = fakes.report(
        fakes.result("mapper::memory-fit", measurements=odd),
        fakes.result("mapper::percentile-seq-len", measurements=odd),
    )

    assert page(report).count('role="img"') == 1  # the tally
    assert Measured.of(report, "mapper").number("memory-fit", "peak_gib") is None


@pytest.mark.parametrize(
    ("expires", "left"), [("2026-11-28", 6), ("2026-11-22", 0), ("2026-11-20", -2), ("soon", None)]
)
def test_days_are_counted_from_the_run(expires: str, left: int | None) -> None:
    waiver = WaiverUse("j::c", "because", "me", expires, used=True)

    assert days_left(fakes.report(), waiver) == left


def test_the_same_report_makes_the_same_page() -> None:
    assert page(fakes.red_night()) == page(fakes.red_night())


def test_secrets_and_control_characters_are_not_on_the_page() -> None:
    text = page(fakes.nasty())

    assert fakes.SECRET not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\ud800-\udfff]", text)
