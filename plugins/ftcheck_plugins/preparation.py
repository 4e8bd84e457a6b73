"""The one pass over a job's rows: columns, token ids and loss masks, shared by rules and trainer.

First pass: rows are streamed, checked, tokenised in batches and written to one Arrow file. Second
pass, over that file only: outliers, truncation, what is fed, and the digest over ids and labels.
"""

import contextlib
import gc
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.cutting import cut_bounds, drops
from ftcheck.digest import of_json
from ftcheck.errors import FtcheckError, InputError
from ftcheck.inputs import Prepared, Rows, Run, Sample, SampleRow, Tokenizer, Trouble
from ftcheck.likeness import fingerprint
from ftcheck.offers import loader
from ftcheck.records import Progress
from ftcheck.settings import Job, Outliers, Training
from ftcheck_plugins import files, formats
from ftcheck_plugins.cache import Shelf
from ftcheck_plugins.files import RawRow, Source
from ftcheck_plugins.formats import Example
from ftcheck_plugins.rendering import Differs
from ftcheck_plugins.store import RowFile, RowWriter, Words
from ftcheck_plugins.tokenize import RowTokenizer, nothing
from ftcheck_plugins.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 3
BATCH = 1000
SAMPLE_RANDOM = 200
SAMPLE_LONGEST = 50
MAX_REMARKS = 10_000
MAX_SYSTEM_PROMPTS = 1_000
TAIL = 8
"""Tokens at the end of a row among which its last word is looked for."""


@loader("prepared")
def prepared(job: Job, run: Run, inputs: Any) -> Prepared:
    """The training rows as the trainer will feed them. `inputs` open the tokenizer, if it is needed."""
    return _prepare(job, run, inputs, "train")


@loader("prepared_eval")
def prepared_eval(job: Job, run: Run, inputs: Any) -> Prepared | None:
    """The evaluation rows, prepared the same way; None if the job names none."""
    return None if job.data.eval is None else _prepare(job, run, inputs, "eval")


@loader("rows")
def rows(job: Job, run: Run, inputs: Any) -> Rows:
    """The training rows before any tokenizer; from the same pass where the tokenizer can be opened."""
    try:
        return inputs.get("prepared").rows  # type: ignore[no-any-return]
    except FtcheckError:
        if _opens(inputs):
            raise
    return _prepare(job, run, None, "train").rows


def _opens(inputs: Any) -> bool:
    try:
        inputs.get("tokenizer")
    except FtcheckError:
        return False
    return True


@loader("sample")
def sample(job: Job, run: Run, prepared: Prepared) -> Sample:
    """Conversations of some rows, drawn with a fixed seed, and of the longest ones."""
    import numpy as np

    good = prepared.used.nonzero()[0]
    count = min(SAMPLE_RANDOM, len(good))
    drawn = np.random.default_rng(0).choice(good, size=count, replace=False) if count else good
    longest = good[np.argsort(prepared.length[good], kind="stable")[-SAMPLE_LONGEST:]]
    chosen = np.unique(np.concatenate([drawn, longest])).tolist()
    table = prepared.rows
    wanted = [(row, int(table.file[row]), int(table.offset[row])) for row in chosen]
    raw = files.at_rows(_source(job, "train"), wanted, offline=run.offline)
    built = [
        _sample_row(index, one, prepared, job.training.dataset_text_field)
        for index, one in zip(chosen, raw, strict=True)
    ]
    return Sample(rows=tuple(one for one in built if one is not None), total=len(good))


