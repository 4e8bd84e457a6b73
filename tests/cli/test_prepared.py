"""A job that trains on a folder of prepared rows: read, checked, named in the report, tied to the gate."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ftcheck.report.wording import AS_SEEN
from tests import prepared_folders as folders
from tests.cli.project import Project, Ran
from tests.places import CHECKOUT
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
    [shown] = compared(place, rows, "--show-content")["findings"]
    first, *content = shown["message"].splitlines()
    assert first.startswith("60 of 60 rows begin with one BOS token more")
    start = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>"
    assert len(content) == 2
    assert content[1].startswith(AS_SEEN)
    assert content[0].startswith(f"ftcheck «{start}")
    assert f"folder «<|begin_of_text|>{start}" in content[0]


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


def policy(place: Project, *changes: tuple[str, str], text: str = POLICY) -> str:
    """A policy with some of its text replaced."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (place.folder / "other.yaml").write_text(text, encoding="utf-8")
    return "other.yaml"


PACKED = ("max_length: 512", "max_length: 512, packing: true")


@pytest.mark.parametrize("by", ["position_ids", "attention_mask"])
def test_packed_rows_are_checked_sequence_by_sequence(place: Project, fed: list[Fed], by: str) -> None:
    table = folders.packed(fed, 512, by=by)
    blocks = len(table["input_ids"])
    folders.save(place.folder / "ready", table)
    ran = run(place, policy(place, PACKED))
    assert ran.code == 0, ran.out
    assert ran.report["jobs"]["one"]["ids"] == run(place, "own.yaml").report["jobs"]["one"]["ids"]
    run(place, "other.yaml")
    found = ran.result("one::prepared-data")
    assert measured(found, "sequences") == COUNT
    assert measured(found, "packed_rows") == blocks
    assert measured(found, "padding") == blocks * 513 - sum(len(ids) for ids, _ in fed)
    assert measured(ran.result("one::trained-tokens"), "ends_in_stop") == 1
    assert measured(ran.result("one::packing-efficiency"), "blocks_planned") == blocks
    assert measured(ran.result("one::percentile-seq-len"), "max") == max(len(ids) for ids, _ in fed)
    assert measured(ran.result("one::schedule"), "steps_per_epoch") == -(-blocks // 2)


def test_packed_rows_that_no_column_marks_are_taken_apart_by_bos(place: Project, fed: list[Fed]) -> None:
    ids, labels = ([one for row in fed for one in row[side]] for side in (0, 1))
    blocks = [slice(n, n + 512) for n in range(0, len(ids), 512)]
    table = {"input_ids": [ids[one] for one in blocks], "labels": [labels[one] for one in blocks]}
    folders.save(place.folder / "ready", table)
    found = run(place, policy(place, PACKED)).result("one::prepared-data")
    assert said(found) == ["no column tells where a sequence begins in packed rows: BOS was taken for it"]
    assert COUNT <= measured(found, "sequences") < COUNT + len(blocks)


def test_packed_rows_without_packing_in_the_policy_are_told(place: Project, fed: list[Fed]) -> None:
    folders.save(place.folder / "ready", folders.packed(fed, 512))
    told = said(run(place).result("one::prepared-data"))
    assert told[0].startswith("the rows are packed: 60 sequences in ")
    assert told[0].endswith("told apart by position_ids; training.packing is false")


def test_shifted_labels_are_moved_back(place: Project, fed: list[Fed]) -> None:
    shifted = [(ids, [*labels[1:], -100]) for ids, labels in fed]
    folders.save(place.folder / "ready", folders.columns(shifted))
    ran = run(place)
    assert ran.code == 0, ran.out
    message = "the labels are stored one place to the left of their tokens, and were moved back"
    assert said(ran.result("one::prepared-data")) == [message]
    assert ran.report["jobs"]["one"]["ids"] == run(place, "own.yaml").report["jobs"]["one"]["ids"]


def test_evaluation_rows_of_a_dict_of_splits_are_checked_too(
    place: Project, fed: list[Fed], tmp_path: Path
) -> None:
    splits = {"train": folders.columns(fed[10:]), "validation": folders.columns(fed[:10])}
    folders.save_dict(place.folder / "ready", splits)
    ran = run(place, policy(place, ("output_dir: out", "output_dir: out, eval_strategy: epoch")))
    assert ran.code == 0, ran.out
    assert measured(ran.result("one::data-readable"), "eval_rows") == 10
    assert ran.report["jobs"]["one"]["eval_ids"].startswith("sha256-tree:")
    assert measured(ran.result("one::truncation"), "eval_rows_untrained") == 0

    shutil.rmtree(place.folder / "ready")
    folders.save(place.folder / "ready", folders.columns(fed))
    assert "eval_strategy is epoch, but the folder has no evaluation rows" in said(
        run(place, "other.yaml").result("one::prepared-data")
    )


def test_masks_of_a_trl_folder_count_as_trl_reads_them(place: Project, fed: list[Fed]) -> None:
    table = folders.columns(fed)
    masks = [[int(label != -100) for label in labels] for labels in table.pop("labels")]
    folders.save(place.folder / "ready", {**table, "completion_mask": masks})
    loss = ("assistant_only_loss: true", "completion_only_loss: true")
    ran = run(place, policy(place, loss))
    assert ran.code == 0, ran.out
    assert ran.report["jobs"]["one"]["ids_from"]["framework"] == "trl"
    assert ran.report["jobs"]["one"]["ids"] == run(place, "own.yaml").report["jobs"]["one"]["ids"]
    ignored = run(place, policy(place, (loss[0], "completion_only_loss: null")))
    assert ignored.code == 1
    assert said(ignored.result("one::prepared-data")) == [
        "the folder has completion_mask and no labels: TRL ignores it, and trains every token"
    ]


def test_parquet_files_and_the_layouts_of_axolotl_and_llama_factory_are_read(
    place: Project, fed: list[Fed]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = folders.columns(fed)
    digests = []
    (place.folder / "ready").mkdir()
    pq.write_table(pa.table(table), place.folder / "ready/train-0.parquet", row_group_size=7)
    digests.append(run(place).report["jobs"]["one"])
    shutil.rmtree(place.folder / "ready")

    unpacked: dict[str, list[Any]] = {
        "position_ids": [list(range(len(ids))) for ids, _ in fed],
        "length": [len(i) for i, _ in fed],
    }
    folders.save(place.folder / "ready" / folders.HASH, {**table, **unpacked}, shards=3)
    digests.append(run(place).report["jobs"]["one"])
    shutil.rmtree(place.folder / "ready")

    beside: dict[str, list[Any]] = {name: [None] * len(fed) for name in ("images", "videos", "audios")}
    folders.save_dict(place.folder / "ready", {"train": {**table, **beside}})
    digests.append(run(place).report["jobs"]["one"])
    assert [one["ids_from"]["framework"] for one in digests] == [None, "axolotl", "llama-factory"]
    assert len({one["ids"] for one in digests}) == 1
    assert all(one["ids"] for one in digests)


def test_a_folder_of_another_tokenizer_is_told(place: Project, fed: list[Fed], samples: Path) -> None:
    folders.save(place.folder / "ready", folders.columns(fed))
    shutil.rmtree(place.folder / "model")
    shutil.copytree(samples / "models/analyst-tiny", place.folder / "model")
    told = run(place).result("one::prepared-data")
    assert told["blocking"]
    assert "outside the tokenizer's vocabulary" in said(told)[0]

    near = [
        ([5 + i % 900 for i in ids], [i if i < 0 else 5 + i % 900 for i in labels]) for ids, labels in fed
    ]
    shutil.rmtree(place.folder / "ready")
    folders.save(place.folder / "ready", folders.columns(near))
    told = run(place).result("one::prepared-data")
    assert told["blocking"]
    assert said(told)[0].startswith("decoded and encoded again, ")
    assert "no row ends in a stop token: the rows were prepared with another tokenizer" in said(told)[0]


def truncated(folder: Path) -> None:
    file = folder / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[: -(1 << 10)])


def stateless(folder: Path) -> None:
    (folder / "state.json").unlink()


def shardless(folder: Path) -> None:
    (folder / "data-00000-of-00001.arrow").unlink()


def nothing(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (truncated, "data-00000-of-00001.arrow: ends before its last row: truncated, or still being written"),
        (stateless, "ready: half written: state.json, which is written last, is missing"),
        (shardless, "ready: half written: data-00000-of-00001.arrow, named by state.json, is missing"),
        (nothing, "ready: no such folder: prepare the rows first, or correct the path"),
    ],
)
def test_half_a_folder_is_one_clear_line_and_a_shut_gate(
    place: Project, fed: list[Fed], broken: Any, message: str
) -> None:
    folders.save(place.folder / "ready", folders.columns(fed))
    broken(place.folder / "ready")
    ran = run(place)
    assert ran.code == 3
    assert message in ran.result("one::data-readable")["findings"][0]["message"]
    assert place.call("gate", "r.json", "--policy", "ready.yaml").code == 5


