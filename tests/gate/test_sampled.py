"""The gate on a report about a sample: shut with a word of its own, unless the policy names the job."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ftcheck.gate.stored import check_stored
from ftcheck.gate.ticket import Refusal, Ticket
from ftcheck.runner.load import load
from ftcheck.tables import load as table
from tests.cli.project import Project
from tests.gate.kit import SAMPLED_OF, codes, edit, edit_report, sample_project

POLICY = """\
ftcheck: 1
name: gate
jobs:
  mapper:
    model: {name: model}
    data:
      train: mapper.jsonl
      sample: {rows: 100, seed: 3}
    training: {max_length: 512, packing: true, assistant_only_loss: true, output_dir: out/mapper}
checks:
  percentile-seq-len: {}
  data-readable: {}
  truncation: {}
  duplicates: {}
gate: {max_age: 24h}
"""


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose report, in r.json, is about 100 of 160 rows."""
    return sample_project(tmp_path_factory.mktemp("sampled"), POLICY, "junit=r.xml", "html=r.html")


@pytest.fixture
def project(sampled: Project, tmp_path: Path) -> Project:
    shutil.copytree(sampled.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    return Project(tmp_path / "copy")


def report_of(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.folder / "r.json").read_text(encoding="utf-8"))
    return found


def decided(project: Project) -> Ticket | Refusal:
    policy = load(project.folder / "policy.yaml")
    return check_stored(project.folder / "r.json", policy.policy, policy.checks, "mapper")


def accept(project: Project, *, rows: str = "") -> None:
    edit(project, "policy.yaml", "max_age: 24h", f"max_age: 24h, accept_sample: [mapper]{rows}")


def test_a_sample_s_report_claims_nothing_of_all_rows(project: Project) -> None:
    report = report_of(project)
    jsonschema.validate(report, table("report.schema"))
    mapper = report["jobs"]["mapper"]

    assert mapper["ids"] is None
    assert mapper["sample"] == {"rows": 100, "of": SAMPLED_OF, "seed": 3, "ids": mapper["sample"]["ids"]}
    assert mapper["sample"]["ids"].startswith("sha256")
    assert report["inputs"]["mapper.train"]["rows"] == SAMPLED_OF
    assert report["gate"] == {"mapper": "sampled"}
    for result in report["results"]:
        assert all("estimate" in one for one in result["measurements"] if one["name"] != "engine")


def test_every_report_says_that_a_sample_was_checked(project: Project) -> None:
    said = "a sample was checked: mapper 100 of 160 rows (seed 3)"
    none = "0 of 100 sampled rows, at most 1.9 % of all at 95 %"
    for name in ("out.txt", "r.xml", "r.html"):
        text = (project.folder / name).read_text(encoding="utf-8")
        assert said in " ".join(text.split()), name
        assert none in " ".join(text.split()), name
    markdown = project.call("report", "convert", "r.json", "-o", "markdown").out
    assert said in markdown
    assert none in markdown


def test_the_gate_is_shut_in_one_clear_line(project: Project) -> None:
    ran = project.call("gate", "r.json", "--policy", "policy.yaml", "--job", "mapper")

    assert codes(project) == ["sampled"]
    assert ran.code == 5
    assert " ".join(ran.err.split()) == (
        "gate: refused for mapper (sampled) sampled only 100 of 160 rows were checked: remove"
        " jobs.mapper.data.sample and run the checks on all rows, or accept the sample by its job's name,"
        " gate.accept_sample: [mapper]"
    )


def test_a_policy_may_accept_it_by_the_job_s_name(project: Project) -> None:
    accept(project)
    ticket = decided(project)

    assert isinstance(ticket, Ticket)
    assert ticket.ids is None
    assert ticket.sample is not None
    assert (ticket.sample.rows, ticket.sample.of) == (100, SAMPLED_OF)
    opened = project.call("gate", "r.json", "--policy", "policy.yaml", "--job", "mapper")
    assert opened.code == 0
    assert (
        "on a sample: 100 of 160 rows were checked (seed 3); the other 60 are trained unchecked" in opened.out
    )
    assert ticket.said()["sample"]["ids"] == report_of(project)["jobs"]["mapper"]["sample"]["ids"]


def test_a_name_that_is_no_job_is_refused_with_its_place(project: Project) -> None:
    edit(project, "policy.yaml", "max_age: 24h", "max_age: 24h, accept_sample: [maper]")
    ran = project.call("policy", "check", "policy.yaml")

    assert ran.code == 2
    said = "policy.yaml:15:38: gate.accept_sample.0: unknown job 'maper'; did you mean 'mapper'?"
    assert said in ran.out + ran.err


