import io
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ftcheck.cli.pages.screen import wrapped
from ftcheck.errors import Problem
from ftcheck.extension.plugin_host import make_host
from ftcheck.records import Change, Finding, Location, Measurement, Outcome, Progress, Severity
from ftcheck.report.record import Report
from tests.plugins.reporters import fakes
from tests.plugins.reporters.display import (
    Display,
    console,
    play,
    reporter,
    shown,
    terminal,
    written,
)

VARIABLES = (
    "CI",
    "COLUMNS",
    "FORCE_COLOR",
    "GITHUB_ACTIONS",
    "NO_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
)


@pytest.fixture(autouse=True)
def _nobody_set_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def block(lines: list[str], first: str) -> list[str]:
    """The lines from the one that begins with `first` to the next empty one."""
    start = next(number for number, line in enumerate(lines) if line.startswith(first))
    end = next((n for n, line in enumerate(lines[start:], start) if not line), len(lines))
    return lines[start:end]


GREEN = """\
ftcheck 0.1.0 · policy night-before · 2 jobs, 34 checks · no GPU here

host
  ✓ environment         transformers 5.23 · trl 1.16 · peft 0.21 · bitsandbytes 0.50
  ✓ disk-space          3 checkpoints need 1.2 GiB of 80 GiB
  - gpu                 skipped: no NVIDIA GPU on this machine
mapper
  ✓ tokenizer-parity    train = eval = gold = serve, 64 probes, 13,784 rows
  ✓ percentile-seq-len  p95 93 tokens (limit <= 768) · p99 107 tokens · max 155 tokens
  ✓ packing-efficiency  1,333 blocks, 99.9 % full (TRL alone: 1,373)
analyst
  ✓ percentile-seq-len  p95 512 · p99 701 · max 1,311 tokens (max_length 1024)

6 passed, 1 skipped, 0 waived in 4.4 s · gate open for mapper, analyst"""


def test_a_green_night_in_a_log() -> None:
    assert shown(fakes.green_night()) == GREEN.splitlines()


def test_what_a_log_gets_has_no_escapes_and_no_progress() -> None:
    on = console()

    play(reporter(on), fakes.red_night())

    assert "\x1b" not in written(on)
    assert "preparing" not in written(on)


def test_a_terminal_keeps_one_line_of_each_task_and_no_bar() -> None:
    lines = shown(fakes.green_night(), terminal(120), clock=iter((0.0, 0.9, 1.0, 9.0)).__next__)

    assert lines[:6] == [
        "ftcheck 0.1.0 · policy night-before · 2 jobs, 34 checks · no GPU here",
        "",
        "preparing mapper  ━━━━━━━━━━━━━━━━━━━━ 13,784 rows  1.02 M tokens  0.9 s",
        "preparing analyst ━━━━━━━━━━━━━━━━━━━━ 7,473 rows  1.62 M tokens  1.4 s",
        "",
        "host",
    ]
    assert lines[5:] == GREEN.splitlines()[2:]


def test_bars_move_while_work_goes_on() -> None:
    on = terminal()
    watching = reporter(on)
    watching.ftcheck_run_started((fakes.check("a"), fakes.check("b")))

    watching.ftcheck_progress(Progress("preparing [mapper]", 500, 1000, "rows"))
    watching.ftcheck_check_finished(fakes.result("a"))
    watching.close()

    assert "checking" in written(on)
    assert "of 2 checks" in written(on)
    assert "preparing [mapper]" in written(on)
    assert not any("checking" in line for line in Display().show(written(on)))


def test_a_task_leaves_a_line_only_where_one_is_to_stay() -> None:
    on = terminal()
    watching = reporter(on)
    watching.ftcheck_run_started((fakes.check("a"),))

    for task, line in (("comparing mapper", False), ("comparing analyst", True)):
        watching.ftcheck_progress(Progress(task, 1, 2))
        watching.ftcheck_progress(Progress(task, 2, 2, finished=True, line=line))
    watching.close()

    stays = [one for one in Display().show(written(on)) if "comparing" in one]
    assert len(stays) == 1
    assert "comparing analyst" in stays[0]


