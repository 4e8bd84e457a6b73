"""action.yml, its steps run one after the other as they stand, by a runner that is ours."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.ci.github_api import Api, comment, serving
from tests.ci.github_runner import Job, Runner, bare_environment
from tests.ci.kit import without_network
from tests.cli.project import Project, rule_text
from tests.fresh_environments import packages
from tests.places import CHECKOUT, POLICIES

EXPECTED = YAML(typ="safe").load((CHECKOUT / "tests" / "ci" / "expected.yaml").read_text(encoding="utf-8"))
PUSH: Mapping[str, Any] = {}
PULL_REQUEST = {"pull_request": {"number": 12, "head": {"repo": {"fork": False}}}}
FORK = {"pull_request": {"number": 12, "head": {"repo": {"fork": True}}}}
CHECKS = {
    0: "fine:",
    1: "wrong:",
    2: "absent:",
    3: "breaks:",
    4: "fine:",
    137: "kills:",
}
KILLS = """
import psutil
for one in psutil.Process().parents()[:2]:
    if "run" in one.cmdline():
        one.kill()
        break
time.sleep(60)
"""
RULES = (
    rule_text("wrong", "yield Finding('a row is wrong', at=Location('policy.yaml', 3))"),
    rule_text("breaks", "raise ValueError('broken')"),
    rule_text("kills", KILLS),
)


@dataclass
class Workplace:
    """A runner, and the project in its workspace."""

    runner: Runner
    project: Project

    def run(self, **inputs: str) -> Job:
        """The job that this action is the step of."""
        named = {name.replace("_", "-"): value for name, value in inputs.items()}
        arguments = f"--rules-dir rules {named.pop('args', '')}".strip()
        return self.runner.run({"policy": "policy.yaml", "args": arguments, **named})


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages(tmp_path_factory.mktemp("action") / "packages")


@pytest.fixture(scope="module")
def installed(linked: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Job]:
    """The environment that the action's own step installed, and the job that did."""
    base = tmp_path_factory.mktemp("installed")
    place = workplace(base, linked)
    job = place.run(policy="absent.yaml")
    environment = place.runner.temp / "ftcheck-action" / "environment"
    assert job.steps["Install ftcheck"].code == 0, job.steps["Install ftcheck"].out
    return environment, job


def workplace(folder: Path, linked: Path, **more: str) -> Workplace:
    workspace, temp = folder / "workspace", folder / "temp"
    workspace.mkdir(parents=True)
    temp.mkdir()
    (folder / "event.json").write_text(json.dumps(PUSH), encoding="utf-8")
    about = bare_environment(
        **without_network(linked),
        FTCHECK_CACHE=str(folder / "cache"),
        GITHUB_EVENT_PATH=str(folder / "event.json"),
        GITHUB_API_URL="http://127.0.0.1:9",
        **more,
    )
    project = Project(workspace)
    project.rules(*RULES)
    return Workplace(Runner(CHECKOUT, workspace, temp, about), project)


@pytest.fixture
def place(installed: tuple[Path, Job], linked: Path, tmp_path: Path) -> Workplace:
    """A workplace that has ftcheck installed: the step that installs does nothing more."""
    made = workplace(tmp_path, linked)
    folder = made.runner.temp / "ftcheck-action"
    folder.mkdir()
    (folder / "environment").symlink_to(installed[0])
    made.runner.done_before = ("Install ftcheck",)
    policy(made)
    return made


