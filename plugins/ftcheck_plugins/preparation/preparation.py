"""The one pass over a job's rows: columns, token ids and loss masks, shared by rules and trainer.

First pass: rows are streamed, checked, tokenised in batches and written to one Arrow file. Second
pass, over that file only: outliers, truncation, what is fed, and the digest over ids and labels.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.digest import of_files, of_json
from ftcheck.errors import FtcheckError, InputError
from ftcheck.inputs import columns, prepared_folder
from ftcheck.inputs.container import Run
from ftcheck.inputs.loaded import AsLoaded
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import (
    Prepared,
    RowError,
    Rows,
    Sample,
    SampleRow,
)
from ftcheck.inputs.remote_files import is_remote
from ftcheck.inputs.row_numbers import RowNumbers
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.label_digest import LabelDigest
from ftcheck.packing.truncation import of_evaluation
from ftcheck.records import Progress
from ftcheck.sampling.row_sample import RowSample
from ftcheck.settings import Job, Outliers, Training
from ftcheck_plugins.kept import Kept
from ftcheck_plugins.preparation import processes, truncation_pass
from ftcheck_plugins.preparation.arrow_store import ROWS, Columns, RowFile, RowWriter
from ftcheck_plugins.preparation.batches import BatchMaker
from ftcheck_plugins.preparation.gathered import DONE, Gathered, key_set, token_count
from ftcheck_plugins.preparation.prepared_cache import READERS, CacheSlot
from ftcheck_plugins.preparation.rendering import Differs
from ftcheck_plugins.preparation.row_stream import RowStream
from ftcheck_plugins.preparation.trl_tokenize import row_tokenizer
from ftcheck_plugins.preparation.truncation_pass import Fed, ScratchArrays, good_rows
from ftcheck_plugins.reading import arrow_nulls, files, loaded, row_formats
from ftcheck_plugins.reading.files import Source
from ftcheck_plugins.reading.raw_rows import RawRow
from ftcheck_plugins.reading.row_formats import Example
from ftcheck_plugins.reading.row_shape import shape_of
from ftcheck_plugins.reading.sampled import SampledRows
from ftcheck_plugins.stored.first_pass import FirstPass, stored_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RANDOM = 200
SAMPLE_LONGEST = 50
NUMBERS = "numbers.npy"
"""The numbers of the rows of a sample among all rows."""
LOOKED_AT = 256 << 20
"""Bytes of files that are loaded with datasets although the job's trainer does not do so."""
DATE = re.compile(r"\d{4}-\d\d-\d\d")
"""How a text begins that Arrow's JSON reader may take for a date."""


@loader("prepared")
def prepared(job: Job, run: Run, inputs: Any) -> Prepared:
    """The training rows as the trainer will feed them. `inputs` open the tokenizer, if it is needed."""
    if job.data.prepared is not None:
        return _stored(job, run, inputs, prepared_folder.TRAIN)
    return _prepare(job, run, inputs, "train")


@loader("prepared_eval")
def prepared_eval(job: Job, run: Run, inputs: Any) -> Prepared | None:
    """The evaluation rows, prepared the same way; None if the job names none.

    Rows of data.prepared come before those of data.eval.
    """
    split = prepared_folder.find(job.data.prepared).evaluation if job.data.prepared is not None else None
    if split is not None:
        return _stored(job, run, inputs, split)
    return _prepare(job, run, inputs, "eval") if job.data.eval is not None or job.divided else None


@loader("prepared_here")
def prepared_here(job: Job, run: Run, inputs: Any) -> Prepared | None:
    """The rows of data.train as TRL prepares them, to compare those of data.prepared with; else None.

    Where TRL could not make the masks that the policy asks for, the ids alone: every token is in the loss.
    """
    if job.data.train is None or job.data.prepared is None:
        return None
    made = _prepare(job, run, inputs, "train")
    if not job.training.assistant_only_loss or len(made.row_errors) < len(made):
        return made
    bare = replace(job.training, assistant_only_loss=False)
    return _prepare(replace(job, name=f"{job.name} without masks", training=bare), run, inputs, "train")


@loader("rows")
def rows(job: Job, run: Run, inputs: Any) -> Rows:
    """The training rows before any tokenizer; from the same pass where the tokenizer can be opened."""
    try:
        return inputs.get("prepared").rows  # type: ignore[no-any-return]
    except FtcheckError:
        if _opens(inputs):
            raise
    if job.data.prepared is not None:
        return _stored(job, run, None, prepared_folder.TRAIN).rows
    return _prepare(job, run, None, "train").rows