def test_ci_gets_no_bars_even_with_forced_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    on = terminal()

    play(reporter(on), fakes.green_night())

    assert "\x1b[2K" not in written(on)
    assert "preparing" not in written(on)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = shown(fakes.red_night(), terminal(width), verbose=True, durations=3, max_age=timedelta(hours=24))

    assert [line for line in lines if len(line) > width] == []


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_places_and_commands_are_never_broken(width: int) -> None:
    text = "\n".join(shown(fakes.red_night(), terminal(width)))

    for whole in (
        "data/analyst/train.jsonl:412:1",
        "policies/night_before.yaml:58:19",
        "1 waived (expires in 6 days)",
    ):
        assert whole in text


def test_colours_carry_nothing_that_the_words_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    colourful = shown(fakes.red_night(), terminal(color_system="standard"))
    monkeypatch.setenv("NO_COLOR", "1")
    display = Display()
    on = terminal(color_system="standard")
    play(reporter(on), fakes.red_night())

    assert display.show(written(on)) == colourful
    assert display.colours <= {"", "0", "1", "2"}


def test_a_reason_of_a_finding_stands_in_place_of_the_rules() -> None:
    own = fakes.failed("analyst::truncation", fakes.finding("cut", why="this row has no answer left"))

    lines = shown(fakes.report(own))

    assert [line for line in lines if "why" in line] == ["  why   this row has no answer left"]


def test_a_warning_that_the_gate_requires_says_so() -> None:
    lines = shown(fakes.report(fakes.required()))

    assert any(
        line.startswith("  ✗ truncation") and "failed; required by the gate: " in line for line in lines
    )
    assert "FAILED mapper::truncation  required by the gate" in lines


def test_a_change_is_said_once() -> None:
    change = Change("jobs.mapper.serving.max_new_tokens", None, 56)
    lines = shown(
        fakes.report(fakes.failed("mapper::cap", Finding("x", fix="max_new_tokens: 56", change=change)))
    )

    [line] = [line for line in lines if line.startswith("  fix   ")]
    assert line.endswith("max_new_tokens: null -> 56")


def test_a_red_check_says_place_then_problem_then_why_then_remedy() -> None:
    lines = block(shown(fakes.red_night(), terminal(90)), "FAILED analyst::truncation")

    assert lines[:3] + lines[-7:] == [
        "FAILED analyst::truncation",
        "  data/analyst/train.jsonl:412:1     the answer is cut: 1,712 tokens, max_length 1024",
        "                                     keeps none of its 412 trained ones",
        "  data/analyst/train.jsonl:5120:1    the answer is cut: 6,420 tokens, max_length 1024",
        "                                     keeps none of its 5120 trained ones",
        "  and 1,200 more (ftcheck show policies/night_before.yaml --job analyst --row 412)",
        "  why   A row without trained tokens costs compute and teaches nothing; TRL drops it.",
        "  fix   policies/night_before.yaml:58:19  max_length: 1024 -> 1536   (keeps 99.4 % of",
        "        trained tokens, +9 % steps)",
        "        ftcheck fix policies/night_before.yaml --diff",
    ]


def test_a_message_of_several_lines_keeps_its_indents() -> None:
    assert block(shown(fakes.red_night(), terminal(80)), "FAILED analyst::template-parity") == [
        "FAILED analyst::template-parity",
        "  policies/night_before.yaml:71:9    serving.chat_template",
        '          |   probe "system + one turn", token 4',
        "          |     train  <|system|> ↵ You are",
        "          |     serve  <|im_start|> system ↵ You",
        "  why   The tuned model sees a prompt at serving that it never saw in training.",
        "  fix   serve with the training template: it is saved beside the adapter as",
        "        chat_template.jinja",
    ]


def test_a_warning_says_that_it_does_not_block() -> None:
    lines = shown(fakes.red_night())

    assert "  ✗ learning-rate       failed, not blocking: 0.002, usual is 0.0001 to 0.0003" in lines
    assert block(lines, "FAILED mapper::learning-rate")[0] == "FAILED mapper::learning-rate  not blocking"


def test_checks_that_broke_for_the_same_reason_say_it_once() -> None:
    lines = shown(fakes.red_night())

    assert block(lines, "ERRORED") == [
        "ERRORED analyst::gold-set and 2 other checks",
        "  input 'gold': tests/golden_analyst.json: no such file (jobs.analyst.data.gold)",
        "  checks  analyst::gold-set, analyst::output-cap, analyst::evaluation-parity",
    ]
    assert "  ! output-cap          errored: for the same reason as analyst::gold-set" in lines


