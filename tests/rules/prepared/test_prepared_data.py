from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.prepared.cases.prepared_data import BOS, CASES, TEXTS, compared, folder, made
from ftcheck_rules.prepared.prepared_data import prepared_data

from ftcheck import Severity
from ftcheck.testing import Case, Ran, inputs, job, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(prepared_data, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def check(**arguments: Any) -> Ran:
    return run(prepared_data, **arguments)


def test_without_a_folder_it_is_skipped() -> None:
    assert check(**compared(made(TEXTS))).skipped == "data.prepared is not set"


def test_without_rows_to_compare_with_it_says_so_and_looks_at_the_rest() -> None:
    alone = job(data={"prepared": "ready"})
    ran = check(**{**compared(folder()), "job": alone, "inputs": inputs(alone)})
    assert ran.result.summary == "3 rows (axolotl) · data.train is not set, so nothing to compare with"
    assert [one.value for one in ran.measurements if one.name == "read_back"] == [1]


def test_rows_that_cannot_be_prepared_here_are_not_compared() -> None:
    stated = job(data={"prepared": "ready", "train": "train.jsonl"})
    broken = inputs(stated, broken={"prepared_here": "train.jsonl: not there"})
    ran = check(**{**compared(folder()), "job": stated, "inputs": broken})
    [found] = ran.findings
    assert (found.severity, found.message) == (
        Severity.WARNING,
        "the rows of the folder were not compared with data.train: train.jsonl: not there",
    )
    assert ran.result.summary == "3 rows (axolotl) · not compared with data.train: train.jsonl: not there"


def test_labels_of_other_tokens_and_padding_in_the_loss_are_warnings() -> None:
    ran = check(**compared(folder(other=(1,), padded=(0, 2))))
    assert [(one.severity, one.message, one.at.line if one.at else 0) for one in ran.findings] == [
        (Severity.WARNING, "1 of 3 rows has a label that is another token than the one in its place", 2),
        (Severity.WARNING, "2 of 3 rows have padding in the loss", 1),
    ]


def test_rows_longer_than_max_length_are_an_error_where_nothing_cuts_them() -> None:
    ran = check(**compared(folder(), max_length=49))
    [finding] = [one for one in ran.findings if one.severity is Severity.ERROR]
    assert finding.message == (
        "2 of 3 rows are longer than training.max_length 49, up to 55 tokens: axolotl does not cut prepared"
        " rows"
    )
    assert not [
        one
        for one in check(**compared(folder(framework="trl"), max_length=49)).findings
        if one.at and "longer" in one.message
    ]


def test_the_data_that_a_framework_does_not_look_at_is_named() -> None:
    ran = check(
        **compared(folder([*TEXTS[:2], "yesterday's row, about something else"], framework="llama-factory"))
    )
    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.message == (
        "1 row of the folder is none of data.train, and 1 of 3 rows of data.train is not in the folder"
    )
    assert finding.why == (
        "The folder was prepared from other data, and is trained as it is. LLaMA-Factory ignores data and"
        " settings once tokenized_path exists."
    )


def test_rows_of_several_sources_are_a_warning() -> None:
    [finding] = check(
        **compared(folder([*TEXTS, "a row of another file, which data.train does not name"]))
    ).findings
    assert finding.severity is Severity.WARNING
    assert finding.message == "1 of 4 rows of the folder is none of data.train"


def test_a_long_row_that_was_dropped_is_said_without_blame() -> None:
    long = "x and y and z " * 9
    given = compared(folder(), here=made([*TEXTS, long]), max_length=100)
    [finding] = check(**given).findings
    assert finding.severity is Severity.INFO
    assert finding.message == (
        "1 of 4 rows of data.train is longer than max_length 100 and not in the folder; TRL would cut it"
    )


def test_outliers_do_not_reach_prepared_rows() -> None:
    given = compared(folder())
    stated = job(data={"prepared": "ready", "train": "t.jsonl", "outliers": {"action": "drop"}})
    [finding] = check(**{**given, "job": stated}).findings
    assert finding.message == "data.outliers has no effect on rows that are read prepared"


def test_what_is_other_is_shown_only_as_content() -> None:
    [finding] = check(**compared(folder(before=(BOS, BOS)))).findings
    assert finding.message == (
        "3 of 3 rows begin with one BOS token more than in ftcheck's preparation (first at token 1)"
    )
    assert finding.content is not None
    assert finding.content.startswith("ftcheck «<|system|>the fir")
    assert "folder «<|system|><|system|>the fi" in finding.content


def test_evaluation_without_evaluation_rows() -> None:
    stated = job(data={"prepared": "ready"}, training={"eval_strategy": "epoch"})
    given = {**compared(folder()), "job": stated, "inputs": inputs(stated, prepared_eval=None)}
    assert [one.message for one in check(**given).findings] == [
        "eval_strategy is epoch, but the folder has no evaluation rows"
    ]


def test_packed_rows_told_apart_after_eos_are_said() -> None:
    import numpy as np

    given = compared(folder(apart="EOS", blocks=np.array([200])), packing=True)
    [finding] = check(**given).findings
    assert finding.severity is Severity.INFO
    assert finding.message == "no column tells where a sequence begins in packed rows: EOS was taken for it"


def test_a_shared_change_is_the_templates_and_a_single_one_is_text() -> None:
    other = [f"user: {text}" for text in TEXTS]
    [finding] = check(**compared(folder(other))).findings
    assert finding.message.startswith("3 of 3 rows were rendered with another template")
    [finding] = check(**compared(folder([*TEXTS[:2], TEXTS[2].replace("bread", "butter")]))).findings
    assert finding.message.startswith("1 of 3 rows has another text than in ftcheck's preparation")
    assert replace(finding, content=None) != finding


def test_data_that_is_newer_than_the_folder_and_cannot_be_compared(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}", encoding="utf-8")
    stated = job(data={"prepared": "ready", "train": str(tmp_path / "train.jsonl")})
    broken = inputs(stated, broken={"prepared_here": "no template"})
    given = {**compared(folder(written=1.0)), "job": stated, "inputs": broken}
    [finding] = check(**given).findings
    assert finding.severity is Severity.WARNING
    assert (
        finding.message
        == "data.train was changed after the folder was written, and cannot be compared with it"
    )
    assert finding.why == "Axolotl names the folder by its settings, not by the content of the data."
    [finding] = check(**{**given, "prepared": folder(written=4e9)}).findings
    assert finding.message == "the rows of the folder were not compared with data.train: no template"


def test_a_stale_folder_says_that_the_data_is_newer(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}", encoding="utf-8")
    stated = job(data={"prepared": "ready", "train": str(tmp_path / "train.jsonl")})
    other = folder([*TEXTS[:2], "yesterday's row, about something else"], written=1.0)
    given = {**compared(other), "job": stated, "inputs": inputs(stated, prepared_here=made(TEXTS))}
    assert (
        check(**given).findings[0].message.endswith("; data.train was changed after the folder was written")
    )


def test_labels_are_not_compared_where_the_policy_asks_for_no_mask() -> None:
    given = compared(folder(), here=made(TEXTS, trained=200))
    [finding] = check(**given).findings
    assert finding.severity is Severity.INFO
    assert finding.message == (
        "labels were not compared, the ids alone: training.assistant_only_loss is not set"
    )
    given = compared(folder(), here=made(TEXTS, trained=200), assistant_only_loss=True)
    [finding] = check(**given).findings
    assert finding.message.endswith("the ids alone: TRL has no mask for this template")