def policy(place: Workplace, code: int = 0, name: str = "policy.yaml") -> None:
    """A policy whose run ends with an exit code."""
    written = place.project.policy(CHECKS[code])
    if name != "policy.yaml":
        target = written.with_name(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        written.rename(target)


def sample(place: Workplace) -> str:
    """The shipped policy with one of its jobs, whose gate can open."""
    shutil.copytree(
        POLICIES, place.runner.workspace / "policies", ignore=shutil.ignore_patterns("checkpoints")
    )
    file = place.runner.workspace / "policies" / "night_before.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    return "policies/night_before.yaml"


def about(place: Workplace, event: Mapping[str, Any], api: Api) -> None:
    """What happened, and where the API answers."""
    place.runner.event = event
    file = place.runner.temp.parent / "event.json"
    file.write_text(json.dumps(event), encoding="utf-8")
    place.runner.environment = {**place.runner.environment, "GITHUB_API_URL": api.url}


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(Api()) as served:
        yield served


def test_the_action_installs_itself_into_an_environment_of_its_own(installed: tuple[Path, Job]) -> None:
    environment, job = installed

    assert re.search(r"^ftcheck \d+\.\d+\.\d+", job.steps["Install ftcheck"].out, re.MULTILINE)
    assert list(environment.glob("lib/python*/site-packages/ftcheck/cli/run.py"))
    assert job.red, "the policy is not there"
    assert job.steps["Restore packages"].given["key"].startswith("ftcheck-")


@pytest.mark.parametrize("ending", EXPECTED["endings"], ids=lambda one: f"{one['ends']}{one.get('args', '')}")
def test_the_job_is_red_exactly_when_ftcheck_was(ending: Mapping[str, Any], place: Workplace) -> None:
    hidden = "args" in ending
    policy(place, 1 if hidden else ending["ends"])
    arguments = ending.get("args", "-k nothing-of-that-name" if ending["ends"] == 4 else "")
    named = sample(place) if ending["gate"] == "open" else "policy.yaml"

    job = place.run(policy=named, args=arguments)

    check = job.steps["Run the checks"]
    assert (check.code, job.red) == (ending["ends"], ending["red"]), check.out
    assert (job.outputs["verdict"], job.outputs["gate"]) == (ending["verdict"], ending["gate"])
    assert json.loads(Path(job.outputs["report"]).read_text(encoding="utf-8"))["schema"].startswith(
        "ftcheck.report/"
    )
    kept = job.steps["Keep the reports"]
    assert kept.outcome == "success", "the reports are kept whatever came of the run"
    assert (Path(kept.given["path"]) / "report.html").is_file()


def test_a_run_that_did_not_finish_sends_no_results_to_code_scanning(place: Workplace) -> None:
    policy(place, 3)
    assert place.run().steps["Upload the results to code scanning"].outcome == "skipped"
    policy(place, 1)
    uploaded = place.run().steps["Upload the results to code scanning"]
    assert uploaded.outcome == "success"
    assert uploaded.given["sarif_file"].endswith("results.sarif")
    place.runner.event = FORK
    assert place.run().steps["Upload the results to code scanning"].outcome == "skipped"


def test_findings_are_annotations_of_the_repositorys_files_and_a_summary(place: Workplace) -> None:
    policy(place, 1)
    shutil.copytree(place.runner.workspace, place.runner.workspace / "jobs, a", dirs_exist_ok=True)

    job = place.run()
    below = place.run(working_directory="jobs, a")

    assert "::error file=policy.yaml,line=3,title=wrong::a row is wrong" in job.steps["Run the checks"].out
    assert "::error file=jobs%2C a/policy.yaml,line=3," in below.steps["Run the checks"].out
    assert job.summary.startswith("## ")
    assert "a row is wrong" in job.summary
    assert len(job.summary.encode()) < EXPECTED["limits"]["summary"]


def test_what_ftcheck_prints_is_not_read_for_commands_of_the_runner(place: Workplace) -> None:
    out = place.run().steps["Run the checks"].out

    begin = re.search(r"^::stop-commands::([0-9a-f]{32})$", out, re.MULTILINE)
    assert begin
    end = out.index(f"\n::{begin[1]}::\n")
    assert begin.start() < out.index("1 passed") < end
    assert not re.search(r"^::", out[begin.end() : end], re.MULTILINE)


@pytest.mark.parametrize("name", EXPECTED["hostile"])
@pytest.mark.parametrize("given", ["policy", "working-directory", "args", "version", "extras", "sarif"])
def test_a_hostile_input_does_nothing(given: str, name: str, place: Workplace) -> None:
    job = place.runner.run({"policy": "policy.yaml", "args": "--rules-dir rules", given: name})

    # --exit-zero is an argument like any other, and `args` are the place for it
    assert job.red or (given, name) == ("args", "--exit-zero"), "it was taken for something else"
    assert not [*place.runner.workspace.rglob("pwned"), *place.runner.temp.rglob("pwned")]
    assert "the-token" not in str(job)
    said = "\n".join(step.out for step in job.steps.values())
    assert not re.search(r"^::set-output", outside(said), re.MULTILINE)
    assert job.outputs["verdict"] in ("", "incomplete") or not job.red


def outside(said: str) -> str:
    """What the runner reads for commands."""
    return re.sub(r"::stop-commands::(\w+)\n.*?\n::\1::", "", said, flags=re.DOTALL)


def test_a_hostile_policy_that_is_there_is_checked_by_its_name(place: Workplace) -> None:
    name = "$(touch pwned)\n::error::'\".yaml"
    policy(place, 1, name)

    job = place.run(policy=name)

    assert job.steps["Run the checks"].code == 1
    assert job.outputs["verdict"] == "failed"
    assert not list(place.runner.workspace.rglob("pwned"))
    assert re.fullmatch(r"ftcheck-[\w-]+-[0-9a-f]{12}", job.steps["Keep the reports"].given["name"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"version": "0.1.0; x"}, "input 'version': must be empty"),
        ({"extras": "train fast"}, "input 'extras': must be names with commas"),
        ({"comment": "yes"}, "input 'comment': must be true or false, not yes"),
        ({"working-directory": "absent"}, "input 'working-directory': there is no folder absent"),
        ({"args": "'unclosed"}, "input 'args': No closing quotation"),
    ],
)
def test_a_wrong_input_is_said_in_one_annotation(
    given: Mapping[str, str], said: str, place: Workplace
) -> None:
    job = place.runner.run({"policy": "policy.yaml", **given})

    [failed] = [step for step in job.steps.values() if step.conclusion == "failure"]
    assert (failed.code, job.red) == (2, True)
    assert f"::error title=ftcheck::{said}" in failed.out
    assert "Traceback" not in failed.out