def test_the_files_are_still_compared_whole(project: Project) -> None:
    accept(project)
    undrawn = next(n for n in range(SAMPLED_OF) if n not in _drawn())
    lines = (project.folder / "mapper.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    lines[undrawn] = lines[undrawn].replace("Map", "Mup", 1)
    (project.folder / "mapper.jsonl").write_text("".join(lines), encoding="utf-8")

    assert codes(project) == ["data-changed"]


def _drawn() -> set[int]:
    import numpy as np

    from ftcheck.sampling.draw import keys

    return set(np.argsort(keys(3, 0, SAMPLED_OF))[:100].tolist())


def test_outliers_of_all_rows_are_not_those_of_a_sample(project: Project) -> None:
    edit(project, "policy.yaml", "seed: 3}", "seed: 3}\n      outliers: {action: drop}")
    accept(project)
    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.code == 0
    assert codes(project) == ["sampled"]
    assert "needs the percentile of all rows" in str(decided(project))


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["jobs"]["mapper"].pop("sample"),
        lambda report: report["jobs"]["mapper"].update(sample=None, ids="sha256:" + "0" * 64),
        lambda report: report["jobs"]["mapper"]["sample"].update(rows=159),
        lambda report: report["jobs"]["mapper"]["sample"].update(seed=4),
        lambda report: report["jobs"]["mapper"]["sample"].update(of=100),
        lambda report: report["jobs"]["mapper"].update(ids="sha256:" + "0" * 64),
    ],
    ids=["removed", "as all rows", "more rows", "another seed", "all rows", "a digest over all"],
)
def test_an_edit_of_what_was_sampled_keeps_the_gate_shut(
    project: Project, change: Callable[[dict[str, Any]], None]
) -> None:
    accept(project)
    edit_report(project, change)

    assert "inconsistent" in codes(project)


def test_a_policy_without_the_sample_does_not_take_its_report(project: Project) -> None:
    edit(project, "policy.yaml", "      sample: {rows: 100, seed: 3}\n", "")

    assert {"policy-changed", "sampled", "inconsistent"} <= set(codes(project))


def test_data_with_no_more_rows_makes_an_ordinary_run(project: Project) -> None:
    edit(project, "policy.yaml", "rows: 100", f"rows: {SAMPLED_OF}")
    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.code == 0
    assert "sample" not in ran.out
    report = report_of(project)
    assert report["jobs"]["mapper"]["sample"] is None
    assert report["jobs"]["mapper"]["ids"] is not None
    assert codes(project) == []


def test_findings_name_the_row_of_the_whole_file(project: Project) -> None:
    """A broken line that is drawn is found at its own line; one that is not drawn, not at all."""
    drawn, undrawn = max(_drawn()), next(n for n in range(SAMPLED_OF) if n not in _drawn())
    lines = (project.folder / "mapper.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    lines[drawn], lines[undrawn] = "{broken\n", "{broken\n"
    (project.folder / "mapper.jsonl").write_text("".join(lines), encoding="utf-8")
    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    readable = next(one for one in report_of(project)["results"] if one["rule"] == "data-readable")
    assert ran.code == 1
    assert [(one["line"], one["row"]) for one in readable["findings"]] == [(drawn + 1, drawn + 1)]
    [broken] = [one for one in readable["measurements"] if one["name"] == "rows_broken"]
    assert broken["value"] == 2
    assert broken["estimate"]["sampled"] == 1
    assert broken["estimate"]["low"] == 1
    assert broken["estimate"]["high"] >= 2


def test_fix_export_and_show_say_what_a_sample_means_to_them(project: Project) -> None:
    fixed = project.call("fix", "policy.yaml", "--diff")
    stored = project.call("fix", "policy.yaml", "--diff", "--report", "r.json")
    exported = project.call("export", "ids", "policy.yaml", "out", "--to", "trl")
    number = min(_drawn()) + 1
    shown = project.call("show", "policy.yaml", "--row", str(number))
    other = project.call(
        "show", "policy.yaml", "--row", str(1 + next(n for n in range(SAMPLED_OF) if n not in _drawn()))
    )
    locked = project.call("lock", "policy.yaml")

    said = "job mapper: only 100 of 160 rows were checked, and values for all rows do not follow from them"
    assert (fixed.code, stored.code) == (2, 2)
    assert said in fixed.err
    assert said in stored.err
    assert exported.code == 2
    assert (
        "only 100 of 160 rows are drawn: ids are exported of all rows or of none; remove it" in exported.err
    )
    assert "policy.yaml:8:" in exported.err
    assert shown.code == 0
    assert f"mapper.jsonl:{number}" in shown.out
    assert other.code == 2
    assert "is not in the sample (100 of 160 rows)" in other.err
    assert locked.code == 0
    assert "no row of data.train, sampled or not, is in it" in locked.err


def test_a_signed_statement_is_no_pass_of_the_files(project: Project) -> None:
    from ftcheck.attest.statement import statement
    from ftcheck.report.record import from_dict

    made = statement("r.json", b"{}", from_dict(report_of(project)))
    named = {one["name"]: one for one in made["subject"]}

    assert made["predicate"]["result"] == "WARNED"
    assert named["mapper.train"]["annotations"]["sample"] == "100 of 160 rows"
    assert "mapper.ids" not in named
