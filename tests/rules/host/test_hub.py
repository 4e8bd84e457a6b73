from typing import Any

import pytest
from ftcheck_rules.host.cases.hub import CASES
from ftcheck_rules.host.hub import hub_access, trackers

from ftcheck.records import Change, Severity
from ftcheck.testing import Case, Ran, environment, job, packages, repository, run

RULES = {rule.id: rule for rule in (hub_access, trackers)}
GIB = 1 << 30


def ran(here: dict[str, Any] | None = None, **found: Any) -> Ran:
    about = repository(**found)
    return run(
        hub_access,
        job=job("mapper", model={"name": about.name}),
        environment=environment(**(here or {})),
        repository=about,
    )


def reporting(to: Any, mode: Any = None, **versions: str | None) -> Ran:
    one = job("mapper", training={"report_to": to})
    return run(
        trackers, job=one, packages=packages("3.11.7", **versions), environment=environment(wandb=mode)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    got = run(RULES[case.rule], case.params, **case.inputs())

    assert got.result.outcome == ("failed" if case.fails else "passed")


def test_a_local_folder_needs_no_hub_and_one_that_is_not_there_is_an_error() -> None:
    there = ran(name="/models/base", local=True, found=True, size=None)
    gone = ran(name="/models/base", local=True, found=False, size=None)

    assert there.result.summary == "local folder"
    assert gone.findings[0].message == "no such folder: /models/base"


def test_a_whole_copy_in_the_cache_passes_offline_without_token_and_room() -> None:
    got = ran({"offline": True, "hub_token": False, "cache_free": 0}, cached=True, found=None, size=None)

    assert got.findings == ()
    assert got.result.outcome == "passed"


def test_offline_without_a_copy_is_an_error_at_the_name_with_a_name_that_is_there() -> None:
    [finding] = ran(
        {"offline": True}, name="meta-llama/Llama-3-8b", found=None, close="meta-llama/Llama-3-8B"
    ).findings

    assert finding.severity is Severity.ERROR
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.model.name"
    assert "did you mean 'meta-llama/Llama-3-8B'?" in finding.message


@pytest.mark.parametrize(
    ("here", "found", "words"),
    [
        ({}, {"found": False}, "the hub has no model owner/model"),
        ({}, {"found": False, "problem": "no revision 'v2'"}, "no revision 'v2'"),
        ({"hub_token": False}, {"gated": True}, "gated, and this machine has no token"),
        ({}, {"gated": True, "size": None}, "the hub rejected the token"),
        ({"cache_free": 16 * GIB}, {"size": 16 * GIB}, "needs 16.0 GiB, but the disk of"),
    ],
)
def test_what_keeps_a_model_from_being_had_is_an_error(
    here: dict[str, Any], found: dict[str, Any], words: str
) -> None:
    [finding] = ran(here, **found).findings

    assert finding.severity is Severity.ERROR
    assert words in finding.message
    assert finding.fix is not None


def test_a_gated_model_with_a_token_and_a_disk_that_just_fits_pass() -> None:
    assert ran(gated=True).findings == ()
    assert ran({"cache_free": 17 * GIB}, size=16 * GIB).findings == ()


def test_a_hub_that_was_not_asked_is_a_warning() -> None:
    [finding] = ran(found=None, size=None, problem="the hub did not answer: ConnectTimeout").findings

    assert finding.severity is Severity.WARNING
    assert "ConnectTimeout" in finding.message


@pytest.mark.parametrize("to", ["none", ()])
def test_nothing_reported_passes(to: Any) -> None:
    assert reporting(to).result.outcome == "passed"


def test_wandb_without_a_key_is_an_error_that_can_be_taken_out() -> None:
    [finding] = reporting(("wandb", "tensorboard"), wandb="0.22.0", tensorboard="2.20").findings

    assert finding.severity is Severity.ERROR
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.report_to"
    path = "jobs.mapper.training.report_to"
    assert finding.change == Change(path, ("wandb", "tensorboard"), ["tensorboard"])


@pytest.mark.parametrize("mode", ["key", "offline", "disabled"])
def test_wandb_that_asks_nothing_passes(mode: str) -> None:
    assert reporting("wandb", mode, wandb="0.22.0").findings == ()


def test_all_stands_for_what_is_installed() -> None:
    assert reporting("all").measured == {"trackers": "none"}
    assert reporting("all", tensorboard="2.20").findings == ()
    assert reporting("all", wandb="0.22.0").worst is Severity.ERROR


def test_a_tracker_that_nobody_knows_is_named_with_what_was_meant() -> None:
    [finding] = reporting("wandbb").findings

    assert finding.message == "transformers has no tracker 'wandbb'; did you mean 'wandb'?"


def test_tensorboardx_is_enough_for_tensorboard() -> None:
    assert reporting("tensorboard").worst is Severity.ERROR
    assert reporting("tensorboard", tensorboardx="2.6").findings == ()