def test_a_traceback_is_shown_with_v_only() -> None:
    brief, verbose = shown(fakes.red_night()), shown(fakes.red_night(), verbose=True)

    assert "note  -v shows the tracebacks" in brief
    assert not any("FileNotFoundError" in line for line in brief)
    assert "| FileNotFoundError: golden_analyst.json" in [line.strip() for line in verbose]


def test_a_waived_check_shows_its_waiver_and_a_few_findings() -> None:
    assert block(shown(fakes.red_night()), "WAIVED") == [
        "WAIVED analyst::duplicates  until 2026-11-28: synthetic paraphrases, reviewed (data-team)",
        "  data/analyst/train.jsonl:17:1     the same prompt and answer as line 3",
        "  data/analyst/train.jsonl:18:1     the same prompt and answer as line 4",
        "  data/analyst/train.jsonl:230:1    the same prompt and answer as line 216",
        "  and 209 more (ftcheck show policies/night_before.yaml --job analyst --row 17)",
    ]


def test_the_last_line_counts_everything_and_tells_the_gate() -> None:
    assert shown(fakes.red_night())[-1] == (
        "3 failed (1 not blocking), 3 errored, 1 timed out, 2 not run, 4 passed, 2 skipped, "
        "1 waived (expires in 6 days) in 4.4 s · incomplete run · "
        "gate shut for analyst (incomplete, failed), open for mapper"
    )


def test_the_gate_stays_open_until_the_report_is_too_old_or_a_waiver_ends() -> None:
    report = replace(fakes.red_night(), gate={"mapper": "open"})
    old = datetime.fromisoformat("2026-11-23T22:10:04+00:00").astimezone()
    ends = datetime.fromisoformat("2026-11-29T00:00:00+00:00").astimezone()

    day, month = (shown(report, max_age=timedelta(days=days))[-1] for days in (1, 30))

    assert day.endswith(f"gate open for mapper until {old:%Y-%m-%d %H:%M}")
    assert month.endswith(f"gate open for mapper until {ends:%Y-%m-%d %H:%M}")


def test_quiet_hides_what_passed_and_nothing_else() -> None:
    loud, quiet = shown(fakes.red_night(), terminal()), shown(fakes.red_night(), terminal(), quiet=True)

    gone = [line for line in loud if line not in quiet]
    assert all(line.startswith(("  ✓ ", "preparing ", "     ")) for line in gone)
    assert not any(line.startswith("  ✓ ") for line in quiet)
    for word in ("skipped: no NVIDIA", "waived until", "not run: stopped", "errored: input", "timed out:"):
        assert any(word in line for line in quiet)


def test_quiet_prints_no_heading_over_nothing() -> None:
    assert shown(fakes.green_night(), quiet=True)[2:5] == [
        "host",
        "  - gpu                 skipped: no NVIDIA GPU on this machine",
        "",
    ]


def test_verbose_shows_every_measurement_and_what_passed_checks_remarked() -> None:
    lines = shown(fakes.red_night(), verbose=True)

    assert "      rows_cut 1,204 rows (limit 0)" in lines
    assert any(line.startswith("      policies/night_before.yaml:31:19  p95 is 93 tokens") for line in lines)
    assert "note  1 remark on passed checks; -v shows it" in shown(fakes.red_night())


def test_results_are_printed_by_job_whatever_order_they_come_in() -> None:
    report = fakes.green_night()
    shuffled = replace(report, results=report.results[::-1])

    headings = [line for line in shown(shuffled) if line in ("host", "mapper", "analyst")]

    assert headings == ["host", "mapper", "analyst"]


def test_a_result_is_printed_as_soon_as_its_turn_comes() -> None:
    on = console()
    watching = reporter(on)
    watching.ftcheck_run_started((fakes.check("a"), fakes.check("mapper::b")))

    watching.ftcheck_check_finished(fakes.result("mapper::b", summary="late"))
    before = written(on)
    watching.ftcheck_check_finished(fakes.result("a", summary="early"))

    assert "late" not in before
    assert written(on).index("early") < written(on).index("late")


def test_checks_that_never_ran_are_counted_by_reason() -> None:
    assert "  - 2 checks            not run: stopped after 4 failures (--maxfail 4)" in shown(
        fakes.red_night()
    )


