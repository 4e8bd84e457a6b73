"""What a trainer is about to feed: the rows behind its data loader, as its collator makes batches of them."""

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
READ = 1000
"""Rows that are read at once."""
BATCHED = 64
"""Rows from the beginning that the collator makes batches of; as many are taken from all over the data."""


EACH_ONCE = (
    "SequentialSampler",
    "LengthGroupedSampler",
    "DistributedLengthGroupedSampler",
    "DistributedSampler",
)
"""Samplers of torch and transformers that draw each row once; those of several processes a share of them."""


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
        self._collate = getattr(loader, "collate_fn", None)
        self._batch = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 1
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
        inner = getattr(self._collate, "data_collator", self._collate)
        return getattr(inner, "__name__", type(inner).__name__)

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
        names = [one for one in (IDS, LABELS, MASK, POSITIONS, LENGTHS) if one in self.columns]
        table = self._dataset.select_columns(names).with_format("arrow")
        for batch in table.iter(batch_size=READ):
            columns = {name: _lists(batch[name]) for name in names}
            for values in zip(*columns.values(), strict=True):
                yield split(dict(zip(columns, values, strict=True)))

    def _alone(self, number: int) -> list[Tokens]:
        """The sequences of one row, as the collator makes them of it alone."""
        return split(_first(self._collated([number])))

    def _row(self, number: int) -> list[Tokens]:
        if not self.tokenised:
            return self._alone(number)
        row = self._dataset[number]
        return split({name: _array(row[name]) for name in row if name in self.columns})

    def batches(self) -> Iterator[tuple[int, Tokens, Tokens]]:
        """Of some rows: their number, their tokens, and what the collator makes of them in a batch.

        The first `BATCHED` rows, and as many spread over all. Raises `Unreadable`.
        """
        for part in _parts(len(self), self._batch):
            rows = [_joined(self._row(number)) for number in part]
            made = self._unbatched(part, [len(row.ids) for row in rows])
            yield from zip(part, rows, made, strict=True)

    def _collated(self, part: Sequence[int]) -> dict[str, Any]:
        if self._collate is None:
            raise Unreadable("the data loader has no collate_fn")
        try:
            batch = self._collate([self._dataset[number] for number in part])
        except Exception as error:
            raise Unreadable(f"{self.collator} fails on row {part[0] + 1}: {one_line(error)}") from error
        if not isinstance(batch, Mapping) or IDS not in batch or batch.get(LABELS) is None:
            raise Unreadable(f"{self.collator} makes batches without input_ids or labels")
        names = (IDS, LABELS, MASK, POSITIONS)
        made = {name: _array(batch[name]) for name in names if batch.get(name) is not None}
        return {name: values for name, values in made.items() if values.ndim == 2}

    def _unbatched(self, part: Sequence[int], lengths: Sequence[int]) -> list[Tokens]:
        """The rows of a batch: padded to one length, or behind one another in a single row."""
        import numpy as np

        made = self._collated(part)
        if len(made[IDS]) == len(part):
            rows = [_unpadded({name: values[n] for name, values in made.items()}) for n in range(len(part))]
            return [_without_rest(row, n) for row, n in zip(rows, lengths, strict=True)]
        flat = _without_rest(Tokens(made[IDS].reshape(-1), made[LABELS].reshape(-1)), sum(lengths))
        ends = np.cumsum(lengths)[:-1]
        parts = zip(np.split(flat.ids, ends), np.split(flat.labels, ends), strict=True)
        return [Tokens(*row) for row in parts]


def need_all_rows_drawn(loader: Any) -> None:
    """Raise `Unreadable` where an epoch is not each row once, in some order."""
    from torch.utils.data import RandomSampler

    sampler, count = _sampler(loader), len(loader.dataset)
    if sampler is None or type(sampler).__name__ in EACH_ONCE:
        return
    if isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == count:
        return
    drawn = list(_numbers(islice(iter(sampler), count + 1)))
    once = len(set(drawn)) == len(drawn)
    if not once or (len(drawn) != count and ranks.count() == 1):
        name, different = type(sampler).__name__, len(set(drawn))
        raise Unreadable(f"the sampler {name} draws {different} of the {count} rows in {len(drawn)} draws")


def _numbers(drawn: Iterable[Any]) -> Iterator[int]:
    """The numbers of rows that are drawn one by one or in batches."""
    for one in drawn:
        yield from one if isinstance(one, list | tuple) else (one,)


def _sampler(loader: Any) -> Any:
    """The sampler of single rows below those of batches and processes, where one can be found."""
    found = getattr(loader, "batch_sampler", None) or getattr(loader, "sampler", None)
    while found is not None:
        inner = getattr(found, "batch_sampler", None) or getattr(found, "sampler", None)
        if inner is None:
            return found
        found = inner
    return None


def identity(dataset: Any) -> Any:
    """What tells a data set from another: the fingerprint of one that has one, which copies of it share."""
    return getattr(dataset, "_fingerprint", dataset)


def _parts(count: int, size: int) -> Iterator[list[int]]:
    spread = range(BATCHED, count, max(1, (count - BATCHED) // BATCHED))
    for numbers in (range(min(count, BATCHED)), list(spread)[:BATCHED]):
        for start in range(0, len(numbers), size):
            yield list(numbers[start : start + size])


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
    return Tokens(_unmasked(values[IDS], values), _unmasked(values[LABELS], values))


def _unmasked(column: "NDArray[np.int64]", values: Mapping[str, "NDArray[np.int64]"]) -> "NDArray[np.int64]":
    """A row's values where its attention mask, if it has one, is not 0."""
    mask = values.get(MASK)
    return column if mask is None or len(mask) != len(column) else column[mask != 0]


def _without_rest(row: Tokens, length: int) -> Tokens:
    """A row without what was put behind it, if nothing of that is in the loss: padding without a mask."""
    rest = row.labels[length:]
    return row if (rest != IGNORED).any() else Tokens(row.ids[:length], row.labels[:length])


def _first(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[0] for name, values in batch.items()}


def _joined(parts: Sequence[Tokens]) -> Tokens:
    """A block's sequences behind one another; what begins one is no target, and has no label."""
    import numpy as np

    labels = [one.labels.copy() for one in parts]
    for one in labels:
        one[:1] = IGNORED
    return Tokens(np.concatenate([one.ids for one in parts]), np.concatenate(labels))


def _array(values: Any) -> "NDArray[np.int64]":
    import numpy as np

    return np.asarray(values.tolist() if hasattr(values, "tolist") else values, dtype=np.int64)


def _lists(column: Any) -> "list[NDArray[np.int64]]":
    """The lists of an Arrow column as arrays."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).to_numpy()
    values = pc.list_flatten(column).to_numpy().astype(np.int64)
    return np.split(values, np.cumsum(lengths)[:-1]) if len(lengths) else []
