"""Some stored rows as flat arrays: their ids, what of them is in the loss, where each sequence begins.

A stored row is one sequence, or several that were packed into it. Sequences are told apart by TRL's
`seq_lengths`, by `position_ids` that begin again, by an `attention_mask` that numbers them (axolotl,
LLaMA-Factory's neat_packing), or, where the caller says so, by BOS or EOS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftcheck.label_digest import IGNORED
from ftcheck.plurals import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS, LABELS, POSITIONS, ATTENTION, LENGTHS = (
    "input_ids",
    "labels",
    "position_ids",
    "attention_mask",
    "seq_lengths",
)
ALWAYS, ASKED = "assistant_masks", "completion_mask"
"""Masks that TRL makes labels of where there are none: the second only with `completion_only_loss: true`."""
READ = (IDS, LABELS, POSITIONS, ATTENTION, LENGTHS, ALWAYS, ASKED)
"""Columns that are looked at."""
MOST_ID = (1 << 31) - 1
SHIFTED, IN_PLACE = 0.9, 0.5
"""Labels are shifted where so many of them are the next id, and fewer than so many are their own."""


@dataclass(frozen=True)
class FlatRows:
    """Sequences of some stored rows, one behind the other.

    `row` is the stored row of each sequence (index in the batch), `offset` where in it the sequence begins;
    `starts` has one entry more than there are sequences. `stored` are the tokens of each stored row. `errors`
    are rows that cannot be read, each a sequence without tokens. `other` and `padded` are sequences (indices)
    with a label that is another token, or with padding in the loss, `displaced` those of `other` most of
    whose labels are other tokens, `hidden` those beside tokens that attention_mask hides and that are no
    padding. `padding` counts tokens left out.
    """

    ids: "NDArray[np.int32]"
    mask: "NDArray[np.bool_]"
    starts: "NDArray[np.int64]"
    row: "NDArray[np.int64]"
    offset: "NDArray[np.int64]"
    stored: "NDArray[np.int64]"
    errors: Mapping[int, str] = field(default_factory=dict)
    other: Sequence[int] = ()
    displaced: Sequence[int] = ()
    padded: Sequence[int] = ()
    hidden: Sequence[int] = ()
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of a folder are read: which columns there are, what is known of their labels.

    `completion_only` says whether `completion_mask` counts; `shifted` None: found out from the first labels.
    `bos` is the id with which a sequence begins, `eos` the one after which it ends, where nothing else tells
    sequences apart.
    """

    columns: tuple[str, ...]
    completion_only: bool = False
    shifted: bool | None = None
    bos: int | None = None
    eos: int | None = None

    @property
    def apart(self) -> str | None:
        """What may tell sequences in one row apart: a column, BOS or EOS."""
        if self.bos is not None or self.eos is not None:
            return "BOS" if self.bos is not None else "EOS"
        return next((name for name in (LENGTHS, POSITIONS, ATTENTION) if name in self.columns), None)


def are_shifted(batch: Any, columns: Sequence[str]) -> bool | None:
    """Whether the labels of a batch stand one place to the left of their tokens; None: it cannot be told."""
    if LABELS not in columns:
        return False
    ids, labels = _Lists.of(batch, IDS), _Lists.of(batch, LABELS)
    if ids.lengths.tolist() != labels.lengths.tolist() or len(ids.flat) < 2:
        return None
    inside = _places(ids.lengths)[1:] > 0
    counted = inside & (labels.flat[:-1] != IGNORED)
    total = int(counted.sum())
    if not total:
        return None
    own = int((ids.flat[:-1] == labels.flat[:-1])[counted].sum()) / total
    following = int((ids.flat[1:] == labels.flat[:-1])[counted].sum()) / total
    return following >= SHIFTED and own < IN_PLACE


def unmarked(batch: Any, reading: Reading) -> bool:
    """Whether rows are all of one length, as packed ones are, and no column tells their sequences apart."""
    lengths = _Lists.of(batch, IDS).lengths
    if reading.apart == LENGTHS or len(lengths) < 2:
        return False
    if reading.apart == POSITIONS:
        positions = _Lists.of(batch, POSITIONS)
        flat = bool((positions.flat == _places(positions.lengths)).all())
    else:
        flat = reading.apart is None or int(_Lists.of(batch, ATTENTION).flat.max(initial=0)) <= 1
    return flat and bool((lengths[:-1] == lengths[0]).all())