def label_to_the_right(ids: list[int], labels: list[int]) -> Fed:
    return ids, [-100, *labels[:-1]]


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (label_to_the_right, "60 of 60 rows have labels most of which are other tokens"),
        (everything, "training.assistant_only_loss is true, but every token of 59 of 60 rows of the folder"),
    ],
)
def test_wrong_labels_are_told_without_data_to_compare_with(
    place: Project, fed: list[Fed], plant: Any, message: str
) -> None:
    first = [fed[0]] if plant is everything else [plant(*fed[0])]
    rows = [*first, *(plant(*one) for one in fed[1:])]
    folders.save(place.folder / "ready", folders.columns(rows))
    ran = run(place)
    [told] = said(ran.result("one::prepared-data"))
    assert told.startswith(message)
    assert (ran.code == 1) == (plant is label_to_the_right)


def test_tokens_that_attention_mask_hides_are_told(place: Project, fed: list[Fed]) -> None:
    table = folders.columns(fed)
    table["attention_mask"] = [[int(place >= 9) for place in range(len(ids))] for ids, _ in fed]
    folders.save(place.folder / "ready", table)
    told = said(run(place).result("one::prepared-data"))
    assert "60 of 60 rows have tokens with an attention_mask of 0 that are no padding" in told


@pytest.mark.parametrize(
    ("plant", "first", "message"),
    [
        (lambda *row: row, 0, "20 of 20 evaluation rows of the folder are training rows too"),
        (
            lambda ids, labels: ([i + 5_000 for i in ids], labels),
            20,
            "20 rows have ids outside the tokenizer's vocabulary of",
        ),
        (everything, 20, "training.assistant_only_loss is true, but every token of the evaluation rows is"),
    ],
)
def test_an_evaluation_split_is_held_against_the_tokenizer_the_policy_and_the_training_rows(
    place: Project, fed: list[Fed], plant: Any, first: int, message: str
) -> None:
    splits = {"train": fed[first:], "validation": [plant(*one) for one in fed[:20]]}
    folders.save_dict(place.folder / "ready", {name: folders.columns(one) for name, one in splits.items()})
    ran = run(place, policy(place, ("output_dir: out", "output_dir: out, eval_strategy: epoch")))
    assert ran.code == 1, ran.out
    assert any(one.startswith(message) for one in said(ran.result("one::prepared-data")))


