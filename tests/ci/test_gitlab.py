"""templates/gitlab-ci.yml: a component with inputs, its script run in bash as it stands."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.ci.github_runner import bare_environment
from tests.ci.kit import without_network
from tests.cli.project import Project, rule_text
from tests.fresh_environments import packages
from tests.places import CHECKOUT

TEMPLATE = (CHECKOUT / "templates" / "gitlab-ci.yml").read_text(encoding="utf-8")
WRONG = rule_text("wrong", "yield Finding('a row is wrong', at=Location('policy.yaml', 3))")


def job(**inputs: str) -> Mapping[str, Any]:
    """The job with its inputs put in, as GitLab does before it reads the rest."""
    spec, text = YAML(typ="safe").load_all(TEMPLATE)
    values = {name: one["default"] for name, one in spec["spec"]["inputs"].items()} | inputs

    def filled(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {filled(key): filled(value) for key, value in part.items()}
        if isinstance(part, list):
            return [filled(one) for one in part]
        return re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda found: values[found[1]], str(part))

    [found] = filled(text).values()
    assert isinstance(found, Mapping)
    return found


def ran(folder: Path, linked: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The job's script in one shell, with the job's variables."""
    made = job(package=str(CHECKOUT), **inputs)
    about = bare_environment(**without_network(linked), FTCHECK_CACHE=str(folder.parent / "cache"))
    about |= {"CI_PROJECT_DIR": str(folder), "PATH": f"{Path(sys.executable).parent}:{about['PATH']}"}
    about |= {
        name: value.replace("$CI_PROJECT_DIR", str(folder)) for name, value in made["variables"].items()
    }
    words = ["bash", "-eo", "pipefail", "-c", "\n".join(made["script"])]
    return subprocess.run(words, cwd=folder, env=about, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "project").mkdir()
    made = Project(tmp_path / "project")
    made.rules(WRONG)
    return made


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages(tmp_path_factory.mktemp("gitlab") / "packages")


def test_a_finding_makes_the_job_red_and_all_reports_are_there(project: Project, linked: Path) -> None:
    project.policy("wrong:")

    done = ran(project.folder, linked, policy="policy.yaml", args="--rules-dir rules")

    assert done.returncode == 1, done.stdout + done.stderr
    reports = project.folder / "ftcheck-reports"
    assert json.loads((reports / "report.json").read_text(encoding="utf-8"))["verdict"] == "failed"
    artifacts = job()["artifacts"]
    assert artifacts["when"] == "always"
    for path in artifacts["reports"].values():
        assert (project.folder / path).stat().st_size > 0
    assert (reports / "report.html").is_file()


def test_hostile_inputs_are_words_and_the_policy_is_found_by_its_name(project: Project, linked: Path) -> None:
    project.policy("fine:").rename(project.folder / "ftcheck.yaml")
    named = "--rules-dir rules -k $(touch${IFS}pwned);touch"

    assert ran(project.folder, linked, args="--rules-dir rules").returncode == 0
    assert ran(project.folder, linked, args=named).returncode != 0
    assert ran(project.folder, linked, policy="$(touch pwned)").returncode == 2
    assert ran(project.folder, linked, policy="--exit-zero").returncode == 2
    assert not list(project.folder.rglob("pwned"))


def test_the_cache_is_where_pip_keeps_its_packages() -> None:
    made = job()

    assert made["variables"]["PIP_CACHE_DIR"] == f"$CI_PROJECT_DIR/{made['cache']['paths'][0]}"
    assert "docker" not in shlex.join(made["script"])
