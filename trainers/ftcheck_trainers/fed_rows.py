"""What a trainer is about to feed: the rows behind its data loader, as its collator makes batches of them.

The label of a row's first token is not looked at: nothing predicts it but padding, where that is on the left.
"""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ftcheck import ranks
from ftcheck.label_digest import IGNORED
from ftcheck_trainers.failure_messages import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS, LABELS, MASK, POSITIONS, LENGTHS = (
    "input_ids",
    "labels",
    "attention_mask",
    "position_ids",
    "seq_lengths",
)
NAMES = (IDS, LABELS, MASK, POSITIONS, LENGTHS)
"""What is read of a row or a batch."""
READ = 1000
"""Rows that are read at once."""
BATCHED = 64
"""Rows from the beginning that a library's collator makes batches of; as many are taken from all over."""
LIBRARIES = frozenset({"torch", "transformers", "trl"})
"""Their collators do the same with each row; anybody else's may cut a single one, and is given them all."""
BEGINS = (POSITIONS, "cu_seq_lens_q")
"""What tells the model where in a row of several sequences each begins."""

EACH_ONCE = (
    "SequentialSampler",
    "LengthGroupedSampler",
    "DistributedLengthGroupedSampler",
    "DistributedSampler",
)
"""Samplers of torch and transformers that draw each row once; those of several processes a share of them."""
SHUFFLING = ("RandomSampler", "SeedableRandomSampler")
"""Those of torch and accelerate that do so unless they replace what they drew, or stop early."""
PORTIONING = ("BatchSampler", "BatchSamplerShard", "SkipBatchSampler")
"""Those of torch and accelerate that draw what the sampler below them draws, in batches."""


class Unreadable(Exception):
    """What is fed cannot be told; the message says why."""


class Tokens(NamedTuple):
    """One sequence: its ids, and its labels (`IGNORED`: not in the loss)."""

    ids: "NDArray[np.int64]"
    labels: "NDArray[np.int64]"