def test_a_folder_of_two_kinds_of_files_is_ambiguous(place: Project, fed: list[Fed]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(folders.columns(fed))
    (place.folder / "ready").mkdir()
    pq.write_table(table, place.folder / "ready/train.parquet")
    with pa.ipc.new_stream(str(place.folder / "ready/train.arrow"), table.schema) as writer:
        writer.write_table(table)
    ran = run(place)
    assert ran.code == 3
    assert "has .arrow and Parquet files: name the folder or file that is trained" in ran.out


def test_a_column_that_stands_twice_is_one_line(place: Project, fed: list[Fed]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (place.folder / "ready").mkdir()
    ids = pa.array([ids for ids, _ in fed])
    twice = pa.Table.from_arrays([ids, ids], names=["input_ids", "input_ids"])
    pq.write_table(twice, place.folder / "ready/train.parquet")
    assert "has the column input_ids twice" in run(place).out


def test_labels_that_a_format_hides_from_the_trainer_are_told(place: Project, fed: list[Fed]) -> None:
    folder = folders.save(place.folder / "ready", folders.columns(fed))
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    shown = {**state, "_format_columns": ["input_ids", "attention_mask"]}
    (folder / "state.json").write_text(json.dumps(shown), encoding="utf-8")
    ran = run(place)
    assert ran.code == 3
    assert "shows a trainer input_ids, attention_mask alone, and hides the labels" in ran.out


def test_a_state_that_names_no_list_of_files_is_one_line(place: Project, fed: list[Fed]) -> None:
    folder = folders.save(place.folder / "ready", folders.columns(fed))
    (folder / "state.json").write_text('{"_data_files": 5}', encoding="utf-8")
    ran = run(place)
    assert ran.code == 3
    assert "ready/state.json: names no files of rows" in ran.out


def test_rows_that_are_not_prepared_are_told_to_be_named_elsewhere(place: Project) -> None:
    folders.save(place.folder / "ready", {"messages": [["a"], ["b"]]})
    ran = run(place)
    assert ran.code == 3
    assert "no column input_ids (its columns: messages)" in ran.out
    assert "name them in data.train" in ran.out


def test_rows_that_cannot_be_fed_are_named(place: Project, fed: list[Fed]) -> None:
    table = folders.columns(fed)
    table["labels"][7] = table["labels"][7][:-1]
    folders.save(place.folder / "ready", table)
    ran = run(place)
    assert ran.code == 1
    [finding] = ran.result("one::data-readable")["findings"]
    assert finding["line"] == 8
    assert finding["message"].startswith("labels has ")


def test_a_command_trains_on_the_folder_that_was_checked(place: Project, fed: list[Fed]) -> None:
    folders.save(place.folder / "ready", folders.columns(fed))
    changes = "import shutil; shutil.rmtree('ready/extra', ignore_errors=True)"
    argv = ("argv: [accelerate, launch, train.py]", f'argv: [{sys.executable}, -c, "{changes}"]')
    ran = run(place, policy(place, argv))
    trained = place.call("train", "other.yaml", "--offline", "--report", "r.json")
    assert trained.code == 0, trained.out + trained.err
    told = json.loads((place.folder / "out/run.json").read_text(encoding="utf-8"))
    assert told["ids"] == ran.report["jobs"]["one"]["ids"]
    assert told["status"] == "finished"


def test_our_own_trainer_trains_the_ids_of_the_folder(place: Project, fed: list[Fed]) -> None:
    folders.save(place.folder / "ready", folders.columns(fed))
    own = ("trainer: {use: command, argv: [accelerate, launch, train.py]}", "trainer: {use: qlora}")
    short = ("output_dir: out", "output_dir: out, max_steps: 1, use_cpu: true, bf16: false")
    ran = run(place, policy(place, own, short))
    trained = place.call("train", "other.yaml", "--offline", "--report", "r.json")
    assert trained.code == 0, trained.out + trained.err
    told = json.loads((place.folder / "out/run.json").read_text(encoding="utf-8"))
    assert told["ids"] == ran.report["jobs"]["one"]["ids"]


@pytest.mark.parametrize(
    "words", [("show",), ("show", "--row", "3"), ("plan",), ("fix", "--diff"), ("lock",), ("policy", "show")]
)
def test_every_command_speaks_of_a_folder_in_plain_words(
    place: Project, fed: list[Fed], words: tuple[str, ...]
) -> None:
    folders.save(place.folder / "ready", folders.columns(fed))
    first, *rest = words
    at = [*rest, "ready.yaml"] if first == "policy" else ["ready.yaml", *rest]
    ran = place.call(first, *at)
    assert ran.code in (0, 1, 2), ran.out + ran.err
    assert "raised" not in ran.out + ran.err
    assert "is not set" not in ran.err


def test_rules_on_texts_look_at_the_data_where_it_is_known(place: Project, fed: list[Fed]) -> None:
    lines = folders.lines(COUNT)
    (place.folder / "train.jsonl").write_text("\n".join([*lines, *lines[:30]]) + "\n", encoding="utf-8")
    folders.save(place.folder / "ready", folders.columns([*fed, *fed[:30]]))
    ran = run(place, policy(place, ("{prepared: ready}", "{prepared: ready, train: train.jsonl}")))
    assert ran.outcome("one::duplicates") == "failed"
    assert ran.result("one::duplicates")["findings"][0]["path"] == "train.jsonl"
    assert ran.outcome("one::answers") == "passed"
    assert ran.outcome("one::chat-template") == "skipped"
    assert ran.report["jobs"]["one"]["ids_from"]["source"] == "prepared"
    assert measured(ran.result("one::prepared-data"), "rows_equal") == COUNT + 30


LLAMA_FACTORY = """\
stage: sft
do_train: true
model_name_or_path: ./model
dataset: mine
dataset_dir: .
template: llama3
cutoff_len: 512
finetuning_type: full
tokenized_path: ready
output_dir: out
"""


def test_llama_factorys_tokenized_path_is_what_is_checked(place: Project, fed: list[Fed]) -> None:
    entry = {"mine": {"file_name": "train.jsonl", "formatting": "sharegpt"}}
    place.write("dataset_info.json", json.dumps(entry))
    place.write("sft.yaml", LLAMA_FACTORY)
    text = "ftcheck: 1\nextends: [recommended]\njobs:\n  one:\n    from: {llama-factory: sft.yaml}\n"
    text += "    trainer: {use: command, argv: [llamafactory-cli, train, sft.yaml]}\n"
    place.write("p.yaml", text)
    folders.save_dict(place.folder / "ready", {"train": folders.columns(fed)})
    ran = run(place, "p.yaml")
    assert ran.report["jobs"]["one"]["ids_from"]["framework"] == "llama-factory"
    assert ran.report["jobs"]["one"]["ids_from"]["path"] == "ready"
    assert "ids: read from ready (llama-factory), sha256-tree:" in ran.out

    place.write("sft.yaml", LLAMA_FACTORY.replace("tokenized_path: ready\n", ""))
    place.write("p.yaml", text.replace("    trainer", "    data: {prepared: ready}\n    trainer"))
    told = run(place, "p.yaml").result("one::prepared-data")
    assert told["blocking"]
    assert "sft.yaml names no tokenized_path that is there: LLaMA-Factory prepares the rows itself" in said(
        told
    )


def test_prepared_rows_under_data_train_are_told_where_they_belong(place: Project, fed: list[Fed]) -> None:
    folders.save(place.folder / "ready", folders.columns(fed))
    ran = run(place, policy(place, ("{prepared: ready}", "{train: ready}")))
    assert "ready holds prepared rows: name it in data.prepared" in ran.out
    place.write("ids.jsonl", json.dumps({"input_ids": fed[0][0], "labels": fed[0][1]}) + "\n")
    ran = run(place, policy(place, ("{prepared: ready}", "{train: ids.jsonl}")))
    assert "the rows are token ids already (input_ids), which data.train does not read" in ran.out


MADE = CHECKOUT / "tests/prepared_by"
SAME = ("axolotl", "axolotl-packing", "llama-factory", "llama-factory-neat", "llama-factory-packing")


@pytest.mark.parametrize("name", SAME)
def test_what_axolotl_and_llama_factory_prepared_themselves_is_what_trl_prepares(
    place: Project, name: str
) -> None:
    """`tests/prepared_by`: their own code on 20 rows of the sample."""
    (place.folder / "train.jsonl").write_text("\n".join(folders.lines(20)) + "\n", encoding="utf-8")
    shutil.copytree(MADE / name, place.folder / "ready")
    packs = name in ("llama-factory-neat", "llama-factory-packing")
    changes = [("{prepared: ready}", "{prepared: ready, train: train.jsonl}"), *([PACKED] if packs else [])]
    ran = run(place, policy(place, *changes))
    assert ran.code == 0, ran.out
    assert name.startswith(ran.report["jobs"]["one"]["ids_from"]["framework"])
    found = ran.result("one::prepared-data")
    held_out = 2 if name == "llama-factory-packing" else 0
    assert measured(found, "rows_equal") == 20 - held_out
    assert measured(found, "rows_different") == measured(found, "rows_missing") == 0
    message = "2 of 20 rows of data.train are in the evaluation split"
    assert (message in said(found)) == bool(held_out)
    if not packs:
        assert ran.report["jobs"]["one"]["ids"] == run(place, "own.yaml").report["jobs"]["one"]["ids"]


def test_what_their_settings_make_other_is_told(place: Project) -> None:
    (place.folder / "train.jsonl").write_text("\n".join(folders.lines(20)) + "\n", encoding="utf-8")
    both = policy(place, ("{prepared: ready}", "{prepared: ready, train: train.jsonl}"))
    shutil.copytree(MADE / "llama-factory-cut", place.folder / "ready")
    [cut] = said(run(place, both).result("one::prepared-data"))
    assert "of 20 rows lack tokens in the middle that ftcheck's preparation has" in cut

    shutil.rmtree(place.folder / "ready")
    shutil.copytree(MADE / "axolotl-users", place.folder / "ready")
    ran = run(place, both)
    dropped, *others = [one.partition(" (first")[0] for one in said(ran.result("one::prepared-data"))]
    assert dropped.startswith(
        "13 of 20 rows of data.train are not in the folder: each is longer than any row"
    )
    assert sorted(others) == [
        "7 of 7 rows leave a stop token out of the loss that ftcheck's preparation trains",
        "7 of 7 rows train tokens of the prompt, which ftcheck's preparation masks",
    ]
    assert ran.result("one::trained-tokens")["blocking"]


def test_a_folder_without_rows_is_told(place: Project) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (place.folder / "ready").mkdir()
    kind = pa.list_(pa.int32())
    nothing = pa.table({"input_ids": pa.array([], kind), "labels": pa.array([], kind)})
    pq.write_table(nothing, place.folder / "ready/train.parquet")
    ran = run(place)
    assert ran.code in (1, 3)
    assert "data.prepared contains no rows" in ran.out


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1.5, 2.0]], "the column input_ids is list<item: double>, not a list of integers"),
        ([[[1, 2], [3]]], "the column input_ids is list<item: list<item: int"),
        (["text"], "the column input_ids is string, not a list of integers"),
    ],
)
def test_columns_of_another_kind_are_told(place: Project, column: list[Any], message: str) -> None:
    folders.save(place.folder / "ready", {"input_ids": column})
    ran = run(place)
    assert ran.code == 3
    assert message in ran.result("one::data-readable")["findings"][0]["message"]


