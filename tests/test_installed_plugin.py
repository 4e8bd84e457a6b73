"""A third party's package, really installed: its rule works through its entry point, if it is named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftcheck.testing import rows, run
from tests.cli.project import Project

SOURCE = Path(__file__).resolve().parent / "sample_plugin"
JOBS = "  job: {model: {name: ./model}, data: {train: data.jsonl}}\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the sample plugin is installed into."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(SOURCE)], check=True, capture_output=True)
    return target


def test_a_named_plugin_brings_its_rule_with_its_version(fresh: Project, installed: Path) -> None:
    fresh.write("data.jsonl", '{"text": "a"}\n{"text": "b"}\n')
    fresh.policy("enough-rows: {params: {at_least: 3}}", more="plugins: [sample]\n", jobs=JOBS)

    ran = fresh.run(PYTHONPATH=str(installed))

    assert ran.code == 1, ran.out + ran.err
    result = ran.result("job::enough-rows")
    assert result["findings"][0]["message"] == "2 rows, 3 are asked for"
    assert result["findings"][0]["path"].endswith("data.jsonl")
    assert re.fullmatch(r"sample 1\.2\.3 \([0-9a-f]{12}\)", result["plugin"])  # its code is part of its name
    [listed] = [one for one in ran.report["plugins"] if one["name"] == "sample"]
    assert (listed["distribution"], listed["version"]) == ("ftcheck-sample", "1.2.3")
    assert listed["code"] in result["plugin"]


def test_an_installed_plugin_that_the_policy_does_not_name_is_not_loaded(
    fresh: Project, installed: Path
) -> None:
    fresh.policy("enough-rows: {}", jobs=JOBS)

    ran = fresh.run(PYTHONPATH=str(installed))

    assert ran.code == 2
    assert "unknown rule 'enough-rows'" in ran.err


def test_a_plugin_that_is_not_installed_is_an_error_that_names_it(project: Project) -> None:
    project.policy("fine: {}", more="plugins: [sample]\n")

    ran = project.run()

    assert ran.code == 3
    assert "plugin 'sample' is not installed" in ran.err


def test_the_readmes_rule_is_tested_as_the_readme_says() -> None:
    sys.path.insert(0, str(SOURCE))
    try:
        from ftcheck_sample import enough_rows
    finally:
        sys.path.remove(str(SOURCE))

    said = run(enough_rows, {"at_least": 3}, rows=rows(2))

    assert said.measured == {"rows": 2}
    [finding] = said.findings
    assert finding.message == "2 rows, 3 are asked for"
    assert run(enough_rows, {"at_least": 2}, rows=rows(2)).findings == ()