class FedRows:
    """The rows behind a data loader, in the order of the data set, not in that of its sampler."""

    def __init__(self, loader: Any) -> None:
        """Raises `Unreadable` for rows that stream: they cannot be looked at twice."""
        from torch.utils.data import IterableDataset

        self._dataset: Any = getattr(loader, "dataset", None)
        if self._dataset is None:
            kind = type(loader).__name__
            raise Unreadable(f"{kind} has no dataset; verify a trainer, or a DataLoader of torch")
        self._collate = getattr(loader, "collate_fn", None)
        batches = getattr(loader, "batch_sampler", None)
        self._batch = getattr(loader, "batch_size", None) or getattr(batches, "batch_size", None) or 1
        streams = isinstance(self._dataset, IterableDataset) or not hasattr(self._dataset, "__getitem__")
        if streams or not hasattr(self._dataset, "__len__"):
            kind = type(self._dataset).__name__
            raise Unreadable(
                f"the rows stream ({kind}), and what is to come cannot be compared; load them as a map-style"
                " data set"
            )

    def __len__(self) -> int:
        """Rows of the data set: packed blocks, where it is packed."""
        return len(self._dataset)

    @property
    def collator(self) -> str:
        """The collator's name."""
        return getattr(self._inner, "__name__", type(self._inner).__name__)

    @property
    def _inner(self) -> Any:
        """The collator without the one of transformers that removes columns before."""
        return getattr(self._collate, "data_collator", self._collate)

    @property
    def columns(self) -> frozenset[str]:
        """The columns that can be read as they lie; none where rows are made when they are asked for."""
        names, form = getattr(self._dataset, "column_names", None), getattr(self._dataset, "format", None)
        if not isinstance(names, list) or not isinstance(form, Mapping) or form.get("type") == "custom":
            return frozenset()
        return frozenset(names) & frozenset(form.get("columns") or names)

    @property
    def tokenised(self) -> bool:
        """Whether ids and labels stand in columns; else the collator makes them."""
        return {IDS, LABELS} <= self.columns

    @property
    def packed(self) -> bool:
        """Whether rows are blocks of several sequences that say where each begins."""
        return bool({LENGTHS, POSITIONS} & self.columns)

    def sequences(self) -> Iterator[Tokens]:
        """All sequences; those of a packed block one by one. Raises `Unreadable`."""
        for row in self._rows():
            yield from row

    def _rows(self) -> Iterator[list[Tokens]]:
        if not self.tokenised:
            for number in range(len(self)):
                yield self._alone(number)
            return
        names, number = self._names, 0
        table = self._dataset.select_columns(names).with_format("arrow")
        for batch in table.iter(batch_size=READ):
            columns = [_lists(name, batch[name]) for name in names]
            for values in zip(*columns, strict=True):
                yield _of_row(number, dict(zip(names, values, strict=True)))
                number += 1

    @property
    def _names(self) -> list[str]:
        """The columns that are read."""
        return [one for one in NAMES if one in self.columns]

    def _alone(self, number: int) -> list[Tokens]:
        """The sequences of one row, as the collator makes them of it alone."""
        return _of_row(number, _each(self._collated([number]))[0])

    def _row(self, number: int) -> list[Tokens]:
        if not self.tokenised:
            return self._alone(number)
        row = self._dataset[number]
        return _of_row(number, {name: _array(name, row[name]) for name in self._names})

    def batches(self) -> Iterator[tuple[int, Tokens, Tokens]]:
        """Of some rows: their number, their tokens, and what the collator makes of them in a batch.

        The first `BATCHED` rows, and as many spread over all; every row where the collator is no library's
        and did not make the rows itself. Raises `Unreadable`.
        """
        some = not self.tokenised or self._is_of_a_library
        for part in _parts(len(self), self._batch, some=some):
            rows = [self._row(number) for number in part]
            yield from zip(part, map(_joined, rows), self._unbatched(part, rows), strict=True)

    @property
    def _is_of_a_library(self) -> bool:
        return str(getattr(self._inner, "__module__", "")).partition(".")[0] in LIBRARIES

    def _collated(self, part: Sequence[int]) -> dict[str, Any]:
        if self._collate is None:
            raise Unreadable("the data loader has no collate_fn")
        try:
            batch = self._collate([self._dataset[number] for number in part])
        except Exception as error:
            raise Unreadable(f"{self.collator} fails on row {part[0] + 1}: {one_line(error)}") from error
        if not isinstance(batch, Mapping) or batch.get(IDS) is None or batch.get(LABELS) is None:
            raise Unreadable(f"{self.collator} makes batches without input_ids or labels")
        names = {name for name in (*NAMES, *BEGINS) if batch.get(name) is not None}
        if getattr(batch.get(MASK), "ndim", 2) > 2:  # one for each pair of tokens leaves none of them out
            names -= {MASK}
        made = {name: _array(name, batch[name]) for name in names}
        shape, labels = made[IDS].shape, made[LABELS].shape
        if len(shape) != 2 or shape != labels:
            raise Unreadable(f"{self.collator} makes input_ids of shape {shape} and labels of shape {labels}")
        return made

    def _unbatched(self, part: Sequence[int], rows: Sequence[Sequence[Tokens]]) -> list[Tokens]:
        """The rows of a batch: padded to one length, or behind one another in a single row."""
        import numpy as np

        made = self._collated(part)
        lengths = [sum(len(one.ids) for one in row) for row in rows]
        padded = len(made[IDS]) == len(part)
        if (not padded or any(len(row) > 1 for row in rows)) and not set(BEGINS) & set(made):
            raise Unreadable(
                f"{self.collator} puts sequences behind one another, and neither position_ids nor"
                " cu_seq_lens_q say where each begins"
            )
        if padded:
            found = []
            for number, length, values in zip(part, lengths, _each(made), strict=True):
                with _named(number):
                    found.append(_without_rest(_unpadded(values), length))
            return found
        flat = _without_rest(Tokens(made[IDS].reshape(-1), made[LABELS].reshape(-1)), sum(lengths))
        ends = np.cumsum(lengths)[:-1]
        if (flat.labels[ends[ends < len(flat.labels)]] != IGNORED).any():
            raise Unreadable(
                f"{self.collator} leaves the first token of a row in the loss, behind another row"
            )
        parts = zip(np.split(flat.ids, ends), np.split(flat.labels, ends), strict=True)
        return [Tokens(*row) for row in parts]


def need_all_rows_drawn(loader: Any) -> None:
    """Raise `Unreadable` where an epoch is not each row once, in some order; `drop_last` may drop a rest."""
    sampler, count = _sampler(loader), len(loader.dataset)
    if sampler is None or _draws_each_once(sampler, count):
        return
    drawn = list(_numbers(islice(iter(_copied(sampler, loader.dataset)), count + 1)))
    once = len(set(drawn)) == len(drawn)
    rest = getattr(sampler, "batch_size", 1) - 1 if getattr(sampler, "drop_last", False) else 0
    if not once or (ranks.count() == 1 and not count - rest <= len(drawn) <= count):
        name, different = type(sampler).__name__, len(set(drawn))
        raise Unreadable(f"the sampler {name} draws {different} of the {count} rows in {len(drawn)} draws")


def _draws_each_once(sampler: Any, count: int) -> bool:
    """Whether it does so by what it is; several processes share what some draw."""
    name = type(sampler).__name__
    if name in SHUFFLING:
        return not sampler.replacement and sampler.num_samples == count
    return name in EACH_ONCE and (ranks.count() > 1 or len(sampler) == count)


def _copied(sampler: Any, dataset: Any) -> Any:
    """A copy to draw from, where one can be made: the training must find the sampler as it was."""
    try:
        return copy.deepcopy(sampler, {id(dataset): dataset})
    except Exception:
        return sampler


def _numbers(drawn: Iterable[Any]) -> Iterator[int]:
    """The numbers of rows that are drawn one by one or in batches."""
    import numpy as np

    for one in drawn:
        yield from np.ravel(one).tolist()