def read(batch: Any, reading: Reading) -> FlatRows:
    """The sequences of a batch of stored rows."""
    import numpy as np

    lists = {name: _Lists.of(batch, name) for name in reading.columns if name in READ}
    errors = _errors(lists)
    good = np.ones(batch.num_rows, dtype=bool)
    good[list(errors)] = False
    if errors:
        lists = {name: one.only(good) for name, one in lists.items()}
    rows = _Rows(good.nonzero()[0], lists[IDS].lengths, lists[IDS].flat)
    labels = _labels(lists, reading, rows)
    if reading.shifted:
        rows, labels = _unshifted(rows, labels)
    made = _sequences(rows, labels, lists, reading)
    return _with_errors(made, errors, batch.num_rows, lists[IDS].lengths, good) if errors else made


@dataclass(frozen=True)
class _Rows:
    """Stored rows one behind the other; `number` is each row's in the batch."""

    number: "NDArray[np.int64]"
    lengths: "NDArray[np.int64]"
    ids: "NDArray[np.int64]"


@dataclass(frozen=True)
class _Lists:
    """A column of lists: the length of each, and all values one behind the other (int64)."""

    lengths: "NDArray[np.int64]"
    flat: "NDArray[np.int64]"
    missing: "NDArray[np.bool_]"

    @classmethod
    def of(cls, batch: Any, name: str) -> "_Lists":
        """Of a batch of rows; a null is a list of no values, marked as `missing`."""
        import numpy as np
        import pyarrow as pa

        column = batch.column(batch.schema.get_field_index(name)).cast(pa.large_list(pa.int64()))
        offsets = np.frombuffer(column.offsets.buffers()[1], dtype=np.int64)
        offsets = offsets[column.offsets.offset :][: len(column) + 1]
        lengths = np.diff(offsets)
        missing = np.zeros(len(column), dtype=bool)
        if column.null_count:
            missing[:] = np.array(column.is_null().to_pylist(), dtype=bool)
            lengths = np.where(missing, 0, lengths)
        flat = column.flatten()
        if flat.null_count:
            flat = flat.fill_null(-1)
        values = (
            np.frombuffer(flat.buffers()[1], dtype=np.int64) if len(flat) else np.zeros(0, dtype=np.int64)
        )
        return cls(lengths, values[flat.offset : flat.offset + len(flat)], missing)

    def only(self, rows: "NDArray[np.bool_]") -> "_Lists":
        """Those of some rows."""
        import numpy as np

        return _Lists(self.lengths[rows], self.flat[np.repeat(rows, self.lengths)], self.missing[rows])


def _errors(lists: "Mapping[str, _Lists]") -> dict[int, str]:
    """Rows that cannot be read: without ids, with ids that are none, with columns of several lengths."""
    import numpy as np

    ids = lists[IDS]
    found = {int(row): "the row has no tokens: input_ids is empty" for row in (ids.lengths == 0).nonzero()[0]}
    wrong = (ids.flat < 0) | (ids.flat > MOST_ID)
    for row in np.unique(_owners(ids)[wrong]).tolist():
        found[row] = "input_ids has a value that is no token id"
    for name, one in lists.items():
        if name in (IDS, LENGTHS):
            continue
        for row in (one.lengths != ids.lengths).nonzero()[0].tolist():
            there = "is null" if one.missing[row] else f"has {counted(int(one.lengths[row]), 'value')}"
            found.setdefault(row, f"{name} {there}, input_ids {ids.lengths[row]:,}")
    if LABELS in lists:
        labels = lists[LABELS]
        wrong = ((labels.flat < 0) & (labels.flat != IGNORED)) | (labels.flat > MOST_ID)
        for row in np.unique(_owners(labels)[wrong]).tolist():
            found.setdefault(row, "labels has a value that is neither a token id nor -100")
    return found