def test_a_release_that_cannot_be_installed_is_red(linked: Path, tmp_path: Path) -> None:
    place = workplace(tmp_path, linked)

    job = place.run(version="99.0.0")

    assert (job.steps["Install ftcheck"].code, job.red) == (3, True)
    assert job.steps["Run the checks"].outcome == "skipped"
    assert job.outputs["verdict"] == ""


LISTED = {
    "other": lambda marker: comment(1, "LGTM", "a-person"),
    "own": lambda marker: comment(2, f"{marker}\nold"),
    "of-another-policy": lambda marker: comment(3, "<!-- ftcheck-action:000000000000 -->\nold"),
    "copied": lambda marker: comment(4, f"{marker}\nall is well", "a-person"),
}


@pytest.mark.parametrize("case", EXPECTED["comments"], ids=lambda one: one["name"])
def test_the_pull_request_has_one_comment(case: Mapping[str, Any], place: Workplace, api: Api) -> None:
    about(place, PULL_REQUEST, api)
    place.run(comment="true")
    [written] = api.bodies()
    marker = written.partition("\n")[0]
    assert re.fullmatch("<!-- ftcheck-action:[0-9a-f]{12} -->", marker)
    pages = [[LISTED[one](marker) for one in page] for page in case.get("pages", [[]])]
    filled = [page + [comment(5, "padding", "a-person")] * (100 - len(page)) for page in pages[:-1]]
    api.pages, api.status, api.asked = [*filled, pages[-1]], case.get("status"), []

    job = place.run(comment="true")

    assert api.tokens == {"Bearer the-token"}
    assert not job.red
    writes = [method for method, _ in api.asked if method != "GET"]
    assert writes == {"create": ["POST"], "update": ["PATCH"], "nothing": []}[case["then"]]
    if "says" in case:
        assert case["says"] in job.steps["Comment on the pull request"].out
        assert "Traceback" not in job.steps["Comment on the pull request"].out
    else:
        assert sum(body.startswith(marker) and "ftcheck test: passed" in body for body in api.bodies()) == 1
        assert (
            "https://github.example/owner/name/actions/runs/7" in api.bodies()[-1] or case["then"] == "update"
        )


def test_a_red_run_comments_too_and_a_push_does_not(place: Workplace, api: Api) -> None:
    about(place, PULL_REQUEST, api)
    policy(place, 1)

    assert place.run(comment="true").red
    assert "a row is wrong" in api.bodies()[0]

    about(place, PUSH, api)
    job = place.run(comment="true")
    assert "not about a pull request" in job.steps["Comment on the pull request"].out
    assert len(api.bodies()) == 1


def test_a_long_report_is_cut_at_a_section_to_what_github_takes(place: Workplace, api: Api) -> None:
    about(place, PULL_REQUEST, api)
    checks = "\n".join(f"long-{number}: {{rule: wrong}}" for number in range(900))
    place.project.policy(checks)

    place.run(comment="true")

    [body] = api.bodies()
    assert 10_000 < len(body) <= EXPECTED["limits"]["comment"]
    assert "The rest does not fit into a comment." in body
    assert "actions/runs/7" in body


def test_every_action_that_is_used_is_pinned_by_its_commit() -> None:
    files = [CHECKOUT / "action.yml", *(CHECKOUT / ".github" / "workflows").glob("*.yml")]
    used = [
        line for file in files for line in file.read_text(encoding="utf-8").splitlines() if "uses: " in line
    ]

    assert len(used) > 4
    assert [line for line in used if not re.search(r"uses: (\./|\S+@[0-9a-f]{40} # v\d)", line)] == []
