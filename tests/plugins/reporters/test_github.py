import re
from pathlib import Path

import pytest
from ftcheck_plugins.reporters.github import REPORTER, render

from ftcheck.errors import Problem
from ftcheck.records import Finding, Location, Outcome, Severity
from ftcheck.report.record import Report
from tests.plugins.reporters import fakes

COMMAND = re.compile(r"::(error|warning|notice) ([^:]*)::([^\n\r]*)")


def annotations(report: Report) -> list[tuple[str, dict[str, str], str]]:
    """Level, properties and message, as GitHub reads them; a line that is no command is an error."""
    found = []
    for line in render(report).splitlines():
        match = COMMAND.fullmatch(line)
        assert match, line
        properties = dict(one.split("=", 1) for one in match[2].split(","))
        found.append(
            (match[1], {key: unescaped(one) for key, one in properties.items()}, unescaped(match[3]))
        )
    return found


def unescaped(text: str) -> str:
    for code, sign in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, sign)
    return text


def warned(check_id: str, *messages: str) -> tuple[Finding, ...]:
    return tuple(fakes.finding(f"{check_id} {one}", severity=Severity.WARNING) for one in messages)


def test_a_finding_stands_beside_its_line() -> None:
    [(level, properties, message), _] = annotations(
        fakes.report(fakes.failed("mapper::x", fakes.finding("cut")))
    )

    assert level == "error"
    assert properties == {"file": "data/train.jsonl", "line": "412", "col": "1", "title": "mapper::x"}
    assert message == "cut"


def test_what_to_do_follows_the_message() -> None:
    found = annotations(fakes.red_night())

    message = next(message for _, _, message in found if message.startswith("the answer is cut: 1,712"))

    assert message.splitlines()[1:] == [
        "fix: keeps 99.4 % of trained tokens, +9 % steps",
        "change: jobs.analyst.training.max_length: 1024 -> 1536",
    ]


def test_a_place_without_a_file_stands_in_the_message() -> None:
    finding = Finding("too low", at=Location(yaml_path="jobs.mapper.training"))

    [(_, properties, message), _] = annotations(fakes.report(fakes.failed("mapper::x", finding)))

    assert properties == {"title": "mapper::x"}
    assert message == "jobs.mapper.training: too low"


def test_percent_signs_colons_commas_and_line_breaks_are_escaped() -> None:
    at = Location("C:\\data,new\\50%.jsonl", 3)
    text = render(fakes.report(fakes.failed("mapper::x", Finding("50 % :: a,b\nnext\r\nlast", at=at))))

    line = text.splitlines()[0]

    assert line == (
        "::error file=C%3A\\data%2Cnew\\50%25.jsonl,line=3,title=mapper%3A%3Ax::"
        "50 %25 :: a,b%0A  | next%0A  | last"
    )


def test_paths_below_the_current_folder_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inside = fakes.finding(at=Location(str(tmp_path / "data" / "a.jsonl"), 1))
    outside = fakes.finding(at=Location("/elsewhere/a.jsonl", 1))

    found = annotations(fakes.report(fakes.failed("x", inside, outside)))

    assert [properties.get("file") for _, properties, _ in found[:2]] == [
        "data/a.jsonl",
        "/elsewhere/a.jsonl",
    ]


def test_errors_come_first_and_the_tally_last() -> None:
    levels = [level for level, _, _ in annotations(fakes.red_night())]

    assert levels == sorted(levels, key=["error", "warning", "notice"].index)
    title, tally = annotations(fakes.red_night())[-1][1:]
    assert title == {"title": "ftcheck night-before: incomplete"}
    assert tally.startswith("3 failed (1 not blocking), 3 errored, 1 timed out, 2 not run, 4 passed")
    assert tally.endswith("gate shut for analyst (incomplete, failed), open for mapper")


def test_only_what_blocks_is_red() -> None:
    findings = (fakes.finding("bad"), *warned("x", "meh"), fakes.finding("fyi", severity=Severity.INFO))
    warning = fakes.failed("mapper::warned", *warned("y", "meh"), blocking=False)

    found = annotations(fakes.report(fakes.failed("mapper::x", *findings), warning))

    assert [(level, message) for level, _, message in found[:4]] == [
        ("error", "bad"),
        ("warning", "y meh"),
        ("warning", "x meh"),
        ("notice", "fyi"),
    ]


def test_a_warning_is_red_where_the_gate_fails_on_warnings() -> None:
    report = fakes.report(fakes.failed("mapper::x", *warned("x", "meh")), fail_on=Severity.WARNING)

    assert annotations(report)[0][0] == "error"


def test_no_level_has_more_than_ten_and_what_is_left_out_is_counted() -> None:
    waived = [fakes.result(f"w::{n}", Outcome.WAIVED, reason="known") for n in range(50)]
    many = [fakes.failed(f"m::{n}", *warned("x", *"abc"), blocking=False) for n in range(20)]

    found = annotations(fakes.report(*fakes.many_findings().results, *waived, *many))

    levels = [level for level, _, _ in found]
    assert {level: levels.count(level) for level in levels} == {"error": 10, "warning": 10, "notice": 10}
    hidden = [message for _, _, message in found if " more: " in message]
    assert [message.split(" ", 1)[0] for message in hidden] == ["1,991", "51", "42"]


def test_every_check_is_heard_before_one_is_heard_twice() -> None:
    loud = fakes.failed("mapper::loud", *(fakes.finding(f"loud {n}") for n in range(15)))
    quiet = fakes.failed("mapper::quiet", fakes.finding("quiet"))

    messages = [message for _, _, message in annotations(fakes.report(loud, quiet))]

    assert messages[:3] == ["loud 0", "quiet", "loud 1"]


def test_checks_that_broke_for_the_same_reason_share_an_annotation() -> None:
    found = annotations(fakes.red_night())

    [(level, properties, message)] = [one for one in found if "golden_analyst" in one[2]]

    assert (level, properties) == ("error", {"title": "3 checks errored"})
    assert message.splitlines()[1] == "analyst::gold-set, analyst::output-cap, analyst::evaluation-parity"


def test_problems_of_the_run_are_errors_at_their_place() -> None:
    problem = Problem("unknown key", "policy.yaml", 3, 5, "jobs.mapper.x")

    found = annotations(fakes.report(fakes.result(), problems=(problem,), status="incomplete"))

    assert found[0] == (
        "error",
        {"file": "policy.yaml", "line": "3", "col": "5", "title": "ftcheck"},
        "jobs.mapper.x: unknown key",
    )


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (fakes.started(), "the run did not finish"),
        (fakes.empty(), "no checks ran"),
        (fakes.report(fakes.result("gpu", Outcome.SKIPPED, reason="none")), "nothing passed or failed"),
        (fakes.report(fakes.result("gpu", Outcome.ERRORED)), "no reason was given"),
    ],
)
def test_a_run_that_proves_nothing_is_an_error(report: Report, message: str) -> None:
    assert annotations(report)[0][::2] == ("error", message)


def test_text_from_data_cannot_become_a_command_or_leak() -> None:
    text = render(fakes.nasty())

    assert annotations(fakes.nasty())
    assert fakes.SECRET not in text
    assert r"\x1b[31mred" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)


def test_the_reporter_is_called_github() -> None:
    assert REPORTER.name == "github"


def test_a_value_set_on_the_command_line_names_no_file() -> None:
    finding = Finding("too long", at=Location("--set", yaml_path="jobs.mapper.training.max_length"))

    [(_, properties, _), *_] = annotations(fakes.report(fakes.failed("x", finding)))

    assert "file" not in properties
