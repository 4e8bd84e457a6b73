"""What the plan's page says: four answers, figures with their interval, what is unknown and why."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ftcheck.cli.pages.plan_html import Planned, fit, page, started
from ftcheck.planning.plan_file import read_plans
from ftcheck.planning.records import Figure, JobPlan, Unplanned
from tests.cli.project import Project
from tests.cli.test_plan import planned, policy

PLANNED = Planned(
    "night.yaml", "night-before", "2026-11-29T07:00:00+00:00", {"mapper": "ftcheck plan --write x"}
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> JobPlan:
    project = Project(tmp_path_factory.mktemp("plan"))
    more = "    hardware: {gpu: RTX 4090, price_per_hour: 0.4}\n    targets: {memory_gib: 16}\n"
    project.write("policy.yaml", policy(samples, more=more))
    assert planned(project).code == 0
    [found] = read_plans(project.folder / "r.json")
    assert isinstance(found, JobPlan)
    return found


def test_policy_date_and_version_stand_on_top(plan: JobPlan) -> None:
    head = page([plan], PLANNED).partition("<h2")[0]

    for needed in ("night-before", "night.yaml", "2026-11-29 07:00 UTC", "ftcheck 0."):
        assert needed in head


def test_the_four_questions_have_answers_and_figures_with_numbers(plan: JobPlan) -> None:
    text = page([plan], PLANNED)

    for question in ("How long?", "How full?", "Does it fit?", "When, and for how much?"):
        assert f"<h3>{question}</h3>" in text
    for trainer in ("TRL alone", "axolotl", "LLaMA-Factory", "lower bound of any packing"):
        assert f">{trainer}<" in text
    assert "RTX 4090 23.61 GiB" in text  # what the card has
    assert "allowed 16 GiB" in text  # what the target allows of it
    assert text.count('class="whisker"') >= 3  # memory's interval: a line and its two ends
    assert text.count('class="span"') == 2  # of time and of cost


def test_the_chosen_settings_are_marked_in_the_chart_and_in_the_table(plan: JobPlan) -> None:
    text = page([plan], PLANNED)

    assert text.count('class="point chosen"') == 1
    assert len(re.findall(r"✓</span> chosen<", text)) == 1
    assert text.count('class="point other"') == len(plan.options) - 1


def test_what_is_unknown_says_why_and_draws_nothing(plan: JobPlan) -> None:
    why = Figure(why="unknown: this machine has no GPU")
    text = page([replace(plan, memory=why, time=why, cost=why)], PLANNED)

    assert "unknown: this machine has no GPU" in text
    assert 'class="span"' not in text


@pytest.mark.parametrize(
    ("low", "high", "limit", "said"),
    [
        (7.0, 9.0, 16.0, "fits"),
        (14.0, 17.0, 16.0, "tight"),
        (17.0, 19.0, 16.0, "does not fit"),
        (7.0, 9.0, None, "fit unknown"),
    ],
)
def test_it_fits_only_with_its_whole_interval(
    plan: JobPlan, low: float, high: float, limit: float | None, said: str
) -> None:
    figure = Figure(low, (low + high) / 2, high, "GiB")

    assert fit(replace(plan, memory=figure, memory_limit=limit))[0] == said


def test_a_job_without_a_plan_is_on_the_page_with_its_reason() -> None:
    text = page([Unplanned("mapper", "no row is left to train on")], PLANNED)

    assert "no plan" in text
    assert "no row is left to train on" in text


def test_a_plan_that_was_killed_leaves_a_page_that_says_so() -> None:
    text = started("night<b>.yaml")

    assert 'class="verdict broken"' in text
    assert "night&lt;b&gt;.yaml" in text
