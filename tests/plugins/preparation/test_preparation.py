"""What preparation makes of rows beside TRL's own work: outliers, row errors, columns, cutting, reopening."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation

from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared, Rows, Sample
from ftcheck.settings import Data, Job, Model, Outliers, Training

LOADERS = {
    one.name: one
    for one in (
        tokenizer.tokenizer,
        preparation.prepared,
        preparation.prepared_eval,
        preparation.rows,
        preparation.sample,
    )
}


def inputs(
    samples: Path, folder: Path, rows: Sequence[Any], outliers: Outliers | None = None, **training: Any
) -> Inputs:
    data = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    job = Job(
        name="job",
        model=Model(name=str(samples / "models" / "mapper-tiny")),
        data=Data(train=str(data), outliers=outliers),
        training=Training(**training),
    )
    return Inputs(LOADERS, {"run": Run(folder=folder / "work")}, job)


def prepare(samples: Path, folder: Path, rows: Sequence[Any], **settings: Any) -> Prepared:
    prepared: Prepared = inputs(samples, folder, rows, **settings).get("prepared")
    return prepared


def texts(*lengths: int) -> list[dict[str, str]]:
    return [{"text": " a" * length} for length in lengths]


def chat(answer: str | None = "fine") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "how?"}, {"role": "assistant", "content": answer}]}


def test_dropped_outliers_are_not_fed(samples: Path, tmp_path: Path) -> None:
    outliers = Outliers(above_percentile=75, action="drop")

    prepared = prepare(samples, tmp_path, texts(5, 6, 7, 80), outliers=outliers, max_length=100)

    assert prepared.outlier.tolist() == [False, False, False, True]
    assert prepared.used.tolist() == [True, True, True, False]
    assert len(prepared.sequences) == 3


def test_truncated_outliers_are_cut_to_the_percentile(samples: Path, tmp_path: Path) -> None:
    outliers = Outliers(above_percentile=75, action="truncate")

    prepared = prepare(samples, tmp_path, texts(5, 6, 7, 80), outliers=outliers, max_length=100)

    assert prepared.lengths().max() == prepared.length[2]
    assert prepared.outlier.tolist() == [False, False, False, True]


def test_chunked_outliers_become_several_sequences_with_every_token(samples: Path, tmp_path: Path) -> None:
    outliers = Outliers(above_percentile=75, action="chunk")

    prepared = prepare(samples, tmp_path, texts(5, 6, 7, 80), outliers=outliers, max_length=100)

    pieces = prepared.sequences[prepared.sequences[:, 0] == 3]
    assert len(pieces) > 5
    assert prepared.kept[3] == prepared.length[3]
    assert prepared.lengths().sum() == prepared.length.sum()


def test_conversations_cannot_be_chunked(samples: Path, tmp_path: Path) -> None:
    from ftcheck.errors import InputError

    with pytest.raises(InputError, match="'chunk' needs plain text; these rows are 'messages'"):
        prepare(samples, tmp_path, [chat()], outliers=Outliers(action="chunk"))


def test_kept_outliers_change_nothing(samples: Path, tmp_path: Path) -> None:
    plain = prepare(samples, tmp_path, texts(5, 80), max_length=100)
    (tmp_path / "two").mkdir()

    kept = prepare(samples, tmp_path / "two", texts(5, 80), outliers=Outliers(), max_length=100)

    assert kept.digest == plain.digest


def test_rows_in_trouble_keep_their_place_and_take_the_digest_away(samples: Path, tmp_path: Path) -> None:
    rows = [chat(), '{"messages": ', {"messages": []}, {"text": "x"}, chat()]

    prepared = prepare(samples, tmp_path, rows, max_length=64)

    assert {row: trouble.code for row, trouble in prepared.row_errors.items()} == {
        1: "json",
        2: "schema",
        3: "schema",
    }
    assert prepared.at(3).line == 4
    assert prepared.digest is None
    assert len(prepared.sequences) == 2


def test_a_template_that_raises_puts_its_row_in_trouble(samples: Path, tmp_path: Path) -> None:
    odd = {"messages": [{"role": "user", "content": "x"}, {"role": "wizard", "content": "y"}]}

    prepared = prepare(samples, tmp_path, [chat(), odd], max_length=64)

    assert prepared.row_errors[1].code == "template"
    assert "unknown role" in prepared.row_errors[1].message
    assert prepared.rows.remarks["role"] == (1,)


def test_remarks_name_rows_that_a_trainer_takes_without_a_word(samples: Path, tmp_path: Path) -> None:
    nobody = {"messages": [{"role": "user", "content": "anybody?"}]}

    rows: Rows = inputs(samples, tmp_path, [chat(), chat("  "), nobody]).get("rows")

    assert rows.remarks == {"empty-answer": (1,), "no-answer": (2,)}


def test_rows_are_read_even_where_there_is_no_tokenizer(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(chat()) + "\n", encoding="utf-8")
    job = Job(name="job", model=Model(name=str(tmp_path / "nothing")), data=Data(train=str(data)))

    rows: Rows = Inputs(LOADERS, {"run": Run(folder=tmp_path / "work")}, job).get("rows")

    assert len(rows) == 1
    assert rows.turns.tolist() == [2]


def test_columns_say_what_the_loss_sees_and_what_the_cut_takes(samples: Path, tmp_path: Path) -> None:
    settings = {"assistant_only_loss": True, "packing": True}
    whole = prepare(samples, tmp_path, [chat("one two three four five six")], max_length=500, **settings)
    (tmp_path / "cut").mkdir()
    limit = int(whole.length[0]) - 3

    cut = prepare(
        samples, tmp_path / "cut", [chat("one two three four five six")], max_length=limit, **settings
    )

    assert whole.bos.tolist() == [1]
    assert [whole.ends_in_stop.tolist(), whole.stop_trained.tolist()] == [[True], [True]]
    assert whole.trained[0] == whole.answer[0] < whole.length[0]
    assert (cut.kept[0], cut.trained_lost[0]) == (limit, 3)
    assert [cut.ends_in_stop.tolist(), cut.stop_trained.tolist()] == [[True], [False]]


def test_a_row_that_the_cut_empties_is_dropped_without_packing_and_kept_with_it(
    samples: Path, tmp_path: Path
) -> None:
    dropped = prepare(samples, tmp_path, [chat()], max_length=4, assistant_only_loss=True)
    (tmp_path / "packed").mkdir()
    kept = prepare(
        samples, tmp_path / "packed", [chat()], max_length=4, assistant_only_loss=True, packing=True
    )

    assert (dropped.used.tolist(), len(dropped.sequences)) == ([False], 0)
    assert (kept.used.tolist(), kept.kept.tolist(), kept.trained.tolist()) == ([True], [4], [0])


def test_a_second_worker_maps_what_the_first_one_wrote(samples: Path, tmp_path: Path) -> None:
    first = prepare(samples, tmp_path, [chat(), chat("other")], max_length=64)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}

    again = prepare(samples, tmp_path, [chat(), chat("other")], max_length=64)

    assert again.digest == first.digest
    assert {
        path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()
    } == stamps


def test_one_label_more_in_the_loss_is_another_digest(samples: Path, tmp_path: Path) -> None:
    masked = prepare(samples, tmp_path, [chat()], max_length=64, assistant_only_loss=True)
    (tmp_path / "all").mkdir()

    everything = prepare(samples, tmp_path / "all", [chat()], max_length=64)

    assert masked.tokens.ids(0).tolist() == everything.tokens.ids(0).tolist()
    assert masked.digest != everything.digest


def test_the_sample_is_the_same_every_time_and_holds_the_longest_rows(samples: Path, tmp_path: Path) -> None:
    rows = [chat("word " * (n % 40)) for n in range(1, 400)]
    opened = inputs(samples, tmp_path, rows, max_length=512)

    sample: Sample = opened.get("sample")

    assert sample.total == 399
    assert 200 <= len(sample.rows) <= 250
    prepared: Prepared = opened.get("prepared")
    assert int(prepared.length.argmax()) in {row.index for row in sample.rows}
    (tmp_path / "again").mkdir()
    again: Sample = inputs(samples, tmp_path / "again", rows, max_length=512).get("sample")
    assert [row.index for row in again.rows] == [row.index for row in sample.rows]


def test_eval_rows_are_prepared_the_same_way_or_not_at_all(samples: Path, tmp_path: Path) -> None:
    opened = inputs(samples, tmp_path, [chat()], max_length=64)

    assert opened.get("prepared_eval") is None
