"""Rows that are drawn are those with the smallest keys, at their own places, in every kind of file."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ftcheck_plugins.reading import files
from ftcheck_plugins.reading.files import Source
from ftcheck_plugins.reading.raw_rows import RawRow
from ftcheck_plugins.reading.row_shape import Shape, Split
from ftcheck_plugins.reading.sampled import SampledRows

from ftcheck.errors import InputError
from ftcheck.sampling.draw import keys
from ftcheck.settings import Sampling


def row(number: int) -> dict[str, str]:
    return {"prompt": f"question {number}" * (1 + number % 7), "completion": str(number)}


def jsonl(path: Path, numbers: range) -> str:
    """One line a row, and here and there blank ones, which are no rows."""
    lines = [json.dumps(row(n)) + ("\n" if n % 10 else "\n\n   \r\n") for n in numbers]
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def array(path: Path, numbers: range) -> str:
    """Three rows a line."""
    items = [json.dumps(row(n)) + ("," if n % 3 else ",\n") for n in numbers]
    path.write_text("[" + "".join(items).rstrip(",\n") + "]", encoding="utf-8")
    return str(path)


def table(path: Path, numbers: range) -> str:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(row(n) | {"prompt": f"two\nlines {n}"} for n in numbers)
    return str(path)


def parquet(path: Path, numbers: range) -> str:
    pq.write_table(pa.Table.from_pylist([row(n) for n in numbers]), path, row_group_size=37)
    return str(path)


def source(folder: Path, kind: str) -> Source:
    """Three files of 100, 1 and 399 rows; `all` has one of each kind."""
    made = {"jsonl": jsonl, "json": array, "csv": table, "parquet": parquet}
    kinds = {"all": ("jsonl", "parquet", "csv")}.get(kind, (kind,) * 3)
    parts = (range(100), range(100, 101), range(101, 500))
    names = [
        made[one](folder / f"{n}.{one}", part) for n, (one, part) in enumerate(zip(kinds, parts, strict=True))
    ]
    return Source(tuple(names))


def by_hand(rows: Sequence[RawRow], sampling: Sampling) -> list[RawRow]:
    """Those of all rows whose keys are the smallest."""
    chosen = np.argsort(keys(sampling.seed, 0, len(rows)))[: sampling.rows]
    return [rows[n] for n in sorted(chosen.tolist())]


def sampled(whole: Source, sampling: Sampling) -> Source:
    return replace(whole, picks=SampledRows(sampling))


KINDS = ("jsonl", "json", "csv", "parquet", "all")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sampling", [Sampling(rows=1), Sampling(rows=60, seed=3), Sampling(rows=499, seed=9)]
)
def test_the_rows_are_those_of_the_smallest_keys_with_their_places(
    tmp_path: Path, kind: str, sampling: Sampling
) -> None:
    whole = source(tmp_path, kind)
    everything = list(files.stream(whole))
    assert len(everything) == 500

    found = SampledRows(sampling).drawn(whole)

    assert list(files.stream(sampled(whole, sampling))) == by_hand(everything, sampling)
    assert found is not None
    assert (found.of, found.found) == (500, 500)
    assert [everything[n].line for n in found.numbers] == found.places[:, 1].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [500, 501])
def test_data_with_no_more_rows_is_read_whole(tmp_path: Path, kind: str, rows: int) -> None:
    whole, sampling = source(tmp_path, kind), Sampling(rows=rows)

    assert SampledRows(sampling).drawn(whole) is None
    assert list(files.stream(sampled(whole, sampling))) == list(files.stream(whole))


def test_they_are_drawn_of_the_rows_that_the_job_leaves(tmp_path: Path) -> None:
    """After data.exclude, data.max_rows and the held-out rows; columns are renamed."""
    whole, sampling = source(tmp_path, "jsonl"), Sampling(rows=50, seed=1)
    begins = [one.offset for one in files.stream(whole)][:4]
    shape = Shape(columns={"prompt": "ask"}, first=300, split=Split(0.2, 7, held_out=False))
    whole = replace(whole, excluded={0: frozenset(begins[1:3])}, shape=shape)
    everything = list(files.stream(whole))
    assert len(everything) == 240

    assert list(files.stream(sampled(whole, sampling))) == by_hand(everything, sampling)


def test_pieces_have_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    whole, sampling = source(tmp_path, "jsonl"), Sampling(rows=123, seed=4)
    parts = files.pieces(sampled(whole, sampling), 1000)

    assert parts is not None
    assert len(parts) > 5
    assert [one for part in parts for one in part] == by_hand(list(files.stream(whole)), sampling)
    assert {part.count for part in parts} == {0}


def test_rows_are_read_again_by_their_place(tmp_path: Path) -> None:
    for kind in ("jsonl", "parquet"):
        chosen = sampled(source(tmp_path, kind), Sampling(rows=20))
        rows = list(files.stream(chosen))
        wanted = [(n, rows[n].file, rows[n].offset) for n in (3, 8, 19)]
        assert [one.data for one in files.at_rows(chosen, wanted)] == [rows[n].data for n in (3, 8, 19)]


def test_only_row_groups_that_hold_a_drawn_row_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = source(tmp_path, "parquet")
    read: list[list[int]] = []
    iterate = pq.ParquetFile.iter_batches

    def noted(self: Any, *given: Any, **named: Any) -> Any:
        read.append(named["row_groups"])
        return iterate(self, *given, **named)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    assert len(list(files.stream(sampled(whole, Sampling(rows=2))))) == 2
    assert 1 <= len(read) <= 2
    assert all(len(groups) == 1 for groups in read)


def test_lines_that_are_not_drawn_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = source(tmp_path, "jsonl")
    parsed: list[bytes] = []
    decode = files._decode

    def noted(content: bytes) -> Any:
        parsed.append(content)
        return decode(content)

    monkeypatch.setattr(files, "_decode", noted)

    assert len(list(files.stream(sampled(whole, Sampling(rows=5))))) == 5
    assert len(parsed) == 5


class Streamed:
    """What datasets gives of a data set on the hub that streams."""

    def __init__(self, total: int, stated: int | None) -> None:
        self.total, self.split = total, "train"
        splits = {"train": type("Split", (), {"num_examples": stated})()} if stated is not None else None
        self.info = type("Info", (), {"splits": splits})()

    def __iter__(self) -> Iterator[dict[str, str]]:
        return (row(n) for n in range(self.total))


@pytest.mark.parametrize("stated", [500, None])
def test_a_data_set_on_the_hub_streams(stated: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets, asked = pytest.importorskip("datasets"), []

    def load(name: str, **given: Any) -> Streamed:
        asked.append((name, given))
        return Streamed(500, stated)

    monkeypatch.setattr(datasets, "load_dataset", load)
    sampling = Sampling(rows=7, seed=11)
    rows = list(files.stream(sampled(Source(("own/set",), hub=f"own/set:{stated}"), sampling)))

    chosen = sorted(np.argsort(keys(11, 0, 500))[:7].tolist())
    assert [one.data for one in rows] == [row(n) for n in chosen]
    assert [one.line for one in rows] == [n + 1 for n in chosen]
    assert {given["streaming"] for _, given in asked} == {True}


def test_a_data_set_on_the_hub_that_misstates_its_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda name, **given: Streamed(500, 400))

    with pytest.raises(InputError, match="own/wrong: it states 400 rows and has 500"):
        list(files.stream(sampled(Source(("own/wrong",), hub="own/wrong"), Sampling(rows=7))))


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_row_of_all_is_known_though_it_was_not_drawn(tmp_path: Path, kind: str) -> None:
    """Trainers tell the layout of a data set by its first row."""
    whole = replace(source(tmp_path, kind), shape=Shape(columns={"prompt": "ask"}))
    picks = SampledRows(Sampling(rows=1))
    everything = list(files.stream(whole))

    assert picks.opening(whole) == everything[0]
    assert list(files.stream(replace(whole, picks=picks))) != everything[:1]
    assert SampledRows(Sampling(rows=500)).opening(whole) is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.json", '[{"text": "a"}, {"text": "b"}, {"text": ', r"rows\.json:1: not valid JSON"),
        ("rows.csv", 'text\na\nb\n"c', r"rows\.csv:4: not CSV"),
    ],
)
def test_a_file_that_breaks_off_is_no_whole_to_draw_from(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    """The row with the fault would hardly ever be drawn, and nobody would say that rows are missing."""
    (tmp_path / name).write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=f"{said}.*a sample needs files that can be read to their end"):
        list(files.stream(sampled(Source((str(tmp_path / name),)), Sampling(rows=1))))
