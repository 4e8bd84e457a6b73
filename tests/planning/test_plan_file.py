import json
from pathlib import Path

import pytest

from ftcheck.cli.pages.plan_page import as_json
from ftcheck.errors import UsageError
from ftcheck.planning.plan_file import from_dict, read_plans
from ftcheck.planning.records import Unplanned
from tests.cli.project import Project
from tests.cli.test_plan import planned, policy
from tests.places import CHECKOUT


def test_a_plan_that_is_read_back_is_written_the_same(project: Project, samples: Path) -> None:
    more = "    hardware: {gpu: RTX 4090, price_per_hour: 0.4}\n    targets: {max_length: [256, 512]}\n"
    project.write("policy.yaml", policy(samples, more=more))
    assert planned(project).code == 0
    text = (project.folder / "r.json").read_text(encoding="utf-8")

    plans = read_plans(project.folder / "r.json")

    # places are told from the current folder, and the command ran in another one
    assert as_json(plans, "policy.yaml").replace(f"{CHECKOUT}/", "") == text.replace(f"{CHECKOUT}/", "")


def test_a_job_without_a_plan_stays_one() -> None:
    found = from_dict({"schema": "ftcheck.plan/1", "jobs": {"j": {"job": "j", "reason": "no rows"}}})

    assert found == [Unplanned("j", "no rows")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "ftcheck.plan/2", "jobs": {}}',
        '{"schema": "ftcheck.plan/1", "status": "started"}',
        '{"schema": "ftcheck.plan/1", "jobs": {"j": {"job": 3, "reason": "x"}}}',
        '{"schema": "ftcheck.plan/1", "jobs": {"j": {"job": "j"}}}',
    ],
)
def test_what_is_no_plan_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match=r"p\.json: not a plan .* ftcheck plan -o json="):
        read_plans(path)


def test_a_length_that_nobody_could_hold_is_refused(project: Project, samples: Path) -> None:
    project.write("policy.yaml", policy(samples))
    planned(project)
    data = json.loads((project.folder / "r.json").read_text(encoding="utf-8"))
    data["jobs"]["mapper"]["lengths"]["total"] = [[1 << 40, 1]]

    with pytest.raises(ValueError, match="out of range"):
        from_dict(data)
