"""A job that trains on a folder of prepared rows: read, checked, named in the report, tied to the gate."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import prepared_folders as folders
from tests.cli.project import Project, Ran
from tests.plugins.preparation.trl_side import Fed

pytest.importorskip("trl")

COUNT = 60
POLICY = """\
ftcheck: 1
extends: [recommended]
jobs:
  one:
    model: {name: ./model}
    data: {prepared: ready}
    training: {max_length: 512, assistant_only_loss: true, per_device_train_batch_size: 2, output_dir: out}
    trainer: {use: command, argv: [accelerate, launch, train.py]}
"""
OWN = """\
ftcheck: 1
extends: [recommended]
jobs:
  one:
    model: {name: ./model}
    data: {train: train.jsonl}
    training: {max_length: 512, assistant_only_loss: true, per_device_train_batch_size: 2, output_dir: out}
"""


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> list[Fed]:
    """What TRL makes of the rows."""
    made = tmp_path_factory.mktemp("trl")
    return folders.trl(folders.rows(COUNT), made, max_length=512, assistant_only_loss=True)


@pytest.fixture
def place(tmp_path: Path) -> Project:
    """A model and rows; the policies `ready.yaml` (prepared) and `own.yaml` (prepared by ftcheck)."""
    shutil.copytree(folders.MODEL, tmp_path / "model")
    (tmp_path / "train.jsonl").write_text("\n".join(folders.lines(COUNT)) + "\n", encoding="utf-8")
    (tmp_path / "ready.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    return Project(tmp_path)


def run(place: Project, policy: str = "ready.yaml", *more: str) -> Ran:
    """`ftcheck run`, with its report in r.json."""
    return place.call("run", policy, "--offline", "-o", "json=r.json", *more)


def outcomes(ran: Ran) -> dict[str, list[str]]:
    """The checks by their outcome."""
    found: dict[str, list[str]] = {}
    for one in ran.report["results"]:
        found.setdefault(one["outcome"], []).append(one["id"])
    return found


def test_the_recommended_checks_on_a_folder_equal_to_trls_are_green(place: Project, fed: list[Fed]) -> None:
    folders.save(place.folder / "ready", folders.columns(fed))
    ran = run(place)
    found = outcomes(ran)
    assert ran.code == 0, ran.out
    assert "errored" not in found
    assert "failed" not in found
    for one in ran.report["results"]:
        assert one["outcome"] != "passed" or one["measurements"], one["id"]
    textless = {one["id"]: one["reason"] for one in ran.report["results"] if one["outcome"] == "skipped"}
    reason = "rows are read prepared from ready: their text is not known"
    for name in ("duplicates", "answers", "data-schema", "special-tokens-in-text", "tool-calls"):
        assert textless[f"one::{name}"] == reason
    for name in ("data-readable", "trained-tokens", "truncation", "percentile-seq-len", "special-tokens"):
        assert f"one::{name}" in found["passed"]

    digest = ran.report["jobs"]["one"]["ids"]
    source: dict[str, Any] = ran.report["jobs"]["one"]["ids_from"]
    assert source["source"] == "prepared"
    assert source["path"] == "ready"
    assert f"ids: read from ready, {digest[:15]}" in ran.out
    assert run(place, "own.yaml").report["jobs"]["one"]["ids"] == digest


def test_a_changed_byte_in_the_folder_shuts_the_gate(place: Project, fed: list[Fed]) -> None:
    folder = folders.save(place.folder / "ready", folders.columns(fed))
    assert run(place).code == 0
    assert place.call("gate", "r.json", "--policy", "ready.yaml").code == 0
    (folder / "cache-0123.arrow").write_bytes(b"what a map of datasets leaves")
    assert place.call("gate", "r.json", "--policy", "ready.yaml").code == 0

    changed = [(ids, [-100, *labels[1:]]) for ids, labels in fed]
    changed[3] = (fed[3][0], [-100] * len(fed[3][0]))
    shutil.rmtree(folder)
    folders.save(folder, folders.columns(changed))

    shut = place.call("gate", "r.json", "--policy", "ready.yaml")
    assert shut.code == 5
    assert "data-changed" in shut.out + shut.err
    assert "ready was sha256:" in shut.out + shut.err


BESIDE = POLICY.replace("{prepared: ready}", "{prepared: ready, train: train.jsonl}")
HEADER_ENDS = 4
"""The token `<|end_header_id|>` of the sample's tokenizer: two line breaks follow it."""


def compared(place: Project, rows: list[Fed], *more: str) -> dict[str, Any]:
    """What `prepared-data` says of a folder with these rows, beside the rows of train.jsonl."""
    shutil.rmtree(place.folder / "ready", ignore_errors=True)
    folders.save(place.folder / "ready", folders.columns(rows))
    (place.folder / "both.yaml").write_text(BESIDE, encoding="utf-8")
    return run(place, "both.yaml", *more).result("one::prepared-data")


