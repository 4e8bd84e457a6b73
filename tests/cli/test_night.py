"""`ftcheck report night`: what is whole, what is missing, what is no part of a night."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ftcheck_plugins.reporters import json_report

from ftcheck.cli.night import gathered
from ftcheck.cli.pages.night_html import Night, lacking, page, state
from ftcheck.errors import UsageError
from ftcheck.records import Stage
from ftcheck.report.record import Report
from tests.cli.project import Project
from tests.cli.test_monitor import NOW, finished, run
from tests.plugins.reporters import fakes

AT = "2026-11-29T07:00:00+00:00"


def before(**changes: object) -> Report:
    jobs = {"mapper": replace(fakes.green_night().jobs["mapper"], ids=None)}
    return fakes.report(fakes.result("mapper::fine"), jobs=jobs, gate={"mapper": "open"}, **changes)


def after(**changes: object) -> Report:
    return before(stage=Stage.AFTER, **changes)


def written(folder: Path, name: str, report: Report) -> str:
    path = folder / name
    path.write_text(json_report.render(report), encoding="utf-8")
    return str(path)


def whole(tmp_path: Path) -> Night:
    finished(tmp_path / "runs" / "mapper")
    sources = (
        written(tmp_path, "a.json", after()),
        str(tmp_path / "runs"),
        written(tmp_path, "b.json", before()),
    )
    return gathered(sources, NOW)


def test_sources_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    night = whole(tmp_path)

    assert night.before is not None
    assert night.after is not None
    assert [view.job for view, _ in night.runs] == ["mapper"]
    assert lacking(night) == []
    assert state(night) == "pass"
    assert "Every training finished, and the checks before and after it passed." in page(night, AT)


def test_a_night_without_a_part_is_not_green_and_says_what_is_missing(tmp_path: Path) -> None:
    night = whole(tmp_path)

    for part, said in (
        (replace(night, before=None), "no report of the checks before training was given"),
        (replace(night, after=None), "no report of the checks after training was given"),
        (replace(night, runs=()), "mapper: no run folder was given"),
        (replace(night, missing=("b.json: not read",)), "b.json: not read"),
    ):
        assert said in lacking(part)
        assert state(part) == "broken"
        assert said in page(part, AT)
        assert 'class="verdict pass"' not in page(part, AT)


def test_a_failed_check_or_run_makes_the_night_red(tmp_path: Path) -> None:
    night = whole(tmp_path)
    failed = replace(after(), verdict="failed")
    run(tmp_path / "broken" / "mapper", status="failed", reason="CUDA out of memory")
    broken = gathered((str(tmp_path / "broken"),), NOW)

    assert state(replace(night, after=failed)) == "fail"
    assert state(replace(night, runs=broken.runs)) == "fail"
    assert "CUDA out of memory" in page(broken, AT)


def test_a_run_that_was_fed_other_rows_than_were_checked_is_said(tmp_path: Path) -> None:
    finished(tmp_path / "runs" / "mapper")
    edited = tmp_path / "runs" / "mapper" / "run.json"
    edited.write_text(
        json.dumps(json.loads(edited.read_text(encoding="utf-8")) | {"ids": fakes.digest("1")}),
        encoding="utf-8",
    )
    jobs = {"mapper": replace(fakes.green_night().jobs["mapper"], ids=fakes.digest("2"))}
    night = gathered((str(tmp_path / "runs"),), NOW)
    night = replace(night, before=replace(before(), jobs=jobs), after=after())

    [said] = lacking(night)
    assert said.startswith("mapper: the run was fed other ids")
    assert state(night) == "broken"


def test_numbers_outside_the_plan_are_marked(tmp_path: Path) -> None:
    folder = finished(tmp_path / "runs" / "mapper")
    values = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    values["expected"]["tokens_per_second"] = {"low": 9000, "high": 9900, "source": "run-time"}
    (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")
    text = page(gathered((str(folder),), NOW), AT)

    row = text[text.index(">tokens/s</th>") :]
    assert "9,000 to 9,900" in row
    assert "✗" not in row[: row.index("</tr>")]
    assert ">!</span> no<" in row[: row.index("</tr>")]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": "other/1"}'])
def test_what_is_no_part_of_a_night_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match=r"x\.json: not one of: a JSON report of ftcheck run"):
        gathered((str(path),), NOW)


def test_two_reports_of_one_stage_are_refused(tmp_path: Path) -> None:
    sources = (written(tmp_path, "a.json", before()), written(tmp_path, "b.json", before()))

    with pytest.raises(UsageError, match=r"b\.json: a second report of stage before"):
        gathered(sources, NOW)


def test_a_run_that_was_killed_leaves_a_report_that_is_named(tmp_path: Path) -> None:
    night = gathered((written(tmp_path, "b.json", fakes.started()),), NOW)

    assert "the run has not finished, or was killed" in lacking(night)[0]
    assert state(night) == "broken"


def test_the_command_writes_the_page_and_says_where(project: Project) -> None:
    written(project.folder, "b.json", before())
    ran = project.call("report", "night", "b.json", "-o", "html=night.html")

    assert (ran.code, ran.out) == (0, "night.html\n")
    assert "no report of the checks after training was given" in (project.folder / "night.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.json", "-o", "html=n.html"), "nowhere.json: No such file or directory"),
        ((".", "-o", "html=n.html"), "not a run folder"),
        (("b.json", "-o", "pdf=n.pdf"), "no such report format"),
        (("b.json", "-o", "html=no/n.html"), "does not exist"),
    ],
)
def test_mistakes_are_one_line(project: Project, words: tuple[str, ...], said: str) -> None:
    written(project.folder, "b.json", before())
    ran = project.call("report", "night", *words)

    assert ran.code != 0
    assert said in ran.err
    assert "Traceback" not in ran.err
