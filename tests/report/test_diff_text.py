"""The words for a difference: each line worked out by hand from the two reports."""

from dataclasses import replace

from ftcheck.records import Finding, Location, Measurement, Outcome
from ftcheck.report.diff import compare
from ftcheck.report.diff_text import markdown, terminal
from ftcheck.report.record import InputDigest, PluginInfo
from tests.plugins.reporters import fakes
from tests.plugins.reporters.fakes import digest, failed, finding, report, result

ID = "mapper::truncation"


def row(letter: str, line: int, message: str = "the answer is cut") -> Finding:
    return finding(message, at=Location("train.jsonl", line, 1, row=line, record=digest(letter)))


BEFORE = report(
    failed(ID, row("a", 3), row("b", 4), measurements=(Measurement("cut", 200, "rows", "0"),)),
    result("mapper::memory", Outcome.SKIPPED, reason="no GPU"),
    inputs={"mapper.train": InputDigest("train.jsonl", digest("1"), 1500)},
    plugins=(PluginInfo("rules", "ftcheck", "0.1.0"),),
    gate={"mapper": "failed"},
)
AFTER = report(
    failed(ID, row("b", 4), row("c", 9), measurements=(Measurement("cut", 150, "rows", "0"),)),
    result("mapper::memory"),
    result("mapper::labels"),
    inputs={"mapper.train": InputDigest("train.jsonl", digest("2"), 1499)},
    plugins=(PluginInfo("rules", "ftcheck", "0.2.0"),),
    gate={"mapper": "open"},
    policy_name="night",
)
WORDS = """night-before → night: failed → failed
1 new, 1 fixed, 1 still there

New
  mapper::truncation  train.jsonl:9:1: the answer is cut

Fixed
  mapper::truncation  train.jsonl:3:1: the answer is cut

Still there
  mapper::truncation  train.jsonl:4:1: the answer is cut

Outcomes
  mapper::labels  not planned → passed
  mapper::memory  skipped → passed

Measurements
  mapper::truncation  cut: 200 → 150 rows (-25.0%)

Inputs
  mapper.train  rows 1,500 → 1,499, digest sha256:11111111… → sha256:22222222…

Gate
  mapper  failed → open

Policy
  name  night-before → night

Versions
  plugin rules (ftcheck)  rules 0.1.0 → rules 0.2.0"""


def test_the_terminal_says_all_that_differs() -> None:
    assert terminal(compare(BEFORE, AFTER)) == WORDS


def test_markdown_says_the_same_with_headings_and_without_markup_of_others() -> None:
    text = markdown(compare(BEFORE, report(failed(ID, row("d", 1, "<b> | `x` [y](z)")))))

    assert text.startswith("## ftcheck night-before: failed → failed\n\n1 new, 2 fixed, 0 still there\n")
    assert "### New\n\n- mapper::truncation  train.jsonl:1:1: &lt;b&gt; \\| \\`x\\` \\[y\\](z)\n" in text


def test_a_limit_that_moved_is_told_beside_the_value() -> None:
    then, now = (
        result(ID, measurements=(Measurement("p95", 111, "tokens", limit),)) for limit in ("<= 64", None)
    )

    said = terminal(compare(report(then), report(now)))

    assert "mapper::truncation  p95: 111 tokens, limit <= 64 → (none)" in said


def test_nothing_differs() -> None:
    night = report(result(ID))

    assert terminal(compare(night, night)) == "night-before: passed → passed\nnothing differs"


def test_long_parts_are_cut_and_say_so() -> None:
    rows = tuple(row(letter, line) for line, letter in enumerate("abcdef0123456789"[:15], start=1))

    said = terminal(compare(report(result(ID)), report(failed(ID, *rows))))

    assert said.count("train.jsonl") == 10
    assert "  and 5 more (-o markdown shows more, -o json all)" in said
    assert markdown(compare(report(result(ID)), report(failed(ID, *rows)))).count("train.jsonl") == 15


def test_what_the_reports_do_not_hold_is_no_exact_number() -> None:
    before = report(failed(ID, row("a", 1), findings_total=100))
    after = report(failed(ID, row("b", 2), findings_total=300))

    said = terminal(compare(before, after))

    assert "at least 200 new, at least 0 fixed, at least 0 still there" in said
    assert "mapper::truncation  at least 200 findings without text in the reports" in said


def test_a_check_without_an_end_is_not_known() -> None:
    broken = result(ID, Outcome.ERRORED, reason="no memory")

    said = terminal(compare(report(failed(ID, row("a", 1))), replace(report(broken), status="incomplete")))

    assert "Not known\n  mapper::truncation: the check did not come to an end: errored" in said
    assert said.startswith("night-before: failed → failed (incomplete)")


def test_secrets_and_control_characters_stay_out() -> None:
    said = terminal(compare(report(), fakes.nasty())) + markdown(compare(report(), fakes.nasty()))

    assert fakes.SECRET not in said
    assert "\x1b" not in said
