"""What is fed: the checked rows as a data set, cut as they were checked, packed as the policy says."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import InputError, TrainingError
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.prepared import Prepared
from ftcheck.label_digest import IGNORED, Digesting, LabelDigest, is_old, like
from ftcheck.packing.truncation import cutter, of_evaluation
from ftcheck.settings import Job, Training
from ftcheck_trainers.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


BATCH_ROWS, BATCH_TOKENS = 1000, 1 << 20
"""Examples, or tokens of them, that are held in memory and written at once."""


def fed_rows(prepared: Prepared, training: Training, folder: Path) -> Any:
    """A `datasets.Dataset` with input_ids and labels of each sequence, cut, in data order."""
    return _dataset(fed_sequences(prepared, training), folder / "rows.arrow", ("input_ids", "labels"))


def fed_sequences(prepared: Prepared, training: Training) -> Iterator[Mapping[str, Any]]:
    """input_ids and labels (int32) of each sequence, cut, in data order."""
    import numpy as np

    cut = cutter(training)
    for row, start, stop in prepared.sequences.tolist():
        ids = cut(prepared.tokens.ids(row)[start:stop])
        mask = cut(prepared.tokens.mask(row)[start:stop])
        yield {"input_ids": ids, "labels": np.where(mask, ids, IGNORED)}


def checked_as(checked: str | None, prepared: Prepared, training: Training) -> str | None:
    """The digest of prepared rows, of the form of the one that was checked."""
    if not is_old(checked) or prepared.digest is None:
        return prepared.digest
    digest = like(checked)
    for one in fed_sequences(prepared, training):
        digest.add(one["input_ids"], one["labels"])
    return digest.text()


def digest_of(rows: Any, digest: Digesting | None = None) -> str:
    """The digest over ids and labels of a data set, as preparation makes it; `digest` is another form."""
    digest = digest or LabelDigest()
    for batch in rows.with_format("numpy").iter(batch_size=1000):
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            digest.add(ids, labels)
    return digest.text()


def count(rows: Any) -> tuple[int, int]:
    """Tokens of a data set, and those in the loss."""
    import pyarrow.compute as pc

    tokens = trained = 0
    for batch in rows.with_format("arrow").iter(batch_size=1000):
        labels = pc.list_flatten(batch["labels"])
        tokens += len(labels)
        trained += pc.sum(pc.not_equal(labels, IGNORED)).as_py() or 0
    return tokens, trained


def arranged(rows: Any, training: Training, folder: Path, *, pack: bool) -> Any:
    """The rows as batches are drawn from them: packed or not, and shuffled before where TRL would."""
    if training.extra.get("shuffle_dataset"):
        rows = rows.shuffle(seed=training.seed)
    if not pack:
        return rows
    if training.max_length is None:
        raise TrainingError("training.packing needs training.max_length, the length of a block")
    # `wrapped` ignores where rows end, so there is nothing to plan.
    if training.packing_planner == "trl" or training.packing_strategy == "wrapped":
        from trl import pack_dataset

        with quiet_libraries():
            return pack_dataset(rows, training.max_length, strategy=training.packing_strategy)
    columns = ("input_ids", "labels", "seq_lengths")
    return _dataset(_planned_blocks(rows, training, training.max_length), folder / "blocks.arrow", columns)


def _planned_blocks(rows: Any, training: Training, capacity: int) -> Iterator[Mapping[str, Any]]:
    import numpy as np

    from ftcheck.packing.plans import assign, optimal

    pieces = _pieces(_lengths(rows), capacity)
    sizes = pieces[:, 2] - pieces[:, 1]
    table = rows.with_format("numpy")
    for chosen in assign(optimal(sizes, capacity), sizes, training.seed):
        taken = table[pieces[chosen, 0].tolist()]
        block: dict[str, Any] = {"seq_lengths": sizes[chosen]}
        for name in ("input_ids", "labels"):
            parts = zip(taken[name], pieces[chosen].tolist(), strict=True)
            block[name] = np.concatenate([values[start:stop] for values, (_, start, stop) in parts])
        yield block


def _lengths(rows: Any) -> "NDArray[np.int64]":
    import numpy as np
    import pyarrow.compute as pc

    table = rows.with_format("arrow")
    parts = [pc.list_value_length(b["input_ids"]).to_numpy() for b in table.iter(batch_size=1000)]
    return np.concatenate(parts).astype(np.int64)


def _pieces(lengths: "NDArray[np.int64]", capacity: int) -> "NDArray[np.int64]":
    """(row, start, stop): whole rows, and those longer than a block in pieces, as `bfd_split` makes them."""
    import numpy as np

    pieces = [
        (row, start, min(start + capacity, length))
        for row, length in enumerate(lengths.tolist())
        for start in range(0, length, capacity)
    ]
    return np.array(pieces, dtype=np.int64).reshape(-1, 3)


def _dataset(examples: Iterable[Mapping[str, Any]], path: Path, columns: Sequence[str]) -> Any:
    """Write examples to an Arrow file and map it: memory does not grow with the data."""
    from datasets import Dataset

    path.parent.mkdir(parents=True, exist_ok=True)
    write_examples(examples, path, dict.fromkeys(columns, "int32"))
    return Dataset.from_file(str(path))


def write_examples(
    examples: Iterable[Mapping[str, Any]],
    path: Path,
    columns: Mapping[str, str],
    written: Callable[[int], None] = lambda count: None,
) -> None:
    """Write lists of numbers as an Arrow stream, as datasets keeps them, batch by batch.

    `columns` are their names with the type of their numbers (`int32`); `written` is told after each batch how
    many examples there are by now.
    """
    import pyarrow as pa

    schema = pa.schema([(name, pa.list_(getattr(pa, kind)())) for name, kind in columns.items()])
    count = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in _batches(examples):
            arrays = [_lists([example[name] for example in batch], kind) for name, kind in columns.items()]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(batch)
            written(count)


def _lists(values: "Sequence[NDArray[Any]]", kind: str) -> Any:
    """Numbers of several examples as one array of lists."""
    import numpy as np
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum([len(one) for one in values])])
    flat = np.concatenate(values).astype(kind, copy=False)
    # Not by `pa.array`, which imports pandas where there is one.
    parts = [pa.py_buffer(np.ascontiguousarray(one)) for one in (offsets.astype(np.int32), flat)]
    numbers = pa.Array.from_buffers(getattr(pa, kind)(), len(flat), [None, parts[1]])
    places = pa.Array.from_buffers(pa.int32(), len(offsets), [None, parts[0]])
    return pa.ListArray.from_arrays(places, numbers)


def _batches(examples: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Not too many examples at once, and not too many tokens."""
    batch: list[Mapping[str, Any]] = []
    tokens = 0
    for example in examples:
        batch.append(example)
        tokens += len(example["input_ids"])
        if len(batch) == BATCH_ROWS or tokens >= BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
    if batch:
        yield batch


def eval_rows(job: Job, inputs: Inputs, folder: Path) -> Any:
    """The evaluation rows, made as the training rows are, not packed yet; None where nobody evaluates."""
    training = job.training
    if training.eval_strategy == "no":
        return None
    return fed_rows(evaluation_rows(job, inputs), of_evaluation(training), folder)


def evaluation_rows(job: Job, inputs: Inputs) -> Prepared:
    """The evaluation rows as they were prepared. Raises where there are none, or one that cannot be used."""
    prepared: Prepared | None = inputs.get("prepared_eval")
    if prepared is None:
        strategy = job.training.eval_strategy
        raise TrainingError(f"training.eval_strategy is {strategy}, but data.eval is not set")
    for row, trouble in sorted(prepared.row_errors.items())[:1]:
        raise InputError(f"{prepared.at(row)}: this row of data.eval cannot be used: {trouble.message}")
    return prepared


def eval_blocks(rows: Any, training: Training, folder: Path) -> Any:
    """The evaluation rows as batches are drawn from them; None of none."""
    if rows is None:
        return None
    return arranged(rows, training, folder, pack=of_evaluation(training).packing)
