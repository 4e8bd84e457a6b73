"""The rule about a framework's own configuration."""

from dataclasses import replace
from pathlib import Path

import pytest
from ftcheck_rules.config.arguments import training_arguments
from ftcheck_rules.config.cases.imported_config import CASES, LONGER, RECORD
from ftcheck_rules.config.imported_config import imported_config

from ftcheck import Severity
from ftcheck.importers.records import MEMORY, NotMapped
from ftcheck.policy import draft
from ftcheck.records import Location
from ftcheck.testing import Case, job, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(imported_config, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def test_a_difference_names_both_keys_and_both_values() -> None:
    one = job(trainer={"use": "command"}, imported=replace(RECORD, differences=(LONGER,)))

    [found] = run(imported_config, job=one).findings

    assert found.message == (
        "training.max_length is 2048 in the policy, sequence_len is 4096 in qlora.yml:5:1: "
        "axolotl trains with its own file"
    )
    assert found.severity is Severity.ERROR
    assert str(found.at) == "policy.yaml:7:9"


def test_the_axolotl_example_of_the_issue_goes_red(tmp_path: Path) -> None:
    (tmp_path / "qlora.yml").write_text("base_model: m\nsequence_len: 4096\nsample_packing: false\n")
    (tmp_path / "p.yaml").write_text(
        "ftcheck: 1\njobs:\n  one:\n    from: {axolotl: qlora.yml}\n"
        "    training: {max_length: 2048, packing: true}\n"
        "    trainer: {use: command, argv: [axolotl, train, qlora.yml]}\n"
    )
    policy = draft(tmp_path / "p.yaml").policy
    assert policy is not None

    errors = [
        one for one in run(imported_config, job=policy.jobs["one"]).findings if one.severity is Severity.ERROR
    ]

    said = [one.message for one in errors]
    assert len(said) == 2
    assert "max_length is 2048" in said[0]
    assert "sequence_len is 4096" in said[0]
    assert "packing is true" in said[1]
    assert "sample_packing is false" in said[1]


def test_keys_of_one_reason_are_one_finding() -> None:
    keys = tuple(
        NotMapped(f"fsdp_config.{name}", Location("qlora.yml", 9, 3), True, "sharded", (MEMORY,))
        for name in "abcde"
    )

    [found] = run(imported_config, job=job(imported=replace(RECORD, not_mapped=keys))).findings

    assert found.message.startswith(
        "fsdp_config.a, fsdp_config.b, fsdp_config.c and 2 more keys are not mapped"
    )
    assert "change the memory" in found.message


def test_a_commands_file_that_nothing_compares_is_said(tmp_path: Path) -> None:
    (tmp_path / "qlora.yml").write_text("base_model: m\nsequence_len: 4096\n")
    trainer = {"use": "command", "argv": ("axolotl",), "files": (str(tmp_path / "qlora.yml"),)}

    [found] = run(training_arguments, job=job(trainer=trainer), lock=None).findings

    assert found.severity is Severity.INFO
    assert "configures axolotl" in found.message
    assert run(training_arguments, job=job(trainer=trainer, imported=RECORD), lock=None).findings == ()


def test_rows_that_the_file_does_not_name_are_the_policys(tmp_path: Path) -> None:
    (tmp_path / "qlora.yml").write_text("base_model: m\nsequence_len: 4096\n")
    text = "ftcheck: 1\njobs:\n  one:\n    from: {axolotl: qlora.yml}\n    data: {eval: e.jsonl}\n"
    (tmp_path / "p.yaml").write_text(f"{text}    trainer: {{use: command, argv: [axolotl]}}\n")
    policy = draft(tmp_path / "p.yaml").policy
    assert policy is not None

    found = run(imported_config, job=policy.jobs["one"]).findings

    assert [one.severity for one in found if "data.eval" in one.message] == [Severity.INFO]