def test_a_check_that_only_the_report_knows_is_printed_too() -> None:
    on = console()
    watching = reporter(on)
    watching.ftcheck_run_started(())
    watching.ftcheck_run_finished(fakes.report(fakes.result("mapper::x", Outcome.ERRORED, reason="lost")))

    assert "  ! x  errored: lost" in written(on)


def test_the_slowest_checks_come_first_and_0_means_all() -> None:
    three, every = (block(shown(fakes.red_night(), durations=n), "slowest checks") for n in (3, 0))

    assert three == [
        "slowest checks",
        "         1.4 s  analyst::truncation",
        "         0.6 s  mapper::tokenizer-parity",
        "         0.2 s  analyst::template-parity",
    ]
    assert len(every) == 1 + len(fakes.red_night().results)


def test_problems_and_notes_stand_before_the_tally() -> None:
    lines = shown(fakes.red_night())

    problem = "plugins: plugin 'acme' is not installed; no plugin is installed"
    assert block(lines, "PROBLEMS") == [
        "PROBLEMS of the run",
        f"  policies/night_before.yaml:4:12    {problem}",
    ]
    assert "note  set on the command line: jobs.mapper.training.max_length=768" in lines


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (fakes.empty(), "no checks ran"),
        (fakes.report(fakes.result("gpu", Outcome.SKIPPED, reason="x")), "nothing passed or failed"),
        (fakes.started(), "started run"),
        (fakes.report(fakes.result(), status="partial"), "partial run"),
    ],
)
def test_a_run_that_proves_nothing_or_not_enough_says_so(report: Report, words: str) -> None:
    assert words in shown(report)[-1]


def test_what_came_from_the_cache_is_said_with_verbose_only() -> None:
    report = replace(fakes.red_night(), cached=("mapper.train", "mapper.tokenizer"))
    line = (
        "note  from the cache: mapper.tokenizer, mapper.train (every check ran; --no-cache makes them again)"
    )
    assert line in shown(report, verbose=True)
    assert line not in shown(report)


def test_two_thousand_findings_are_twenty_and_a_count() -> None:
    findings = [fakes.finding(f"row {number} is cut") for number in range(2000)]

    lines = shown(fakes.report(fakes.failed("mapper::truncation", *findings)))

    assert sum("is cut" in line for line in block(lines, "FAILED")) == 20
    assert any(line.startswith("  and 1,980 more (ftcheck show ") for line in lines)


def test_the_same_remedy_is_said_once() -> None:
    lines = block(shown(fakes.red_night()), "FAILED analyst::truncation")

    assert sum("1024 -> 1536" in line for line in lines) == 1


def test_a_remedy_that_names_its_change_is_not_followed_by_the_change() -> None:
    change = Change("jobs.mapper.training.max_length", 128, 192)
    finding = fakes.finding(change=change, fix="max_length: 128 -> 192 (keeps all of it)")

    lines = shown(fakes.report(fakes.failed("x", finding)))

    assert "  fix   policies/night_before.yaml:58:19  max_length: 128 -> 192 (keeps all of it)" in lines


def test_what_was_set_on_the_command_line_cannot_be_fixed_in_the_file() -> None:
    finding = fakes.finding(change=Change("jobs.mapper.training.max_length", 128, 192))

    lines = shown(fakes.report(fakes.failed("x", finding)), place_of=lambda path: Location("--set"))

    assert "  fix   --set  max_length: 128 -> 192" in lines
    assert not any("ftcheck fix" in line for line in lines)


def test_many_remedies_are_cut_short() -> None:
    findings = [fakes.finding(f"row {number}", fix=f"mend row {number}") for number in range(8)]

    lines = block(shown(fakes.report(fakes.failed("mapper::x", *findings))), "FAILED")

    assert lines[-6:] == [
        "  fix   mend row 0",
        *(f"        mend row {number}" for number in range(1, 5)),
        "        and 3 more",
    ]


def test_a_change_without_a_known_place_names_its_whole_path() -> None:
    change = Change("jobs.mapper.training.bf16", None, True)

    lines = shown(fakes.report(fakes.failed("x", fakes.finding(change=change))), place_of=None)

    assert "  fix   jobs.mapper.training.bf16: null -> true" in lines


def test_a_place_that_is_too_wide_stands_above_its_message() -> None:
    long = Finding("too long", at=Location("data/" + "deep/" * 20 + "train.jsonl", 3, 1))
    short = Finding("too long as well", at=Location("a.jsonl", 4, 1))

    lines = block(shown(fakes.report(fakes.failed("mapper::x", long, short)), terminal(80)), "FAILED")

    assert lines[1:] == [
        "  data/" + "deep/" * 20 + "train.jsonl:3:1",
        "        too long",
        "  a.jsonl:4:1    too long as well",
    ]