def _owners(lists: _Lists) -> "NDArray[np.int64]":
    """The row of each value."""
    import numpy as np

    return np.repeat(np.arange(len(lists.lengths)), lists.lengths)


def _labels(lists: "Mapping[str, _Lists]", reading: Reading, rows: _Rows) -> "NDArray[np.int64]":
    """The labels as they are stored, or as TRL makes them of masks."""
    import numpy as np

    if LABELS in lists:
        return lists[LABELS].flat
    labels = rows.ids
    for name in (ALWAYS, *((ASKED,) if reading.completion_only else ())):
        if name in lists:
            labels = np.where(lists[name].flat != 0, labels, IGNORED)
    return labels


def _unshifted(rows: _Rows, labels: "NDArray[np.int64]") -> "tuple[_Rows, NDArray[np.int64]]":
    """Labels at their own tokens. Where the last one of a row is a token, the row was stored without it."""
    import numpy as np

    ends = np.cumsum(rows.lengths)
    longer = labels[ends - 1] != IGNORED
    lengths = rows.lengths + longer
    firsts = np.cumsum(lengths) - lengths
    own = np.arange(len(rows.ids)) + np.repeat(firsts - (ends - rows.lengths), rows.lengths)
    ids, moved = (np.full(int(lengths.sum()), IGNORED, dtype=np.int64) for _ in range(2))
    ids[own] = rows.ids
    extra = firsts[longer] + lengths[longer] - 1
    ids[extra] = labels[ends[longer] - 1]
    last = np.zeros(len(rows.ids), dtype=bool)
    last[ends - 1] = True
    moved[own[~last] + 1] = labels[~last]
    moved[extra] = labels[ends[longer] - 1]
    return _Rows(rows.number, lengths, ids), moved