def _opens(inputs: Any) -> bool:
    try:
        inputs.get("tokenizer")
    except FtcheckError:
        return False
    return True


@loader("sample")
def sample(job: Job, run: Run, prepared: Prepared) -> Sample:
    """Conversations of some rows, drawn with a fixed seed, and of the longest ones; of ids alone none."""
    import numpy as np

    if prepared.rows.textless is not None:
        return Sample(rows=(), total=0)
    good = prepared.used.nonzero()[0]
    count = min(SAMPLE_RANDOM, len(good))
    drawn = np.random.default_rng(0).choice(good, size=count, replace=False) if count else good
    longest = _longest(prepared.length, good)
    chosen = np.unique(np.concatenate([drawn, longest])).tolist()
    table = prepared.rows
    spans = prepared.first_spans(job.training, chosen)
    wanted = [(row, int(table.file[row]), int(table.offset[row])) for row in chosen]
    raw = files.at_rows(source_of(job, "train", run), wanted, offline=run.offline)
    built = [
        _sample_row(index, one, prepared, job.training.dataset_text_field, spans[index])
        for index, one in zip(chosen, raw, strict=True)
    ]
    return Sample(rows=tuple(one for one in built if one is not None), total=len(good))


def _longest(length: "NDArray[np.int32]", rows: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """The longest of these rows, the later ones of equal length."""
    import numpy as np

    if len(rows) > SAMPLE_LONGEST:
        of_rows = length[rows]
        rows = rows[of_rows >= np.partition(of_rows, -SAMPLE_LONGEST)[-SAMPLE_LONGEST]]
    return rows[np.argsort(length[rows], kind="stable")[-SAMPLE_LONGEST:]]


def _sample_row(
    index: int, raw: RawRow, prepared: Prepared, text_field: str, span: tuple[int, int]
) -> SampleRow | None:
    made = row_formats.example(raw.data, prepared.rows.format, text_field) if raw.data else None
    if not isinstance(made, Example) or not made.conversational:
        return None
    turns = made.turns
    last_answer = max((n for n, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    ids = tuple(prepared.tokens.ids(index).tolist())
    return SampleRow(
        index, turns, last_answer, ids, prepared.at(index), made.tools, made.template_kwargs, *span
    )


@loader("loaded")
def as_loaded(job: Job, run: Run, inputs: Any) -> AsLoaded | None:
    """What load_dataset makes of the training files; None where nobody will read them so, or it is not here.

    The trainer `qlora` feeds what was prepared here, but a script behind `ftcheck.require` may stand in its
    place: its files are looked at where they hold more than texts, up to `LOOKED_AT` bytes.
    """
    if job.data.prepared is not None:
        return None
    source = _named(job, "train")
    absent = source.hub is not None or job.data.sample is not None or any(map(is_remote, source.files))
    if absent or not loaded.installed():
        return None
    if job.trainer.use != "command" and not _worth_loading(source, inputs):
        return None

    def files_read() -> Any:
        digest = of_files(source.files)
        return None if digest is None else [digest, source.files]

    kept = Kept(run, f"{job.label}.loaded", "loaded", files_read, READERS)
    found = kept.read_as(AsLoaded)
    if found is None:
        found = loaded.load(source, _work(run)).compared
        if found.refused is None:
            kept.keep_record(found)
    return found


def _worth_loading(source: Source, inputs: Any) -> bool:
    """Whether files hold more than texts: numbers in tool calls, cells of CSV, texts that are dates."""
    if sum(Path(name).stat().st_size for name in source.files) > LOOKED_AT:
        return False
    if any(name.endswith(".csv") for name in source.files) or inputs.get("rows").remarks.get("structured"):
        return True
    first = next(files.stream(source), None)
    return first is not None and any(DATE.match(one) for one in _texts(first.data))


def _texts(value: Any) -> Iterator[str]:
    """All texts in a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _task(job: Job, split: str) -> str:
    """How a preparation is named while it goes on."""
    return f"preparing {_of_split(job, split)}"


def _of_split(job: Job, split: str) -> str:
    """A job by its name, with that of a split other than `train`."""
    return job.label if split == "train" else f"{job.label} {split}"


def _work(run: Run) -> Path:
    work = run.folder / "prepared"
    work.mkdir(parents=True, exist_ok=True)
    return work


def source_of(job: Job, split: str, run: Run) -> Source:
    """The data set of a split, `train` or `eval`, as the job's trainer reads it.

    A command reads its files with datasets: where that gives other values, they are the rows, but for a
    sample, whose types would be those of all rows. Nothing that the job states of its rows' shape reaches it,
    and nothing is dropped from them. Raises `InputError` where no data set is named or found.
    """
    source = replace(_named(job, split), picks=_picks(job, split))
    if job.trainer.use != "command":
        change = arrow_nulls.dropped if job.data.drop_nulls else None
        return replace(source, shape=shape_of(job, split), change=change)
    absent = source.picks is not None or source.hub is not None or any(map(is_remote, source.files))
    if absent or not loaded.installed():
        return source
    read = loaded.load(source, _work(run))
    return replace(source, through=partial(loaded.rows, source, read)) if read.other else source


def _picks(job: Job, split: str) -> SampledRows | None:
    """What draws rows of data.train, also those that are held out of it; data.eval is read whole."""
    sampling = job.data.sample
    return SampledRows(sampling) if sampling is not None and (split == "train" or job.divided) else None


def _named(job: Job, split: str) -> Source:
    split = "train" if job.divided else split
    stated = job.data.train if split == "train" else job.data.eval
    if stated is None:
        raise InputError(f"job {job.label}: data.{split} is not set")
    exclude = job.data.exclude if split == "train" else None
    return files.find(stated, job.at(f"data.{split}"), f"data.{split} of job {job.label}", exclude)


def _prepare(job: Job, run: Run, side: Any, split: str) -> Prepared:
    """Columns that a worker before this one finished, or that an earlier run kept, or made now.

    `side` is the tokenizer, the `Inputs` that open it where it is needed, or None: rows without tokens.
    Whoever comes while another run prepares the same rows waits for it, and takes what it kept.
    """
    preparing = _Preparing(job, run, side, split)
    made = preparing.found()
    if made is not None:
        return made
    with preparing.shelf.alone():
        return preparing.found() or preparing.made()


class _Preparing:
    """The rows of a split on their way: found, or made."""

    def __init__(self, job: Job, run: Run, side: Any, split: str) -> None:
        """As `_prepare` takes them."""
        self._job, self._run, self._split = job, run, split
        self._work, self._source = _work(run), source_of(job, split, run)
        self.shelf = CacheSlot(job, run, self._source, side, split)
        kind = split if side is not None else f"{split}-untokenised"
        drawn = [job.data.sample.rows, job.data.sample.seed] if job.data.sample is not None else []
        self._folder = self._work / (self.shelf.key or of_json([run.policy, job.label, kind, *drawn]))[7:23]

    def found(self) -> Prepared | None:
        """The rows as a worker before this one, another job, or an earlier run prepared them."""
        if all((self._folder / name).is_file() for name in (DONE, ROWS)):
            return self._finished(RowFile(self._folder / ROWS), self._folder, making=True)
        kept = self.shelf.find()
        if kept is None:
            return None
        try:
            file = RowFile(kept / ROWS, partial(self._tokens, kept))
            made = self._finished(file, kept, making=False)
        except FtcheckError:
            raise
        except Exception:
            self.shelf.drop()
            return None
        self.shelf.took(made)
        return made

    def made(self) -> Prepared:
        """The rows, prepared now and kept; or by the tasks of a Ray cluster, which keeps them."""
        if self._run.engine == "ray":
            shared = self._on_cluster()
            if shared is not None:
                return self._readable(shared)
            self._run = replace(self._run, workers=1)  # no process is forked beside Ray's threads
        self._pass().write(self._folder)
        made = self._finished(RowFile(self._folder / ROWS), self._folder, making=True)
        self.shelf.keep(self._folder, made)
        return made

    def _pass(self) -> "_Pass":
        return _Pass(self._job, self._run, self._source, self.shelf.tokenizer, self._split)

    def _tokens(self, kept: Path) -> Path:
        """The token file that was kept, made again where it is not as it was written."""
        if self.shelf.has_rows(kept):
            return kept / ROWS
        self.shelf.drop()
        if not (self._folder / DONE).is_file():
            name = self.shelf.name
            self._run.note(f"{name}: the tokens in the cache were damaged and have been prepared again")
            self._pass().write(self._folder)
        return self._folder / ROWS

    def _finished(self, file: RowFile, folder: Path, *, making: bool) -> Prepared:
        """The rows with what is fed of them, and with what reads their texts again, if a rule asks."""
        training, outliers = self._settings()
        asked = self.shelf.answering
        return self._readable(_finish(file, folder, training, outliers, asked, self._work, making=making))

    def _settings(self) -> tuple[Training, Outliers | None]:
        """What the second pass looks at."""
        if self._split == "train":
            return self._job.training, self._job.data.outliers
        return of_evaluation(self._job.training), None

    def _on_cluster(self) -> Prepared | None:
        """The rows as tasks of a Ray cluster prepare them; None where they are not shared."""
        from ftcheck_plugins.cluster import preparing, second_pass

        folder, tokenizer, name = self._folder, self.shelf.tokenizer, _of_split(self._job, self._split)
        rows = preparing.rows_of(self._job, self._run, self._source, tokenizer, name, folder)
        if rows is None:
            return None
        about = json.loads((folder / DONE).read_text(encoding="utf-8"))
        training, outliers = self._settings()
        broken = [row for row, *_ in about["row_errors"]]
        fed = second_pass.fed(rows, training, outliers, about["format"], broken)
        return _made(rows, folder, about, fed, tokenizer)

    def _readable(self, made: Prepared) -> Prepared:
        """The rows in the files of this job, also where others with the same bytes were prepared."""
        rows, field = made.rows, self._job.training.dataset_text_field
        reader = RowStream(self._source, rows.records, rows.format, field, self._run)
        rows = replace(rows, files=self._source.files, reader=reader)
        return replace(made, rows=rows, first_pass=self.shelf.key)


def _stored(job: Job, run: Run, side: Any, split: str) -> Prepared:
    """The rows of a split of data.prepared, read now or by a worker before this one.

    `side` are the `Inputs` that open the tokenizer, or None: rows of which stop tokens are not known.
    """
    folder = _work(run) / of_json([run.policy, job.label, job.data.prepared, split])[7:23]
    tokenizer: Tokenizer | None = side.get("tokenizer") if side is not None else None
    if not (folder / DONE).is_file():
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        making.mkdir(parents=True, exist_ok=True)
        found = prepared_folder.find(job.data.prepared or "")
        FirstPass(job, run, found, split, tokenizer).write(making)
        making.rename(folder)
    training = job.training if split == prepared_folder.TRAIN else of_evaluation(job.training)
    made = _finish(RowFile(folder / ROWS), folder, training, None, tokenizer, _work(run), making=False)
    about = stored_rows(folder)
    return replace(made, rows=replace(made.rows, textless=about.textless), stored=about)


@dataclass
class _Pass:
    """The first pass: reads, checks and tokenises all rows into one Arrow file."""

    job: Job
    run: Run
    source: Source
    tokenizer: Tokenizer | None
    split: str
    found: Gathered = field(default_factory=Gathered)

    def write(self, folder: Path) -> None:
        """Do the pass; the folder appears whole or not at all."""
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        making.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            self._write(making, fast=True)
        except Differs as differs:
            # what was done is forgotten; from now on the trainer's own libraries do all the work
            self.found = Gathered(notes=[str(differs)])
            self._write(making, fast=False)
        self.found.save(making, self.source.files, self._sample(making))
        making.rename(folder)
        detail = f"{token_count(self.found.tokens)} tokens  {time.monotonic() - started:.1f} s"
        self._tell(finished=True, detail=detail)

    def _write(self, making: Path, *, fast: bool) -> None:
        rows = row_tokenizer(self.tokenizer, self.job.training, fast=fast)
        picks, text_field = self.source.picks, self.job.training.dataset_text_field
        first = picks.opening(self.source, offline=self.run.offline) if picks is not None else None
        opening = first.data if first is not None else None
        if opening is not None:
            self.found.opening = columns.kinds(opening, text_field)
        maker = BatchMaker(self.job, self.tokenizer, rows, first=opening)
        if rows is not None and files.size(self.source) >= processes.WORTH:
            rows.load_ahead()
        try:
            with RowWriter(making / ROWS) as writer:
                for batch in processes.made(self.source, maker, self.run):
                    self.found.add(batch, batch.columns["system"], len(batch.tokens.ids.flat))
                    writer.add(batch)
                    self._tell()
        finally:
            if rows is not None:
                rows.engine.close()

    def _tell(self, *, finished: bool = False, detail: str | None = None) -> None:
        task, seen = _task(self.job, self.split), self.found.seen
        self.run.report(Progress(task, seen, None, "rows", finished, detail))

    def _sample(self, making: Path) -> list[int] | None:
        """Rows, rows in all and seed of a sample; the rows' own numbers are written beside."""
        import numpy as np

        picks = self.source.picks
        found = picks.drawn(self.source, offline=self.run.offline) if picks is not None else None
        if picks is None or found is None:
            return None
        np.save(making / NUMBERS, found.numbers)
        return [len(found.numbers), found.of, picks.sampling.seed]


def _finish(
    file: RowFile,
    folder: Path,
    training: Training,
    outliers: Outliers | None,
    tokenizer: Tokenizer | None,
    work: Path,
    *,
    making: bool,
) -> Prepared:
    """The second pass, over the columns and the token file: what is fed, and its digest.

    It is known already where it was done before with the same settings; where the folder is in the making,
    it is written there.
    """
    about = json.loads((folder / DONE).read_text(encoding="utf-8"))
    known = folder / f"fed-{truncation_pass.settings_of(training, outliers)}.npz"
    fed = truncation_pass.read(known)
    if fed is None:
        desk = ScratchArrays(work)
        fed = _second_pass(file, about, training, outliers, tokenizer, desk)
        if making:
            fed.write(known)
    return _made(file, folder, about, fed, tokenizer)


def _second_pass(
    file: RowFile,
    about: dict[str, Any],
    training: Training,
    outliers: Outliers | None,
    tokenizer: Tokenizer | None,
    desk: ScratchArrays,
) -> Fed:
    """What is fed of all rows."""
    length = file.column("length")
    good = good_rows(len(length), (row for row, *_ in about["row_errors"]))
    limit = truncation_pass.limit_of(length, good, outliers)
    stretches, outlier = truncation_pass.sequences(length, good, outliers, limit, about["format"], desk)
    digest = LabelDigest()
    made = truncation_pass.feed(file, stretches, outlier, training, tokenizer, desk, digest)
    return Fed.of(made, digest.text())


def _made(
    file: Columns, folder: Path, about: dict[str, Any], fed: Fed, tokenizer: Tokenizer | None
) -> Prepared:
    """The rows as rules see them."""
    row_errors = {int(row): RowError(*said) for row, *said in about["row_errors"]}
    length = file.column("length")
    whole = None if row_errors or tokenizer is None else fed.digest
    sample = _drawn(about, whole)
    return Prepared(
        rows=replace(_rows(about, file, row_errors), sample=sample, numbers=_numbers(folder, sample)),
        length=length,
        kept=fed.kept,
        trained=fed.trained,
        trained_lost=file.column("trained") - fed.trained,
        bos=_bos(file, tokenizer),
        answer=file.column("answer"),
        boundary=file.column("boundary"),
        ends_in_stop=fed.ends_in_stop,
        stop_trained=fed.stop_trained,
        outlier=fed.outlier,
        used=fed.used,
        sequences=fed.sequences,
        row_errors=row_errors,
        digest=whole if sample is None else None,
        tokens=file,
        engine=about["engine"],
        masked=bool((file.column("trained") < length).any()),
    )


def _drawn(about: dict[str, Any], ids: str | None) -> RowSample | None:
    """As `_Pass._sample` wrote it."""
    said = about.get("sample")
    if said is None:
        return None
    rows, of, seed = said
    return RowSample(rows, of, seed, ids)


def _numbers(folder: Path, sample: RowSample | None) -> "NDArray[np.int64] | None":
    import numpy as np

    return np.load(folder / NUMBERS) if sample is not None else None


def _rows(about: dict[str, Any], file: Columns, row_errors: dict[int, RowError]) -> Rows:
    return Rows(
        files=tuple(about["files"]),
        file=file.column("file"),
        line=file.column("line"),
        offset=file.column("offset"),
        turns=file.column("turns"),
        records=file.records(),
        row_errors=row_errors,
        format=about["format"],
        system=file.column("system"),
        system_prompts=tuple(about["system_prompts"]),
        remarks={code: RowNumbers.of_text(found) for code, found in about["remarks"].items()},
        asked=file.column("asked"),
        said=file.column("said"),
        answered=file.column("answered"),
        spelled=file.column("spelled"),
        ending=file.column("ending"),
        marks={mark: RowNumbers.of_text(found) for mark, found in about["marks"].items()},
        notes=tuple(about["notes"]),
        key_sets=tuple(key_set(*one) for one in about["key_sets"]),
        opening=about["opening"],
    )


def _bos(file: Columns, tokenizer: Tokenizer | None) -> "NDArray[np.int8]":
    """BOS tokens at the start of each row (0, 1 or 2; more than two count as two)."""
    import numpy as np

    first, second = file.column("first"), file.column("second")
    bos = tokenizer.bos_token_id if tokenizer is not None else None
    if bos is None:
        return np.zeros(len(first), dtype=np.int8)
    begins = first == bos
    counted: NDArray[np.int8] = begins.view(np.int8) + (begins & (second == bos)).view(np.int8)
    return counted