def said(result: dict[str, Any]) -> list[str]:
    return [one["message"].splitlines()[0] for one in result["findings"]]


def measured(result: dict[str, Any], name: str) -> Any:
    return next(one["value"] for one in result["measurements"] if one["name"] == name)


def test_the_same_rows_are_found_equal(place: Project, fed: list[Fed]) -> None:
    found = compared(place, fed)
    assert found["outcome"] == "passed"
    assert said(found) == []
    assert (measured(found, "rows_compared"), measured(found, "rows_equal")) == (COUNT, COUNT)


def answer_starts(labels: list[int]) -> int:
    return next(n for n, label in enumerate(labels) if label != -100)


def double_bos(ids: list[int], labels: list[int]) -> Fed:
    return [ids[0], *ids], [-100, *labels]


def no_bos(ids: list[int], labels: list[int]) -> Fed:
    return ids[1:], labels[1:]


def no_eos(ids: list[int], labels: list[int]) -> Fed:
    return ids[:-1], labels[:-1]


def more_eos(ids: list[int], labels: list[int]) -> Fed:
    return [*ids, ids[-1]], [*labels, ids[-1]]


def untrained_eos(ids: list[int], labels: list[int]) -> Fed:
    return ids, [*labels[:-1], -100]


def header(ids: list[int], labels: list[int]) -> Fed:
    start = answer_starts(labels)
    return ids, [*labels[: start - 3], *ids[start - 3 : start], *labels[start:]]


def everything(ids: list[int], labels: list[int]) -> Fed:
    return ids, list(ids)


def cut(ids: list[int], labels: list[int]) -> Fed:
    return ids[:-6], labels[:-6]


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (double_bos, "20 of 60 rows begin with one BOS token more than in ftcheck's preparation"),
        (no_bos, "20 of 60 rows lack the BOS token that ftcheck's preparation begins them with"),
        (no_eos, "20 of 60 rows lack the stop token that ends them in ftcheck's preparation"),
        (more_eos, "20 of 60 rows end with one stop token more than in ftcheck's preparation"),
        (untrained_eos, "20 of 60 rows leave a stop token out of the loss that ftcheck's preparation trains"),
        (header, "20 of 60 rows train tokens of the header before an answer"),
        (everything, "20 of 60 rows train every token, where ftcheck's preparation trains answers alone"),
        (cut, "20 of 60 rows are cut"),
    ],
)
def test_each_kind_of_difference_is_told_by_name(
    place: Project, fed: list[Fed], plant: Any, message: str
) -> None:
    found = compared(place, [plant(*one) if n % 3 == 1 else one for n, one in enumerate(fed)])
    assert any(one.startswith(message) for one in said(found)), said(found)
    assert len(said(found)) == 1, said(found)
    [finding] = found["findings"]
    assert finding["path"].endswith("ready/data-00000-of-00001.arrow")
    assert finding["line"] == 2
    assert measured(found, "rows_different") == 20


def test_both_sides_are_shown_only_where_content_is_asked_for(place: Project, fed: list[Fed]) -> None:
    rows = [double_bos(*one) for one in fed]
    assert "begin_of_text" not in str(compared(place, rows)["findings"])
    assert "<|begin_of_text|><|begin_of_text|>" in str(compared(place, rows, "--show-content")["findings"])


def test_rows_of_other_data_are_a_stale_folder(place: Project, fed: list[Fed], tmp_path: Path) -> None:
    other = folders.trl(folders.rows(20, COUNT), tmp_path / "t", max_length=512, assistant_only_loss=True)
    found = compared(place, [*fed[20:], *other])
    assert found["outcome"] == "failed"
    assert said(found)[0].startswith(
        "20 rows of the folder are none of data.train, and 20 of 60 rows of data.train are not in the folder"
    )


def test_dropped_and_shuffled_rows_are_no_other_rows(place: Project, fed: list[Fed]) -> None:
    found = compared(place, list(reversed(fed[10:])))
    assert sorted(one["severity"] for one in found["findings"]) == ["info", "warning"]
    told = " ".join(said(found))
    assert "10 of 60 rows of data.train are not in the folder" in told
    assert "the rows are in another order" in told


def one_newline(ids: list[int], labels: list[int]) -> Fed:
    """As by a template that writes one line break after a header, not two."""
    left = [n for n in range(len(ids)) if n < 2 or ids[n] != ids[n - 1] or ids[n - 2] != HEADER_ENDS]
    return [ids[n] for n in left], [labels[n] for n in left]


def test_another_template_is_told_once(place: Project, fed: list[Fed]) -> None:
    found = compared(place, [one_newline(*one) for one in fed])
    assert said(found)[0].startswith("60 of 60 rows were rendered with another template")
    assert len(said(found)) == 1, said(found)