def test_a_file_of_rubbish_is_one_line(place: Project) -> None:
    (place.folder / "ready").mkdir()
    for name in ("train.parquet", "train.arrow"):
        (place.folder / "ready" / name).write_bytes(b"rubbish" * 100 + b"\xff\xff\xff\xff\x00\x00\x00\x00")
        ran = run(place)
        assert ran.code == 3
        [finding] = ran.result("one::data-readable")["findings"]
        assert f"ready/{name}: not a readable file of rows" in finding["message"]
        (place.folder / "ready" / name).unlink()


def test_ids_are_compared_where_trl_has_no_mask_for_the_template(place: Project, fed: list[Fed]) -> None:
    config = place.folder / "model/chat_template.jinja"
    text = config.read_text(encoding="utf-8")
    for mark in ("{% generation %}", "{% endgeneration %}"):
        assert mark in text
        text = text.replace(mark, "")
    config.write_text(text, encoding="utf-8")
    found = compared(place, [double_bos(*one) if n % 3 == 1 else one for n, one in enumerate(fed)])
    assert said(found)[0].startswith("20 of 60 rows begin with one BOS token more")
    assert said(found)[1] == "labels were not compared, the ids alone: TRL has no mask for this template"


def test_data_that_cannot_be_compared_with_is_told(place: Project, fed: list[Fed]) -> None:
    """It was a green check: the policy asks for a comparison, and there was none."""
    (place.folder / "model" / "chat_template.jinja").write_text(
        "{{ raise_exception('no') }}", encoding="utf-8"
    )
    place.write("ready.yaml", POLICY.replace("prepared: ready", "prepared: ready, train: train.jsonl"))
    folders.save(place.folder / "ready", folders.columns(fed))

    found = run(place).result("one::prepared-data")

    assert found["outcome"] == "failed"
    assert said(found)[0].startswith(
        "the rows of the folder were not compared with data.train: the chat template raised"
    )
