"""How large pages are and how soon they can be used."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ftcheck.records import Check, Finding, Location, Measurement, Outcome, Result, Severity, Stage
from ftcheck.report.html.report_page import page
from ftcheck.report.record import JobDigests, Report
from tests.browser.chromium import Browser
from tests.plugins.reporters import fakes

pytestmark = pytest.mark.browser
JOBS, CHECKS, FAILING, EACH = 20, 45, 5, 20


def large() -> Report:
    """20 jobs of 45 checks; 100 of these fail with 20 findings each, which are 2,000."""
    jobs = [f"job-{number:02}" for number in range(JOBS)]
    results = [_result(job, number) for job in jobs for number in range(CHECKS)]
    digests = {job: JobDigests(fakes.digest("a"), fakes.digest("b"), ids=fakes.digest("c")) for job in jobs}
    gate = dict.fromkeys(jobs, "failed")
    return replace(fakes.report(*results), jobs=digests, gate=gate)


def _result(job: str, number: int) -> Result:
    name = "percentile-seq-len" if number == CHECKS - 1 else f"check-{number:02}"
    check = Check(f"{job}::{name}", name, name, job, Stage.BEFORE, plugin="rules 0.1.0 (3f2a9c01d4e5)")
    if number < FAILING:
        found = tuple(_finding(job, number, row) for row in range(EACH))
        return Result(
            check, Outcome.FAILED, blocking=True, findings=found, findings_total=EACH, measurements=_MEASURED
        )
    bins = Measurement("histogram", " ".join(map(str, range(48))), "rows per 8 tokens")
    return Result(
        check, Outcome.PASSED, measurements=(*_MEASURED, bins), summary="p95 812 · p99 1,020 tokens"
    )


def _finding(job: str, number: int, row: int) -> Finding:
    at = Location(f"data/{job}/train.jsonl", 40 * row + number, 1, row=row)
    words = f"the answer is cut: of {900 + row} tokens, max_length 768 keeps 12 of the 140 trained tokens"
    return Finding(words, Severity.ERROR, at, fix="max_length: 768 -> 1024 (keeps 99.7 % of trained tokens)")


_MEASURED = tuple(Measurement(f"p{n}", 100.5 * n, "tokens", "<= 768") for n in (50, 90, 95, 99))


def ready(browser: Browser, path: Path) -> float:
    """Seconds from the start of loading until a filter has been used: the page is there and answers."""
    browser.driver.get("about:blank")
    started = time.perf_counter()
    browser.driver.get(path.resolve().as_uri())
    browser.run("document.querySelector('#filters button[data-outcome]').click()")
    assert browser.run("return document.getElementById('shown').textContent") != ""
    return time.perf_counter() - started


def test_a_night_of_two_jobs_is_small_and_there_within_a_second(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    for name in ("before", "night"):
        assert pages[name].stat().st_size < 1_000_000
        assert min(ready(browser, pages[name]) for _ in range(3)) < 1.0


def test_two_thousand_findings_of_twenty_jobs_are_there_within_two_seconds(
    browser: Browser, tmp_path: Path
) -> None:
    report = large()
    assert sum(len(one.findings) for one in report.results) == 2000
    path = tmp_path / "large.html"
    path.write_text(page(report), encoding="utf-8")

    assert path.stat().st_size < 5_000_000
    assert min(ready(browser, path) for _ in range(3)) < 2.0