def _sample_row(index: int, raw: RawRow, prepared: Prepared, text_field: str) -> SampleRow | None:
    made = formats.example(raw.data, prepared.rows.format, text_field) if raw.data else None
    if not isinstance(made, Example) or not made.conversational:
        return None
    turns = made.turns
    last_answer = max((n for n, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    ids = tuple(prepared.tokens.ids(index).tolist())
    return SampleRow(index, turns, last_answer, ids, prepared.at(index), made.tools, made.template_kwargs)


def _source(job: Job, split: str) -> Source:
    stated = job.data.train if split == "train" else job.data.eval
    if stated is None:
        raise InputError(f"job {job.name} names no data.{split}")
    return files.find(stated, job.at(f"data.{split}"), f"data.{split} of job {job.name}")


def _prepare(job: Job, run: Run, side: Any, split: str) -> Prepared:
    """Columns that a worker before this one finished, or that an earlier run kept, or made now.

    `side` is the tokenizer, the `Inputs` that open it where it is needed, or None: rows without tokens.
    """
    kind = split if side is not None else f"{split}-untokenised"
    folder = run.folder / "prepared" / of_json([job.name, kind])[7:23]
    source = _source(job, split)
    outliers = job.data.outliers if split == "train" else None
    shelf = Shelf(job, run, source, side, split)
    done = (folder / "done.json").is_file()
    kept = None if done else shelf.find()
    if kept is not None:
        try:
            return shelf.took(_finish(kept, job.training, outliers, shelf.answering, run))
        except FtcheckError:
            raise
        except Exception:
            shelf.drop()
    if not done:
        _Pass(job, run, source, shelf.tokenizer, split).write(folder)
    made = _finish(folder, job.training, outliers, shelf.answering, run)
    if not done:
        shelf.keep(folder, made)
    return made


@dataclass
class _Pass:
    """The first pass: reads, checks and tokenises all rows into one Arrow file."""

    job: Job
    run: Run
    source: Source
    tokenizer: Tokenizer | None
    split: str
    layout: str | None = None
    troubles: dict[int, Trouble] = field(default_factory=dict)
    remarks: dict[str, list[int]] = field(default_factory=dict)
    marks: dict[str, list[int]] = field(default_factory=dict)
    pattern: "re.Pattern[str] | None" = None
    prompts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fast: bool = True
    engine: str = "tokenizers"
    seen: int = 0
    tokens: int = 0

    def write(self, folder: Path) -> None:
        """Do the pass; the folder appears whole or not at all."""
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        making.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            self._write(making, self._row_tokenizer())
        except Differs as differs:
            self._again(str(differs))
            self._write(making, self._row_tokenizer())
        self._save(making)
        making.rename(folder)
        self._tell(finished=True, detail=f"{_count(self.tokens)} tokens  {time.monotonic() - started:.1f} s")

    def _write(self, making: Path, tokenise: RowTokenizer | None) -> None:
        with RowWriter(making / "rows.arrow") as writer:
            for batch in _batches(files.stream(self.source, offline=self.run.offline)):
                with _uncollected():
                    self._add(batch, tokenise, writer)
                self._tell()
        if tokenise is not None:
            self.engine = tokenise.engine.name
            self.notes.extend([tokenise.engine.note] if tokenise.engine.note else [])

    def _again(self, why: str) -> None:
        """Forget what was done; from now on the trainer's own libraries do all the work."""
        fresh = _Pass(self.job, self.run, self.source, self.tokenizer, self.split, fast=False, notes=[why])
        self.__dict__.update(fresh.__dict__)

    def _row_tokenizer(self) -> RowTokenizer | None:
        if self.tokenizer is None:
            return None
        if not isinstance(self.tokenizer, ChatTokenizer):
            raise InputError(f"preparation needs a transformers tokenizer, not {self.tokenizer!r}")
        return RowTokenizer(self.tokenizer, self.job.training, fast=self.fast)

    def _tell(self, *, finished: bool = False, detail: str | None = None) -> None:
        what = self.job.name if self.split == "train" else f"{self.job.name} {self.split}"
        self.run.report(Progress(f"preparing {what}", self.seen, None, "rows", finished, detail))

    def _add(self, batch: Sequence[RawRow], tokenise: RowTokenizer | None, writer: RowWriter) -> None:
        examples = [self._example(self.seen + n, raw) for n, raw in enumerate(batch)]
        good = [n for n, one in enumerate(examples) if one is not None]
        words = [self._words(one) if one is not None else Words() for one in examples]
        if tokenise is None:
            tokens = nothing(len(batch))
        else:
            made = tokenise.batch([one for one in examples if one is not None])
            self.troubles.update((self.seen + good[n], trouble) for n, trouble in made.troubles.items())
            tokens = made.spread(good, len(batch))
        writer.add(batch, tokens, words)
        self.tokens += len(tokens.ids.flat)
        self.seen += len(batch)

    def _example(self, index: int, raw: RawRow) -> Example | None:
        if raw.data is None:
            self.troubles[index] = raw.trouble or Trouble("json", "not readable")
            return None
        text_field = self.job.training.dataset_text_field
        layout = self._layout_of(raw.data, text_field)
        if layout is None:
            keys = ", ".join(sorted(map(str, raw.data))[:8]) or "none"
            self.troubles[index] = Trouble(
                "schema",
                f"no layout that ftcheck knows; the row's keys are: {keys}",
                "messages | prompt + completion | text | conversations | instruction + output;"
                " set data.format, or training.dataset_text_field",
            )
            return None
        made = formats.example(raw.data, layout, text_field)
        if isinstance(made, Trouble):
            self.troubles[index] = made
            return None
        for code in [*(formats.remarks(made.turns) if made.turns else ()), *formats.answer_remarks(made)]:
            _note(self.remarks, code, index)
        for mark in self._marks_in(made):
            _note(self.marks, mark, index)
        return made

    def _marks_in(self, made: Example) -> set[str]:
        """Special tokens that stand in the row's text: the tokenizer takes them for what they say."""
        if self.tokenizer is None:
            return set()
        if self.pattern is None:
            self.pattern = _pattern(self.tokenizer)
        return set(self.pattern.findall(formats.words(made)))

    def _words(self, made: Example) -> Words:
        """What rules ask of a row's words without reading it again."""
        return Words(
            turns=len(made.turns),
            system=self._system(made.turns),
            asked=fingerprint(formats.asked(made)),
            said=fingerprint(formats.said(made)),
        )

    def _layout_of(self, row: dict[str, Any], text_field: str) -> str | None:
        if self.layout is None:
            stated = self.job.data.format
            self.layout = stated if stated != "auto" else formats.detect(row, text_field)
        return self.layout

    def _system(self, turns: Sequence[Any]) -> int:
        prompt = formats.system_prompt(turns)
        if prompt is None:
            return -1
        if prompt not in self.prompts and len(self.prompts) >= MAX_SYSTEM_PROMPTS:
            return len(self.prompts)
        return self.prompts.setdefault(prompt, len(self.prompts))

    def _save(self, making: Path) -> None:
        about = {
            "version": VERSION,
            "files": self.source.files,
            "format": self.layout or "unknown",
            "troubles": [[row, t.code, t.message, t.fix, t.column] for row, t in self.troubles.items()],
            "remarks": self.remarks,
            "marks": self.marks,
            "system_prompts": list(self.prompts),
            "notes": self.notes,
            "engine": self.engine,
        }
        (making / "done.json").write_text(json.dumps(about), encoding="utf-8")


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Look for cycles after a batch, and among its own objects: not among all of torch's, again and again."""
    if not gc.isenabled():
        yield
        return
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        gc.enable()


def _note(found: dict[str, list[int]], code: str, row: int) -> None:
    """Remember a row under a code; of very many rows the first ones."""
    rows_of_code = found.setdefault(code, [])
    if len(rows_of_code) < MAX_REMARKS:
        rows_of_code.append(row)


def _pattern(tokenizer: Tokenizer) -> "re.Pattern[str]":
    """Finds the texts of special tokens; the longest first, and none that is a plain word."""
    texts = {tokenizer.show([one]) for one in tokenizer.special_ids}
    marks = sorted((text for text in texts if re.search(r"[^\w\s]", text)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, marks)) if marks else r"(?!)")


def _batches(stream: Iterator[RawRow]) -> Iterator[list[RawRow]]:
    batch: list[RawRow] = []
    for row in stream:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _count(number: int) -> str:
    return f"{number / 1e6:,.2f} M" if number >= 1e6 else f"{number:,}"


def _finish(
    folder: Path, training: Training, outliers: Outliers | None, tokenizer: Tokenizer | None, run: Run
) -> Prepared:
    """The second pass, over the columns and the token file: what is fed, and its digest."""
    import numpy as np

    about = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    file = RowFile(folder / "rows.arrow")
    troubles = {
        int(row): Trouble(code, text, fix, column) for row, code, text, fix, column in about["troubles"]
    }
    length = file.column("length")
    good = np.ones(len(length), dtype=bool)
    good[list(troubles)] = False
    sequences, outlier = _sequences(length, good, outliers, about["format"])
    fed = _feed(file, sequences, length, training, tokenizer)
    return Prepared(
        rows=_rows(about, file, troubles),
        length=length,
        kept=fed.kept,
        trained=fed.trained,
        trained_lost=file.column("trained") - fed.trained,
        bos=_bos(file, tokenizer),
        answer=file.column("answer"),
        boundary=file.column("boundary"),
        ends_in_stop=fed.ends_in_stop,
        stop_trained=fed.stop_trained,
        outlier=outlier,
        used=fed.used,
        sequences=fed.sequences,
        troubles=troubles,
        digest=None if troubles or tokenizer is None else fed.digest,
        tokens=file,
        engine=about["engine"],
        masked=bool((file.column("trained") < length).any()),
    )


def _rows(about: dict[str, Any], file: RowFile, troubles: dict[int, Trouble]) -> Rows:
    return Rows(
        files=tuple(about["files"]),
        file=file.column("file"),
        line=file.column("line"),
        offset=file.column("offset"),
        turns=file.column("turns"),
        records=file.records(),
        troubles=troubles,
        format=about["format"],
        system=file.column("system"),
        system_prompts=tuple(about["system_prompts"]),
        remarks={code: tuple(found) for code, found in about["remarks"].items()},
        asked=file.column("asked"),
        said=file.column("said"),
        marks={mark: tuple(found) for mark, found in about["marks"].items()},
        notes=tuple(about["notes"]),
    )


def _sequences(
    length: "NDArray[np.int32]", good: "NDArray[np.bool_]", outliers: Outliers | None, layout: str
) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
    """What may be fed: (row, start, stop) of each sequence, after the policy's outliers."""
    import numpy as np

    from ftcheck.lengths import nearest_rank

    rows_fed = good.nonzero()[0]
    outlier = np.zeros(len(length), dtype=bool)
    stops = length[rows_fed].astype(np.int64)
    if outliers is not None and outliers.action != "keep" and len(rows_fed):
        limit = nearest_rank(stops, outliers.above_percentile)
        over = stops > limit
        outlier[rows_fed[over]] = True
        if outliers.action == "drop":
            rows_fed, stops = rows_fed[~over], stops[~over]
        elif outliers.action == "truncate":
            stops = np.minimum(stops, limit)
        elif layout != "text":
            raise InputError(f"data.outliers.action 'chunk' is for plain text; these rows are '{layout}'")
        else:
            return _chunks(rows_fed, stops, limit), outlier
    starts = np.zeros(len(rows_fed), dtype=np.int64)
    return np.stack([rows_fed.astype(np.int64), starts, stops], axis=1), outlier


def _chunks(rows_fed: "NDArray[np.int64]", stops: "NDArray[np.int64]", limit: int) -> "NDArray[np.int64]":
    import numpy as np

    pieces = [
        (row, start, min(start + limit, stop))
        for row, stop in zip(rows_fed.tolist(), stops.tolist(), strict=True)
        for start in range(0, max(stop, 1), limit)
    ]
    return np.array(pieces, dtype=np.int64).reshape(-1, 3)


@dataclass
class _Fed:
    """What the second pass finds out, one entry a row (see `Prepared`)."""

    kept: "NDArray[np.int32]"
    trained: "NDArray[np.int32]"
    ends_in_stop: "NDArray[np.bool_]"
    stop_trained: "NDArray[np.bool_]"
    used: "NDArray[np.bool_]"
    sequences: "NDArray[np.int64]"
    digest: str


def _feed(
    file: RowFile,
    sequences: "NDArray[np.int64]",
    length: "NDArray[np.int32]",
    training: Training,
    tokenizer: Tokenizer | None,
) -> _Fed:
    """Cut, drop and digest as the trainer will."""
    import numpy as np

    count = len(length)
    kept, trained = np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int32)
    ends, stopped, used = (np.zeros(count, dtype=bool) for _ in range(3))
    last = _LastWord(tokenizer)
    digest, taken = LabelDigest(), np.ones(len(sequences), dtype=bool)
    cut = cut_bounds(training)
    position = 0
    for first, begins, ids, mask in file.batches():
        stop = int(np.searchsorted(sequences[:, 0], first + len(begins) - 1, side="left"))
        rows_fed, starts, stops = sequences[position:stop].T
        begin = begins[rows_fed - first]
        starts, stops = begin + starts, begin + stops
        ends[rows_fed] = last.stops(ids, starts, stops)
        starts, stops = cut(starts, stops)
        before = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        in_loss = before[stops] - before[starts]
        keep = (in_loss > 0) if drops(training) else np.ones(len(rows_fed), dtype=bool)
        taken[position:stop] = keep
        position = stop
        rows_fed, starts, stops, in_loss = rows_fed[keep], starts[keep], stops[keep], in_loss[keep]
        used[rows_fed] = True
        np.add.at(kept, rows_fed, (stops - starts).astype(np.int32))
        np.add.at(trained, rows_fed, in_loss.astype(np.int32))
        stopped[rows_fed] = last.stops(ids[mask], before[starts], before[stops])
        digest.add_many(ids, mask, starts, stops)
    return _Fed(kept, trained, ends, stopped, used, sequences[taken], digest.text())


