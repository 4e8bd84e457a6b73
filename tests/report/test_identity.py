"""What a finding's fingerprint must survive, and what it must tell apart."""

from dataclasses import replace
from typing import Any

import pytest

from ftcheck.records import Check, Finding, Location, Severity, Stage
from ftcheck.report.identity import Namer, belongs, named

RECORD = "sha256:" + "d" * 64
CHECK = Check("mapper::answers", "answers", "answers", "mapper", Stage.BEFORE)


def at_row(row: int = 3, record: str = RECORD) -> Location:
    return Location("/data/train.jsonl", row, 1, row=row, record=record)


def name(message: str = "the answer is empty", at: Location | None = None, **changes: Any) -> str:
    return Namer(replace(CHECK, **changes)).name(Finding(message, at=at))


def test_a_fingerprint_is_a_hash_and_which_of_its_likes_it_is() -> None:
    base, _, occurrence = name(at=at_row()).partition(":")

    assert (len(base), set(base) <= set("0123456789abcdef"), occurrence) == (32, True, "1")


def test_rows_added_before_it_change_nothing() -> None:
    assert name(at=at_row(3)) == name(at=at_row(812))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("12 of 1,500 rows are cut", "13 of 1,501 rows are cut"),
        ("rows 3, 5 and 9 say the same", "rows 4, 6, 8 and 10 say the same"),
        ("0.8 % of the tokens", "12.25 % of the tokens"),
        ("/home/a/night/model has no config.json", "/mnt/ci/42/model has no config.json"),
        ("the digest was 3f2a9c01d4e5", "the digest was 99ab01c2d3e4"),
        ("the answer is  empty", "the answer is empty\n  {content of the row}"),
    ],
)
def test_numbers_folders_and_content_are_no_part_of_it(before: str, after: str) -> None:
    assert name(before) == name(after)


@pytest.mark.parametrize(
    "other",
    [
        {"message": "the answer repeats the question"},
        {"at": at_row(record="sha256:" + "e" * 64)},
        {"at": None},
        {"id": "mapper::answers-strict", "name": "answers-strict"},
        {"id": "analyst::answers", "job": "analyst"},
        {"rule": "answers-v2"},
    ],
    ids=["message", "record", "place", "name", "job", "rule"],
)
def test_another_kind_place_check_job_or_rule_is_another_finding(other: dict[str, Any]) -> None:
    assert name(**({"at": at_row()} | other)) != name(at=at_row())


def test_two_findings_that_are_alike_are_told_apart() -> None:
    namer = Namer(CHECK)
    alike = [namer.name(Finding("the answer is empty", at=at_row(row))) for row in (3, 4)]

    assert [one.partition(":")[2] for one in alike] == ["1", "2"]
    assert alike[0].partition(":")[0] == alike[1].partition(":")[0]


def test_two_findings_of_different_kinds_in_one_row_keep_theirs_when_one_goes() -> None:
    empty, repeats = Finding("the answer is empty", at=at_row()), Finding("it repeats itself", at=at_row())
    namer = Namer(CHECK)
    both = [namer.name(empty), namer.name(repeats)]

    assert Namer(CHECK).name(repeats) == both[1]


def test_a_place_in_a_file_is_named_from_the_policys_folder() -> None:
    at = Location("/work/night/ds.json", 4, 2)

    assert Namer(CHECK, "/work/night").name(Finding("a typo", at=at)) == Namer(CHECK, "/other").name(
        Finding("a typo", at=replace(at, path="/other/ds.json", line=9))
    )


def test_a_row_without_record_is_known_by_its_number() -> None:
    assert name(at=Location("train.arrow", row=3)) != name(at=Location("train.arrow", row=4))


def test_severity_does_not_matter() -> None:
    error = Finding("too long", Severity.ERROR, at_row())

    assert Namer(CHECK).name(error) == Namer(CHECK).name(replace(error, severity=Severity.WARNING))


def test_only_findings_without_a_fingerprint_get_one() -> None:
    kept, made = named(CHECK, (Finding("a", fingerprint="0" * 32 + ":1"), Finding("b")))

    assert kept.fingerprint == "0" * 32 + ":1"
    assert made.fingerprint == Namer(CHECK).name(Finding("b"))


def test_an_edited_message_does_not_belong_to_its_fingerprint() -> None:
    true = replace(Finding("3 rows are cut", at=at_row()), fingerprint=name("3 rows are cut", at_row()))

    assert belongs(CHECK, true)
    assert belongs(CHECK, replace(true, message="5 rows are cut"))
    assert not belongs(CHECK, replace(true, message="nothing to see"))
    assert not belongs(replace(CHECK, job="analyst", id="analyst::answers"), true)