def test_windows_paths_and_other_scripts_are_shown_as_they_are() -> None:
    found = Finding("日本語の行は長すぎます", at=Location("C:\\data\\träin.jsonl", 3, 1))

    lines = shown(fakes.report(fakes.failed("mapper::x", found)))

    assert "  C:\\data\\träin.jsonl:3:1    日本語の行は長すぎます" in lines


def test_wide_characters_count_twice_when_lines_are_broken() -> None:
    assert wrapped("日本 語の 行は", 9, 9) == ["日本 語の", "行は"]


def test_control_characters_are_shown_markup_is_text_and_secrets_are_gone() -> None:
    on = console()

    play(reporter(on), fakes.nasty())

    text = written(on)
    assert not set(text) & {"\x07", "\x1b", "\x00", "\ud800", "\x9b", "\u202e"}
    assert r"\x1b[31mred\x1b[0m" in text
    assert r"lone \ud800" in text
    assert fakes.SECRET not in text
    text.encode("utf-8")


def test_square_brackets_are_no_markup() -> None:
    result = fakes.result("mapper::[bold]x[/bold]", summary="[red]a[/red] :smile: [/] [link=x]")

    lines = shown(fakes.report(result))

    assert "  ✓ [bold]x[/bold]  [red]a[/red] :smile: [/] [link=x]" in lines


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_an_encoding_that_cannot_say_it_gets_other_characters(encoding: str) -> None:
    from rich.console import Console

    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    report = replace(fakes.red_night(), notes=("日本 ✓",))

    play(reporter(Console(file=stream)), report)
    stream.flush()

    text = raw.getvalue().decode(encoding)
    assert "  + disk-space          3 checkpoints" in text
    assert "  x truncation          failed: 1,204 of 7,473" in text
    assert r"\u65e5\u672c \u2713" in text


def test_no_line_of_a_github_log_can_be_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    message = "x\n::stop-commands::now\n  ::add-mask::y\n##[error]z"
    finding = Finding(message, at=Location("::warning::a\n::error::b", 1), fix="::set-output::c")
    report = fakes.report(fakes.failed("mapper::x", finding), problems=(Problem("::debug::d"),))

    lines = shown(report)

    assert not any(line.lstrip().startswith("::") or "##[" in line for line in lines)
    assert any(line.lstrip(" |").startswith("::stop-commands::now") for line in lines)


def test_report_files_are_named_at_the_end() -> None:
    on = console()
    watching = reporter(on)

    watching.show_reports(["night.json", "junit.xml"])
    watching.show_reports([])

    assert written(on) == "reports: night.json  junit.xml\n"


def test_a_failed_check_without_findings_still_says_that_it_failed() -> None:
    lines = shown(fakes.report(replace(fakes.failed("mapper::x"), findings=())))

    assert "  ✗ x  failed: no finding was given" in lines
    assert "FAILED mapper::x" in lines


def test_a_job_may_be_called_host() -> None:
    lines = shown(fakes.report(fakes.result("a"), fakes.result("host::b")), job_order=("host",))

    assert lines[2:6] == ["host", "  ✓ a", "host", "  ✓ b"]


def test_numbers_are_written_as_people_write_them() -> None:
    values = (13784, 99.964, 0.0002, True, None, 12345.678, 2.0)
    measurements = tuple(Measurement("x", value) for value in values)

    lines = shown(fakes.report(fakes.result("mapper::x", measurements=measurements)), verbose=True)

    measured = [line.strip() for line in lines if line.startswith("      ")]
    assert measured == ["x 13,784", "x 99.96", "x 0.0002", "x True", "x None", "x 12,345.68", "x 2"]


def test_a_host_can_watch_it() -> None:
    on = console()
    host = make_host()
    host.watch(reporter(on))
    report = fakes.report(fakes.failed("mapper::x", fakes.finding("cut", severity=Severity.ERROR)))

    host.run_started(tuple(result.check for result in report.results))
    host.progress(Progress("preparing mapper", 1))
    host.check_finished(report.results[0])
    host.run_finished(report)

    assert "FAILED mapper::x" in written(on)
