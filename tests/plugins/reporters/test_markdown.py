import re

import pytest
from ftcheck_plugins.reporters.markdown import BUDGET, REPORTER, render

from ftcheck.records import Change, Finding, Location, Outcome
from ftcheck.report.record import Report
from tests.plugins.reporters import fakes


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows but the heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| outcome")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def markdown_of(text: str) -> str:
    """What a renderer makes of it, as HTML."""
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


@pytest.mark.parametrize(
    ("report", "title"),
    [
        (fakes.green_night(), "## ✓ ftcheck night-before: passed"),
        (fakes.many_findings(), "## ✗ ftcheck night-before: failed"),
        (fakes.red_night(), "## ✗ ftcheck night-before: incomplete"),
        (fakes.started(), "## ! ftcheck night-before: did not finish"),
        (fakes.empty(), "## ! ftcheck night-before: no verdict"),
        (
            fakes.report(fakes.result(), status="partial"),
            "## ! ftcheck night-before: passed (partial: not all planned checks ran)",
        ),
    ],
)
def test_the_verdict_is_the_title(report: Report, title: str) -> None:
    assert render(report).splitlines()[0] == title


def test_the_tally_always_counts_waived_and_skipped() -> None:
    assert render(fakes.green_night()).splitlines()[2] == (
        "6 passed, 1 skipped, 0 waived in 4.4 s · gate open for mapper, analyst"
    )


def test_a_table_for_the_host_and_one_for_each_job() -> None:
    text = render(fakes.green_night())

    assert re.findall("^### (.*)", text, re.MULTILINE) == ["Waived and skipped", "host", "mapper", "analyst"]
    assert rows(text)[0] == [
        "✓ passed",
        "environment",
        "transformers 5.23 · trl 1.16 · peft 0.21 · bitsandbytes 0.50",
        "",
    ]
    assert ["- skipped", "gpu", "", "no NVIDIA GPU on this machine"] in rows(text)
    assert any("p95 93 tokens (limit &lt;= 768) · p99 107 tokens" in row[2] for row in rows(text))


def test_every_check_has_its_row_and_its_outcome_in_words() -> None:
    outcomes = [row[0] for row in rows(render(fakes.every_outcome()))]

    assert outcomes == [
        "✓ passed",
        "✗ failed",
        "- waived",
        "- skipped",
        "! errored",
        "! timed out",
        "- not run",
        "✗ failed, not blocking",
    ]


def test_findings_fold_away_with_place_remedy_and_total() -> None:
    text = render(fakes.red_night())

    assert "<details open><summary><b>analyst::truncation</b> failed, 1,204 findings</summary>" in text
    assert (
        "- <b>error</b> <code>data/analyst/train.jsonl:412:1</code> the answer is cut: 1,712 tokens" in text
    )
    assert "<br><b>change</b> <code>jobs.analyst.training.max\\_length: 1024 -&gt; 1536</code>" in text
    assert "- and 1,200 more" in text


def test_a_finding_says_why_where_it_has_a_reason_of_its_own() -> None:
    text = render(
        fakes.report(fakes.failed("mapper::x", Finding("too long", why="it is *cut*", fix="raise")))
    )

    assert "too long<br><b>why</b> it is \\*cut\\*<br><b>fix</b> raise" in text


def test_a_warning_that_the_gate_requires_says_so() -> None:
    text = render(fakes.report(fakes.required("mapper::x")))

    assert rows(text)[0][0] == "✗ failed; required by the gate"
    assert "1 failed (required by the gate)" in text


def test_lines_of_a_message_keep_their_indents() -> None:
    assert "token 4<br>&nbsp;&nbsp;\\|     train  &lt;\\|system\\|&gt;" in render(fakes.red_night())


def test_what_broke_and_failed_comes_before_what_was_waived_or_skipped() -> None:
    text = render(fakes.red_night())

    places = [text.index(part) for part in ("### Not finished", "<b>analyst::truncation</b>")]
    warned, aside = text.index("<b>mapper::learning-rate</b>"), text.index("### Waived and skipped")
    assert places == sorted(places)
    assert places[-1] < warned < aside < text.index("### host")
    waived = text.index("<b>analyst::duplicates</b>")
    assert text[aside:waived].strip().splitlines()[2:5] == [
        "- gpu skipped: no NVIDIA GPU on this machine",
        "- analyst::duplicates waived until 2026-11-28: synthetic paraphrases, reviewed (data-team)",
        "- analyst::guardrail skipped: serving.endpoint is not set: nothing to probe",
    ]


def test_untrusted_text_stays_text() -> None:
    text = "# x | <script>alert(1)</script> [a](http://b) ![c](d) `e` **f** _g_ ~~h~~ $i$ &amp; C:\\d\n- k"
    finding = Finding(text, at=Location(f"{text}.jsonl", 3), fix=text, change=Change("a", text, text))
    report = fakes.report(
        fakes.failed("mapper::x", finding, summary=text),
        fakes.result("mapper::y", Outcome.SKIPPED, reason=text),
        notes=(text, "- a list", "1. a number", "+ a sum"),
    )

    html = markdown_of(render(report))

    assert "alert(1)" in html
    assert not re.search("<(script|a|img|em|strong|h1|del)[ >]", html)
    assert html.count("<td") == 8
    assert html.count("<ul>") == html.count("</ul>") == 3
    assert "<ol" not in html


def test_control_characters_are_shown_and_secrets_are_not() -> None:
    text = render(fakes.nasty())

    assert r"\\x1b\[31mred" in text
    assert fakes.SECRET not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)


def test_two_thousand_findings_are_twenty_and_a_count() -> None:
    text = render(
        fakes.report(fakes.failed("mapper::x", *[fakes.finding(f"row {n} cut") for n in range(2000)]))
    )

    assert text.count("- <b>error</b>") == 20
    assert "- and 1,980 more" in text


def test_a_page_that_is_too_large_loses_whole_sections_and_says_so() -> None:
    long = [fakes.finding("ü" * 3000) for _ in range(20)]
    failed = [fakes.failed(f"mapper::check-{number}", *long) for number in range(40)]
    skipped = fakes.result("mapper::gpu", Outcome.SKIPPED, reason="no GPU")

    text = render(fakes.report(*failed, skipped))

    assert BUDGET * 0.8 < len(text.encode()) <= BUDGET
    assert text.count("<details") == text.count("</details>") == 7
    assert "33 sections left out to stay under 900 kB: mapper::check-7, mapper::check-8" in text
    assert " and 23 more. The JSON report has all of it." in text
    assert "- mapper::gpu skipped: no GPU" in text


def test_any_number_of_skipped_checks_is_listed() -> None:
    skipped = [fakes.result(f"mapper::check-{n}", Outcome.SKIPPED, reason="&" * 500) for n in range(3000)]

    text = render(fakes.report(*skipped))

    assert len(text.encode()) <= BUDGET
    assert sum(line.startswith("- mapper::check-") for line in text.splitlines()) == 3000


def test_a_started_report_says_nothing_else() -> None:
    assert render(fakes.started()) == "## ! ftcheck night-before: did not finish\n"


def test_a_report_without_checks_says_so() -> None:
    assert "no checks ran" in render(fakes.empty())


def test_problems_and_notes_are_told() -> None:
    text = render(fakes.red_night())

    assert "### Problems of the run" in text
    assert "plugin 'acme' is not installed" in text
    assert "- set on the command line: jobs.mapper.training.max\\_length=768" in text


def test_the_reporter_is_called_markdown() -> None:
    assert (REPORTER.name, REPORTER.suffix) == ("markdown", ".md")