class LabelDigest:
    """sha256 over ids and labels, row by row: length, ids, labels as little-endian int32."""

    def __init__(self) -> None:
        """Start with no rows."""
        self._hasher = hashlib.sha256()

    def add(self, ids: Any, labels: Any) -> None:
        """Add one row; `ids` and `labels` are integer sequences of one length."""
        import numpy as np

        self._hasher.update(np.int32(len(ids)).astype("<i4").tobytes())
        self._hasher.update(np.asarray(ids).astype("<i4").tobytes())
        self._hasher.update(np.asarray(labels).astype("<i4").tobytes())

    def add_many(
        self,
        ids: "NDArray[np.int32]",
        mask: "NDArray[np.bool_]",
        starts: "NDArray[np.int64]",
        stops: "NDArray[np.int64]",
    ) -> None:
        """Add the rows that lie in `ids` from `starts` to `stops`; the loss sees what `mask` marks."""
        import numpy as np

        lengths = stops - starts
        before = np.cumsum(lengths) - lengths
        steps = np.arange(int(lengths.sum()), dtype=np.int64)
        taken = steps + np.repeat(starts - before, lengths)
        heads = np.arange(len(lengths), dtype=np.int64) + 2 * before
        places = steps + np.repeat(heads + 1 - before, lengths)
        stream = np.empty(len(lengths) + 2 * len(steps), dtype="<i4")
        stream[heads] = lengths
        stream[places] = ids[taken]
        stream[places + np.repeat(lengths, lengths)] = np.where(mask[taken], ids[taken], -100)
        self._hasher.update(stream.tobytes())

    def text(self) -> str:
        """The digest of all rows so far."""
        return "sha256:" + self._hasher.hexdigest()


