"""What is taken from an earlier run, and what makes the rows be prepared again."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation
from ftcheck_plugins.preparation import prepared_cache as shelf

from ftcheck.digest import of_files
from ftcheck.field_metadata import Mark
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import Prepared, Rows
from ftcheck.settings import Data, Job, Model, Outliers, Training


@loader("tokenizer")
def opened_anew(job: Job, run: Run) -> Any:
    """The tokenizer, which is an entry of its own otherwise: here the entries are preparations."""
    return tokenizer.tokenizer.open(job, replace(run, cache=False))


LOADERS = {one.name: one for one in (opened_anew, preparation.prepared, preparation.rows)}


class Bench:
    """A job on a few rows, prepared by one run after the other."""

    def __init__(self, folder: Path, samples: Path) -> None:
        self.folder = folder
        self.data = folder / "rows.jsonl"
        self.model = folder / "model"
        shutil.copytree(samples / "models" / "mapper-tiny", self.model)
        for weights in self.model.glob("*.safetensors"):
            weights.unlink()
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"what is {n}?"},
                    {"role": "assistant", "content": f"{n}!"},
                ]
            }
            for n in range(100, 160)
        ]
        self.data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.job = Job(
            name="job",
            model=Model(name=str(self.model)),
            data=Data(train=str(self.data)),
            training=Training(assistant_only_loss=True),
        )
        self.notes: list[str] = []
        self.opened: list[str] = []
        self._runs = 0

    def run(self, job: Job | None = None, *, cache: bool = True, **more: Any) -> tuple[Prepared, list[str]]:
        """One run: what it prepared, and what of it came from the cache."""
        inputs, cached = self.inputs(job, cache=cache, **more)
        return inputs.get("prepared"), cached

    def inputs(self, job: Job | None = None, *, cache: bool = True, **more: Any) -> tuple[Inputs, list[str]]:
        self._runs += 1
        cached: list[str] = []
        run = Run(
            folder=self.folder / f"work{self._runs}",
            cache=cache,
            cached=cached.append,
            note=self.notes.append,
            **more,
        )
        self.opened.clear()
        opening = lambda name, done: None if done else self.opened.append(name)  # noqa: E731
        return Inputs(LOADERS, {"run": run}, job or self.job, opening=opening), cached

    def training(self, **stated: Any) -> Job:
        return replace(self.job, training=replace(self.job.training, **stated))


@pytest.fixture
def bench(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FTCHECK_CACHE_SIZE", raising=False)
    return Bench(tmp_path, samples)


def same(one: Prepared, other: Prepared) -> bool:
    """Whether all that a rule can see is the same."""
    columns: tuple[str, ...] = (
        "length",
        "kept",
        "trained",
        "trained_lost",
        "bos",
        "answer",
        "boundary",
        "used",
        "sequences",
    )
    columns += ("ends_in_stop", "stop_trained", "outlier")
    return (
        one.digest == other.digest is not None
        and all(getattr(one, name).tolist() == getattr(other, name).tolist() for name in columns)
        and list(one.rows.records) == list(other.rows.records)
        and [str(one.at(n)) for n in range(len(one))] == [str(other.at(n)) for n in range(len(other))]
    )


def test_an_unchanged_second_run_prepares_nothing_and_opens_no_tokenizer(bench: Bench) -> None:
    first, cached = bench.run()
    assert cached == []

    again, cached = bench.run()

    assert cached == ["job.train"]
    assert bench.opened == ["prepared"]
    assert same(first, again)


def test_without_the_switch_nothing_is_read_or_written(bench: Bench) -> None:
    bench.run(cache=False)
    assert not (bench.folder / "cache").exists()
    bench.run()

    _, cached = bench.run(cache=False)

    assert cached == []


def test_one_byte_is_seen_whatever_the_clock_says(bench: Bench) -> None:
    first, _ = bench.run()
    was = bench.data.stat()
    content = bytearray(bench.data.read_bytes())
    place = content.index(b"130!")
    content[place + 1] = ord("7")
    bench.data.write_bytes(content)
    os.utime(bench.data, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert bench.data.stat().st_size == was.st_size

    again, cached = bench.run()

    assert cached == []
    assert again.digest != first.digest


def _edit(name: str, old: str, new: str) -> Callable[[Bench], Job]:
    def change(bench: Bench) -> Job:
        file = bench.model / name
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")
        return bench.job

    return change


def _template(bench: Bench) -> Job:
    stated = bench.folder / "mine.jinja"
    text = (
        "{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    )
    stated.write_text(text, encoding="utf-8")
    return replace(bench.job, model=replace(bench.job.model, chat_template=str(stated)))


@pytest.mark.parametrize(
    "change",
    [
        _edit("tokenizer_config.json", "{", '{"note": 1, '),
        _edit("tokenizer.json", "{", "{ "),
        _edit("config.json", "{", "{ "),
        _template,
        lambda bench: bench.training(assistant_only_loss=False),
        lambda bench: bench.training(completion_only_loss=False),
        lambda bench: bench.training(dataset_text_field="words"),
        lambda bench: bench.training(extra={"chat_template_path": "x"}),
        lambda bench: replace(bench.job, data=replace(bench.job.data, format="messages")),
    ],
    ids=[
        "tokenizer-config",
        "tokenizer",
        "config",
        "template",
        "assistant-mask",
        "completion-mask",
        "text-field",
        "unknown-key",
        "format",
    ],
)
def test_whatever_ids_or_masks_come_from_is_in_the_key(change: Callable[[Bench], Job], bench: Bench) -> None:
    bench.run()

    _, cached = bench.run(change(bench))

    assert cached == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer(Training):
    """Training arguments with two new keys."""

    mask: bool = False
    speed: Annotated[bool, Mark.AFTER_TOKENISING] = False


@pytest.mark.parametrize(("newer", "kept"), [({"mask": True}, False), ({"speed": True}, True)])
def test_a_new_key_is_in_the_key_unless_its_field_says_that_it_comes_later(
    newer: dict[str, Any], kept: bool, bench: Bench
) -> None:
    bench.run(replace(bench.job, training=Newer(assistant_only_loss=True)))

    _, cached = bench.run(replace(bench.job, training=Newer(assistant_only_loss=True, **newer)))

    assert bool(cached) is kept


def test_versions_and_the_preparations_own_are_in_the_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run()
    for name, other in (("_versions", lambda: "another"), ("PREPARATION_VERSION", 0)):
        with monkeypatch.context() as patch:
            patch.setattr(shelf, name, other)
            assert bench.run()[1] == []
    assert "transformers" in shelf._versions()


def test_what_the_second_pass_decides_does_not_matter(bench: Bench) -> None:
    first, _ = bench.run()
    shorter = bench.training(max_length=8, learning_rate=1.0, packing=True)
    outliers = replace(
        bench.job, data=replace(bench.job.data, outliers=Outliers(above_percentile=50, action="truncate"))
    )

    end = bench.training(max_length=8, truncation_mode="keep_end")
    for job in (shorter, outliers, end, bench.training(max_length=8)):
        cut, cached = bench.run(job)
        fresh, _ = bench.run(job, cache=False)
        assert cached == ["job.train"]
        assert same(cut, fresh)
        assert cut.digest != first.digest


def test_the_same_bytes_elsewhere_are_named_as_they_lie_now(bench: Bench) -> None:
    bench.run()
    moved = bench.data.rename(bench.folder / "moved.jsonl")

    again, cached = bench.run(replace(bench.job, data=Data(train=str(moved))))

    assert cached == ["job.train"]
    assert again.at(3).path == str(moved)


def test_rows_without_tokens_are_kept_apart(bench: Bench) -> None:
    broken = replace(bench.job, model=Model(name=str(bench.folder / "nothing")))
    for expected in ([], ["job.train"]):
        inputs, cached = bench.inputs(broken)
        rows: Rows = inputs.get("rows")
        assert len(rows) == 60
        assert cached == expected
    bench.run()
    assert len(list((bench.folder / "cache" / "prepared").iterdir())) == 2


def test_the_rows_that_were_read_are_the_rows_of_the_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = preparation._Pass.write

    def meddled(self: Any, folder: Path) -> None:
        write(self, folder)
        bench.data.write_text(bench.data.read_text(encoding="utf-8") + "\n", encoding="utf-8")

    monkeypatch.setattr(preparation._Pass, "write", meddled)
    bench.run()

    assert ["changed during reading" in note for note in bench.notes] == [True]
    assert list((bench.folder / "cache" / "prepared").iterdir()) == []


def test_a_digest_that_is_known_already_is_not_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run()
    known = {"job.train": of_files([bench.data]) or ""}
    monkeypatch.setattr(shelf, "of_files", lambda paths: pytest.fail("digested again"))

    assert bench.run(digests=known)[1] == ["job.train"]


@pytest.mark.parametrize(
    "name", ["rows.arrow", "columns.arrow", "done.json", "answers.json", "manifest.json"]
)
@pytest.mark.parametrize("cut", [0, 30])
def test_a_broken_entry_is_a_cold_start(name: str, cut: int, bench: Bench) -> None:
    first, _ = bench.run()
    (entry,) = (bench.folder / "cache" / "prepared").iterdir()
    content = (entry / name).read_bytes()
    (entry / name).unlink()  # the first run still maps the file that the entry was linked from
    (entry / name).write_bytes(content[:cut])

    again, cached = bench.run()

    assert cached == []
    assert same(first, again)
    assert bench.run()[1] == ["job.train"]
    assert bench.notes == []


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_tokens_are_looked_over_when_they_are_read_and_made_again_where_broken(
    how: str, bench: Bench
) -> None:
    first, _ = bench.run()
    (entry,) = (bench.folder / "cache" / "prepared").iterdir()
    file = entry / "rows.arrow"
    content = bytearray(file.read_bytes())
    again, cached = bench.run()
    content[content.index(bytes.fromhex(first.rows.records[0])) - 1] ^= 1
    content[-2000] ^= 1
    file.unlink()
    if how == "flipped":
        file.write_bytes(content)

    assert cached == ["job.train"]
    assert len(again.rows.records) == 60, "a count needs no token file"
    assert again.length.tolist() == first.length.tolist()
    assert bench.notes == [], "columns do not need the token file"
    assert same(first, again)
    assert [again.tokens.ids(n).tolist() for n in range(60)] == [
        first.tokens.ids(n).tolist() for n in range(60)
    ]
    assert bench.notes == ["job.train: the tokens in the cache were damaged and have been prepared again"]


def test_a_place_that_cannot_be_written_is_said_and_no_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.folder / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("FTCHECK_CACHE", str(bench.folder / "file"))

    prepared, cached = bench.run()

    assert (len(prepared), cached) == (60, [])
    (note,) = bench.notes
    assert note.startswith("job.train: not cached for the next run: ")


def test_a_limit_that_is_no_size_is_said_and_no_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCHECK_CACHE_SIZE", "much")

    assert len(bench.run()[0]) == 60
    assert any("FTCHECK_CACHE_SIZE" in note for note in bench.notes)


def test_a_template_that_raised_is_tried_again(bench: Bench) -> None:
    job = replace(_template(bench), training=Training())
    raising = "{% if '130' in messages[0].content %}{{ raise_exception('no') }}{% endif %}x"
    Path(job.model.chat_template or "").write_text(raising, encoding="utf-8")
    prepared, _ = bench.run(job)
    assert len(prepared.row_errors) == 1

    assert bench.run(job)[1] == []


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ messages }}", ""),
        ("{% if strftime_now is defined %}{% endif %}", ""),
        ("{{ strftime_now('%d %b %Y') }}", "date"),
        ('{{ strftime_now(\\"%Y-%m-%d\\") }}', "date"),
        ("{{ strftime_now('%H:%M') }}", None),
        ("{{ strftime_now('%c') }}", None),
        ("{{ strftime_now(form) }}", None),
        ("{{ strftime_now('%d') }}{{ strftime_now(form) }}", None),
    ],
)
def test_a_template_that_writes_the_date_holds_for_a_day(template: str, told: str | None) -> None:
    found = shelf._days([b"", template.encode()])

    assert found == told if told != "date" else len(found or "") == 10


def test_yesterdays_date_is_not_todays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(_template(bench), training=Training())
    text = "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}{{ m.content }}{% endfor %}"
    Path(job.model.chat_template or "").write_text(text, encoding="utf-8")
    bench.run(job)
    assert bench.run(job)[1] == ["job.train"]

    monkeypatch.setattr(shelf, "_days", lambda texts: "2001-02-03")

    assert bench.run(job)[1] == []
