"""Pages of every kind, written by the commands themselves, and a browser to open them in."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ftcheck.cli.night import gathered
from ftcheck.cli.pages import monitor_html, night_html, plan_html
from ftcheck.planning.plan_file import read_plans
from ftcheck.planning.records import JobPlan, Unplanned
from ftcheck.report.html.report_page import page as report_page
from tests.browser import chromium
from tests.cli.project import Project
from tests.cli.test_monitor import run as planted_run
from tests.places import POLICIES
from tests.plugins.reporters import fakes

SHORT = ["--set", "jobs.analyst.training.max_length=64"]
"""The planted failure: rows of 78 to 93 tokens in a max_length of 64."""
GPU = ["--set", "jobs.mapper.hardware.gpu=RTX 4090", "--set", "jobs.mapper.hardware.price_per_hour=0.4"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = chromium.missing()
    for item in items:
        if reason is not None and item.get_closest_marker("browser") is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser() -> Iterator[chromium.Browser]:
    made = chromium.Browser()
    yield made
    made.close()


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The shipped sample policy with a planted failure, run and planned; two runs of its jobs."""
    project = Project(tmp_path_factory.mktemp("night"))
    shutil.copytree(POLICIES, project.folder / "policies", ignore=shutil.ignore_patterns("checkpoints"))
    policy = "policies/night_before.yaml"
    for kind, *more in (("run", "-q"), ("plan",)):
        name = "before" if kind == "run" else "plan"
        written = ("-o", f"json={name}.json", "-o", f"html={name}.html")
        ran = project.call(kind, policy, "--offline", *written, *SHORT, *GPU, *more)
        assert ran.code in (0, 1), ran.err
    for number, job in enumerate(("mapper", "analyst")):
        planted_run(project.folder / "runs" / job, 41 + 22 * number)
    return project


@pytest.fixture(scope="session")
def pages(night: Project) -> Mapping[str, Path]:
    """A page of each kind by its name."""
    folder = night.folder
    for words in (
        ("show", "policies/night_before.yaml", "--job", "analyst", "--offline", "-o", "html=row.html"),
        ("monitor", "runs", "--once", "--html", "monitor.html"),
        ("report", "night", "before.json", "plan.json", "runs", "-o", "html=night.html"),
    ):
        ran = night.call(*words)
        assert ran.code == 0, ran.err
    for name, report in (
        ("everything", fakes.red_night()),
        ("green", fakes.green_night()),
        ("started", fakes.started()),
        ("empty", fakes.empty()),
        ("nothing", replace(fakes.report(), results=())),
        ("hostile", fakes.nasty()),
    ):
        text = report_page(report)
        (folder / f"{name}.html").write_text(text, encoding="utf-8", errors="backslashreplace")
    hostile_pages(folder)
    return {path.stem: path for path in sorted(folder.glob("*.html"))}


def hostile_pages(folder: Path) -> None:
    """A plan and a run with texts in every name that try to be markup, or to turn the writing around."""
    text = f"{fakes.NASTY} <script>window.hit = 1</script> \"><img src=x onerror='window.hit = 1'>"
    [plan] = [one for one in read_plans(folder / "plan.json") if one.job == "mapper"]
    assert isinstance(plan, JobPlan)
    plans: list[JobPlan | Unplanned] = [
        replace(plan, job=text, model=text, card=text, notes=(text,), searched=text),
        Unplanned(text, text),
    ]
    planned = plan_html.Planned(text, text, "2026-11-29T07:00:00+00:00", {text: text})
    made = {"hostile-plan": plan_html.page(plans, planned)}
    run = planted_run(folder / "hostile", job=text, model=text, reason=text, remedy=text, status="failed")
    night = gathered([str(run), str(folder / "before.json")])
    made["hostile-night"] = night_html.page(replace(night, missing=[text]), "2026-11-29T07:00:00+00:00")
    shown = monitor_html.Runs(night.runs, (text,), (text,))
    made["hostile-run"] = monitor_html.page(shown, "2026-11-29T07:00:00+00:00")
    for name, page in made.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8", errors="backslashreplace")