def _sampler(loader: Any) -> Any:
    """The sampler below those that draw the same in batches or for processes, where one can be found."""
    found = _below(loader)
    while type(found).__name__ in PORTIONING:
        found = _below(found)
    return found


def _below(drawing: Any) -> Any:
    """The sampler of batches or of rows that a loader or a sampler has."""
    batches = getattr(drawing, "batch_sampler", None)
    return getattr(drawing, "sampler", None) if batches is None else batches


def identity(dataset: Any) -> Any:
    """What tells a data set from another: the fingerprint of one that has one, which copies of it share."""
    return getattr(dataset, "_fingerprint", dataset)


def _parts(count: int, size: int, *, some: bool) -> Iterator[list[int]]:
    """Numbers of rows in batches: of all rows, or of `some`."""
    if not some:
        yield from (list(range(start, min(start + size, count))) for start in range(0, count, size))
        return
    spread = range(BATCHED, count, max(1, (count - BATCHED) // BATCHED))
    for numbers in (range(min(count, BATCHED)), list(spread)[:BATCHED]):
        for start in range(0, len(numbers), size):
            yield list(numbers[start : start + size])


@contextlib.contextmanager
def _named(number: int) -> Iterator[None]:
    """Say which row cannot be read."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"row {number + 1}: {error}") from error


def _of_row(number: int, values: Mapping[str, "NDArray[np.int64]"]) -> list[Tokens]:
    with _named(number):
        return split(values)


def split(values: Mapping[str, "NDArray[np.int64]"]) -> list[Tokens]:
    """The sequences of one row: by `seq_lengths`, else where `position_ids` begin anew; padding left out."""
    import numpy as np

    row, positions = _unpadded(values), values.get(POSITIONS)
    if values.get(LENGTHS) is not None:
        starts = np.cumsum(values[LENGTHS])[:-1]
    elif positions is not None:
        starts = (_unmasked(positions, values)[1:] == 0).nonzero()[0] + 1
    else:
        return [row]
    parts = zip(np.split(row.ids, starts), np.split(row.labels, starts), strict=True)
    return [Tokens(*one) for one in parts]


def _unpadded(values: Mapping[str, "NDArray[np.int64]"]) -> Tokens:
    ids, labels, mask = values[IDS], values[LABELS], values.get(MASK)
    if ids.ndim != 1 or ids.shape != labels.shape:
        raise Unreadable(f"input_ids of shape {ids.shape} and labels of shape {labels.shape}")
    if mask is not None and len(mask) == len(ids):
        padding = ((mask[1:] == 0) & (labels[1:] != IGNORED)).nonzero()[0]
        if len(padding):
            raise Unreadable(f"token {padding[0] + 2} is in the loss although attention_mask leaves it out")
    return Tokens(_unmasked(ids, values), _unmasked(labels, values))


def _unmasked(column: "NDArray[np.int64]", values: Mapping[str, "NDArray[np.int64]"]) -> "NDArray[np.int64]":
    """A row's values where its attention mask, if it has one, is not 0."""
    mask = values.get(MASK)
    return column if mask is None or len(mask) != len(column) else column[mask != 0]


def _without_rest(row: Tokens, length: int) -> Tokens:
    """A row without what was put behind it, if nothing of that is in the loss: padding without a mask."""
    rest = row.labels[length:]
    return row if (rest != IGNORED).any() else Tokens(row.ids[:length], row.labels[:length])


def _each(batch: Mapping[str, "NDArray[np.int64]"]) -> "list[dict[str, NDArray[np.int64]]]":
    """The rows of a batch; what has no value for each of their tokens is left out."""
    named = {name: values for name, values in batch.items() if values.shape == batch[IDS].shape}
    return [{name: values[number] for name, values in named.items()} for number in range(len(batch[IDS]))]


def _joined(parts: Sequence[Tokens]) -> Tokens:
    """A block's sequences behind one another; what begins one is no target, and has no label."""
    import numpy as np

    labels = [one.labels.copy() for one in parts]
    for one in labels:
        one[:1] = IGNORED
    return Tokens(np.concatenate([one.ids for one in parts]), np.concatenate(labels))


def _array(name: str, values: Any) -> "NDArray[np.int64]":
    import numpy as np

    try:
        return np.asarray(values.tolist() if hasattr(values, "tolist") else values, dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise Unreadable(f"{name} are no whole numbers: {one_line(error)}") from error


def _lists(name: str, column: Any) -> "list[NDArray[np.int64]]":
    """The lists of an Arrow column as arrays."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        lengths, values = pc.list_value_length(column), pc.list_flatten(column)
    except pa.ArrowNotImplementedError as error:
        raise Unreadable(f"the column {name} contains no lists, but {column.type}") from error
    if lengths.null_count or values.null_count:
        raise Unreadable(f"the column {name} has missing values")
    found = values.to_numpy().astype(np.int64)
    return np.split(found, np.cumsum(lengths.to_numpy())[:-1]) if len(lengths) else []
