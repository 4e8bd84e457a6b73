"""A report's words on whose ids it has must follow from the job; each of these edits opened the gate."""

from typing import Any

import pytest

from ftcheck.gate.whose_ids import contradictions, trl_release
from ftcheck.report.record import IdsFrom, JobDigests
from ftcheck.testing import job
from tests.cli.project import Project
from tests.gate.kit import codes, edit_report

TRL = IdsFrom("trl", version=trl_release())
COMMAND = IdsFrom("unverified", framework="command")


@pytest.mark.parametrize(
    "said",
    [
        None,
        {"source": "trl", "version": ""},
        {"source": "trl", "version": "1.16", "digest": "null"},
        {"source": "prepared", "path": "elsewhere", "digest": "sha256:0"},
        {"source": "unverified", "framework": "another"},
    ],
)
def test_an_edited_word_on_the_ids_shuts_the_gate(project: Project, said: Any) -> None:
    assert codes(project) == []
    keys = dict.fromkeys(("version", "framework", "path", "digest"))
    whole = None if said is None else {**keys, **said}
    edit_report(project, lambda report: report["jobs"]["mapper"].__setitem__("ids_from", whole))
    assert codes(project) == ["inconsistent"]


@pytest.mark.parametrize(
    ("use", "said", "right"),
    [
        ("qlora", TRL, True),
        ("command", COMMAND, True),
        ("command", TRL, False),
        ("house-trainer", TRL, True),
        ("house-trainer", IdsFrom("unverified", framework="house-trainer"), True),
        ("qlora", COMMAND, False),
    ],
)
def test_what_a_trainer_makes_true(use: str, said: IdsFrom, right: bool) -> None:
    digests = JobDigests("sha256:1", "sha256:2", ids="sha256:3", ids_from=said)
    assert (list(contradictions(digests, job(trainer={"use": use}))) == []) is right


def test_the_folder_that_a_job_names_has_the_jobs_ids() -> None:
    made = job(data={"prepared": "folder"})
    for digest, right in (("sha256:3", True), ("sha256:4", False)):
        said = IdsFrom("prepared", path="folder", digest=digest, framework="axolotl")
        digests = JobDigests("sha256:1", "sha256:2", ids="sha256:3", ids_from=said)
        assert (list(contradictions(digests, made)) == []) is right