def _places(lengths: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """The place of each token in its row."""
    import numpy as np

    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _sequences(
    rows: _Rows, labels: "NDArray[np.int64]", lists: "Mapping[str, _Lists]", reading: Reading
) -> FlatRows:
    """The rows taken apart, without what is nothing but padding."""
    import numpy as np

    place, row = _places(rows.lengths), np.repeat(np.arange(len(rows.lengths)), rows.lengths)
    begins = (place == 0) | _begins(rows, place, lists, reading)
    in_loss = labels != IGNORED
    marked = _unattended(rows, lists)
    pads = (marked & ~in_loss) | _filling(rows, row, begins & (reading.apart is not None), in_loss)
    begins |= np.concatenate([[False], pads[:-1] != pads[1:]]) if len(pads) else begins
    kept = ~pads
    number = np.cumsum(begins) - 1
    _, first, which = np.unique(number[kept], return_index=True, return_inverse=True)
    sizes = np.bincount(which, minlength=len(first))
    other = np.bincount(which[(in_loss & (labels != rows.ids))[kept]], minlength=len(first))
    trained = np.bincount(which[in_loss[kept]], minlength=len(first))
    of_row = row[kept][first]
    return FlatRows(
        ids=rows.ids[kept].astype(np.int32),
        mask=in_loss[kept],
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        row=rows.number[of_row],
        offset=place[kept][first],
        stored=rows.lengths,
        other=other.nonzero()[0].tolist(),
        displaced=(2 * other > trained).nonzero()[0].tolist(),
        padded=np.unique(which[(marked & in_loss)[kept]]).tolist(),
        hidden=np.isin(of_row, _hiding(rows, row, marked & ~in_loss)).nonzero()[0].tolist(),
        padding=int(pads.sum()),
    )


def _begins(
    rows: _Rows, place: "NDArray[np.int64]", lists: "Mapping[str, _Lists]", reading: Reading
) -> "NDArray[np.bool_]":
    """Where a sequence begins inside a row."""
    import numpy as np

    found = np.zeros(len(rows.ids), dtype=bool)
    if reading.bos is not None:
        found = rows.ids == reading.bos
    elif reading.eos is not None:
        found[1:] = rows.ids[:-1] == reading.eos
    elif LENGTHS in lists:
        lengths = lists[LENGTHS]
        firsts = np.repeat(np.cumsum(rows.lengths) - rows.lengths, lengths.lengths)
        inner = _cumulated(lengths)
        found[(firsts + inner)[inner < np.repeat(rows.lengths, lengths.lengths)]] = True
    elif (positions := _beside(rows, lists, POSITIONS)) is not None:
        found[1:] = np.less_equal(positions[1:], positions[:-1])
    elif (attention := _beside(rows, lists, ATTENTION)) is not None:
        found[1:] = attention[1:] != attention[:-1]
    return found


def _beside(rows: _Rows, lists: "Mapping[str, _Lists]", name: str) -> "NDArray[np.int64] | None":
    """A column with a value for each token; None where there is none, or where tokens were added to rows."""
    found = lists.get(name)
    return found.flat if found is not None and len(found.flat) == len(rows.ids) else None


def _cumulated(lists: _Lists) -> "NDArray[np.int64]":
    """For each value the sum of those before it in its list."""
    import numpy as np

    before = np.cumsum(lists.flat) - lists.flat
    firsts = np.cumsum(lists.lengths) - lists.lengths
    some = lists.lengths > 0
    found: NDArray[np.int64] = before - np.repeat(before[firsts[some]], lists.lengths[some])
    return found


def _unattended(rows: _Rows, lists: "Mapping[str, _Lists]") -> "NDArray[np.bool_]":
    """Tokens whose attention mask is 0."""
    import numpy as np

    attention = _beside(rows, lists, ATTENTION)
    found: NDArray[np.bool_] = np.zeros(len(rows.ids), dtype=bool) if attention is None else attention == 0
    return found


def _hiding(rows: _Rows, row: "NDArray[np.int64]", marked: "NDArray[np.bool_]") -> "NDArray[np.int64]":
    """Stored rows whose attention mask hides more than one kind of token: padding is one token, repeated."""
    import numpy as np

    owners, ids = row[marked], rows.ids[marked]
    changes = (owners[1:] == owners[:-1]) & (ids[1:] != ids[:-1])
    return np.unique(owners[1:][changes])


def _filling(
    rows: _Rows, row: "NDArray[np.int64]", begins: "NDArray[np.bool_]", in_loss: "NDArray[np.bool_]"
) -> "NDArray[np.bool_]":
    """Padding that nothing marks: at a row's end one token repeated, each a sequence, none in the loss."""
    import numpy as np

    if not len(rows.ids):
        return begins
    ends = np.cumsum(rows.lengths)
    alone = begins & np.concatenate([begins[1:], [True]])
    same = alone & ~in_loss & (rows.ids == np.repeat(rows.ids[ends - 1], rows.lengths))
    last = np.full(len(rows.lengths), -1, dtype=np.int64)
    np.maximum.at(last, row[~same], (~same).nonzero()[0])
    found: NDArray[np.bool_] = same & (np.arange(len(rows.ids)) > np.repeat(last, rows.lengths))
    return found


def _with_errors(
    made: FlatRows,
    errors: Mapping[int, str],
    count: int,
    lengths: "NDArray[np.int64]",
    good: "NDArray[np.bool_]",
) -> FlatRows:
    """The same with an empty sequence for each row that cannot be read, in its place."""
    import numpy as np

    broken = np.array(sorted(errors), dtype=np.int64)
    row = np.concatenate([made.row, broken])
    order = np.argsort(row, kind="stable")
    sizes = np.concatenate([np.diff(made.starts), np.zeros(len(broken), dtype=np.int64)])[order]
    offset = np.concatenate([made.offset, np.zeros(len(broken), dtype=np.int64)])[order]
    now = np.empty(len(order), dtype=np.int64)
    now[order] = np.arange(len(order))
    stored = np.zeros(count, dtype=np.int64)
    stored[good] = lengths
    return FlatRows(
        ids=made.ids,
        mask=made.mask,
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        row=row[order],
        offset=offset,
        stored=stored,
        errors={int(now[len(made.row) + n]): errors[int(one)] for n, one in enumerate(broken)},
        other=now[list(made.other)].tolist(),
        displaced=now[list(made.displaced)].tolist(),
        padded=now[list(made.padded)].tolist(),
        hidden=now[list(made.hidden)].tolist(),
        padding=made.padding,
    )