class _LastWord:
    """Whether the last token of a row that is not blank is a stop token."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._stops = tokenizer.stop_ids if tokenizer is not None else frozenset[int]()
        self._known: dict[int, bool] = {}

    def stops(
        self, ids: "NDArray[np.int32]", starts: "NDArray[np.int64]", stops: "NDArray[np.int64]"
    ) -> "NDArray[np.bool_]":
        """For each row that lies in `ids` from start to stop; of its end no more than `TAIL` tokens count."""
        import numpy as np

        found = np.zeros(len(starts), dtype=bool)
        open_rows = np.arange(len(starts))
        for back in range(1, TAIL + 1):
            open_rows = open_rows[stops[open_rows] - back >= starts[open_rows]]
            if not len(open_rows):
                break
            tokens, which = np.unique(ids[stops[open_rows] - back], return_inverse=True)
            blank = np.array([self._blank(token) for token in tokens.tolist()], dtype=bool)[which]
            stop = np.array([token in self._stops for token in tokens.tolist()], dtype=bool)[which]
            found[open_rows[~blank & stop]] = True
            open_rows = open_rows[blank]
        return found

    def _blank(self, token: int) -> bool:
        """Whether a token is nothing but white space, remembered by id."""
        if token not in self._known:
            shown = self._tokenizer.show([token]) if self._tokenizer is not None else "?"
            self._known[token] = not shown.strip()
        return self._known[token]


def _bos(file: RowFile, tokenizer: Tokenizer | None) -> "NDArray[np.int32]":
    """BOS tokens at the start of each row (0, 1 or 2; more than two count as two)."""
    import numpy as np

    first, second = file.column("first"), file.column("second")
    bos = tokenizer.bos_token_id if tokenizer is not None else None
    if bos is None:
        return np.zeros(len(first), dtype=np.int32)
    counted: NDArray[np.int32] = ((first == bos).astype(np.int32)) * (1 + (second == bos).astype(np.int32))
    return counted
