"""Prepares rows a second time, without the keys that Arrow fills with null, and counts what they cost."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from ftcheck.errors import InputError
from ftcheck.inputs.arrow_nulls import NullTokens, fills_keys
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import Prepared, Rows
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.settings import Job
from ftcheck_plugins.model.tokenizer import ChatTokenizer
from ftcheck_plugins.preparation.batches import batches
from ftcheck_plugins.preparation.preparation import source_of
from ftcheck_plugins.preparation.row_stream import unchanged
from ftcheck_plugins.preparation.trl_tokenize import RowTokenizer
from ftcheck_plugins.reading import arrow_nulls as nulls
from ftcheck_plugins.reading import files, row_formats
from ftcheck_plugins.reading.row_formats import Example

MOST = 20_000
"""Of more rows than this, so many are prepared a second time."""
MOST_KEYS = 100
"""So many names of keys are kept."""


@loader("arrow_nulls")
def arrow_nulls(job: Job, run: Run, prepared: Prepared, tokenizer: Tokenizer) -> NullTokens | None:
    """What the nulls of Arrow cost; None where no row has any. Raises `InputError`."""
    found = filled(prepared.rows, by_command=job.trainer.use == "command")
    rows = [row for row in found if prepared.used[row]]
    if not rows:
        return None
    if not isinstance(tokenizer, ChatTokenizer):
        raise InputError(f"preparation needs a transformers tokenizer, not {tokenizer!r}")
    chosen = rows[:: max(1, -(-len(rows) // MOST))]
    return _compared(job, run, prepared, RowTokenizer(tokenizer, job.training), rows, chosen)


def filled(rows: Rows, *, by_command: bool) -> list[int]:
    """Rows with nulls inside messages or tools from a source that fills absent keys.

    A command reads all files with load_dataset. A null that somebody wrote into JSON lines is meant.
    """
    found = rows.remarks.get("nested-nulls", ())
    files = [by_command or fills_keys(name) for name in rows.files]
    return [row for row in found if files[int(rows.file[row])]]


def _compared(
    job: Job,
    run: Run,
    prepared: Prepared,
    tokenizer: RowTokenizer,
    rows: Sequence[int],
    chosen: Sequence[int],
) -> NullTokens:
    looked = other = tokens = trained = meant = 0
    first: int | None = None
    keys: dict[str, None] = {}
    for row, data, length, in_loss in _again(job, run, prepared, tokenizer, chosen):
        looked += 1
        before = int(prepared.trained[row]) + int(prepared.trained_lost[row])
        more, more_trained = int(prepared.length[row]) - length, before - in_loss
        if more or more_trained:
            other, tokens, trained = other + 1, tokens + more, trained + more_trained
            meant += nulls.may_be_meant(data)
            first = row if first is None else first
            keys.update(dict.fromkeys(_null_keys(data) if len(keys) < MOST_KEYS else ()))
    return NullTokens(
        rows=len(rows),
        first=rows[0],
        looked=looked,
        other=other,
        first_other=first,
        tokens=tokens,
        trained=trained,
        keys=tuple(keys)[:MOST_KEYS],
        meant=meant,
    )


def _again(
    job: Job, run: Run, prepared: Prepared, tokenizer: RowTokenizer, chosen: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any], int, int]]:
    """The chosen rows with their length and trained tokens without nulls."""
    table = prepared.rows
    wanted = [(row, int(table.file[row]), int(table.offset[row])) for row in chosen]
    source = source_of(job, "train", run)
    place = iter(chosen)
    for raws in batches(files.rows_at(source, wanted, offline=run.offline)):
        some = list(islice(place, len(raws)))
        if not unchanged(raws, [table.records[row] for row in some]):
            raise _changed(job)
        read = [(row, raw.data or {}) for row, raw in zip(some, raws, strict=True)]
        examples = [(row, data, _example(job, table, data)) for row, data in read]
        good = [(row, data, one) for row, data, one in examples if one is not None]
        made = tokenizer.batch([one for _, _, one in good])
        edges = made.ids.starts.tolist()
        for number, (row, data, _) in enumerate(good):
            if number not in made.row_errors:
                start, stop = edges[number], edges[number + 1]
                in_loss = int(made.mask[start:stop].sum()) if made.mask is not None else stop - start
                yield row, data, stop - start, in_loss

    if next(place, None) is not None:
        raise _changed(job)


def _changed(job: Job) -> InputError:
    return InputError(f"data.train of job {job.label} changed after it was prepared: run again")


def _example(job: Job, table: Rows, data: dict[str, Any]) -> Example | None:
    made = row_formats.example(nulls.dropped(data), table.format, job.training.dataset_text_field)
    return made if isinstance(made, Example) else None


def _null_keys(data: dict[str, Any]) -> Iterator[str]:
    """Names of the keys that dropping nulls takes away, in order."""
    for name in nulls.MESSAGES:
        turns = data.get(name)
        for turn in turns if isinstance(turns, list) else ():
            for value in turn.values() if isinstance(turn, dict) else ():
                yield from _in(value)
    yield from _in(data.get("tools"))


def _in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if one is None:
                yield str(key)
            else:
                yield from _in(one)
    elif isinstance(value, list):
        for one in value:
            yield from _in(one)
