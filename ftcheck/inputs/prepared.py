"""Rows of data, before and after the preparation, and their token ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

from ftcheck.errors import InputError
from ftcheck.inputs.columns import KeySet
from ftcheck.inputs.prepared_folder import StoredRows
from ftcheck.inputs.tokenizer import Message
from ftcheck.packing.truncation import cut_bounds
from ftcheck.records import Location
from ftcheck.sampling.row_sample import RowSample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ftcheck.settings import Training

ALL = slice(None)
BLOCK = 1 << 20
"""Sequences that are looked at at once: of very many, a whole column would fill the memory."""
CLOSED, OPEN = 1, 2
"""How a last answer ends: see `Rows.ending`."""


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with one row of data: a code (`encoding`, `json`, `schema`, `template`) and words.

    `content` is text of the row that belongs to it, such as a role or the names of its keys, or the words of
    a template that may quote it: shown only where `--show-content` asks.
    """

    code: str
    message: str
    fix: str | None = None
    column: int | None = None
    content: str | None = None


class RowReader(Protocol):
    """Reads what stands in rows."""

    def texts(self, row: int) -> Sequence[tuple[str, str]]:
        """Role and text of each message of a row (index from 0); see `Rows.texts`."""


@dataclass(frozen=True)
class Rows:
    """The rows of a data set before any tokenizer: columns over all rows, in data order.

    `file` (int32, index into `files`), `line` (int64, from 1; the row's position in files that have no
    lines), `offset` (int64, bytes), `turns` (int32, messages in the row), `row_errors` by row index (from 0).
    `records` are sha256 hex digests of each row's bytes. `format` is the layout that was found. `system`
    holds, for each row, an index into `system_prompts` (-1: none). `remarks` are rows that a trainer would
    take but hardly anybody means, by code: `role`, `null-content`, `empty-answer`, `no-answer`;
    `structured` are rows that hold more than texts, and `switched-off` and
    `switched-off-prompt` those with an answer (in the prompt) that a key of its message keeps out of the loss
    (`tables/message_switches.json`). `asked` and `said` (int64) are the fingerprints of what is asked in a
    row and of all that is said in it (`ftcheck.dedup.fingerprints`; 0: nothing), `answered` (int64) that of
    its last answer, and `spelled` (int64) a checksum of a short last answer as it is written, but for white
    space around it (0: long, or none). `ending` (int32) tells whether it stops mid-sentence (`OPEN`), that is
    in a letter, a digit or a comma of a line of prose, or not (`CLOSED`; 0: there is none). Codes of
    `remarks` that begin with `answer:` say what stands in answers. `marks` are the special tokens that stand
    in rows as text, each with its rows. `key_sets` are the keys of the rows; `opening` tells what kind of
    value each column has that TRL looks at, in the first row that could be read (`ftcheck.inputs.columns`).
    `reader` reads the rows' texts again: ask `texts`. `textless` says why there are none to read, where the
    rows are token ids from the start. `sample` is there where these rows were drawn from more, and `numbers`
    (int64) are then the indices that they have among all.
    """

    files: tuple[str, ...]
    file: NDArray[np.int32]
    line: NDArray[np.int64]
    offset: NDArray[np.int64]
    turns: NDArray[np.int32]
    records: Sequence[str]
    row_errors: Mapping[int, RowError]
    format: str
    system: NDArray[np.int32]
    system_prompts: tuple[str, ...] = ()
    remarks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    asked: NDArray[np.int64] = field(default_factory=lambda: _nothing())
    said: NDArray[np.int64] = field(default_factory=lambda: _nothing())
    marks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    answered: NDArray[np.int64] = field(default_factory=lambda: _nothing())
    spelled: NDArray[np.int64] = field(default_factory=lambda: _nothing())
    ending: NDArray[np.int32] = field(default_factory=lambda: _nothing())
    key_sets: tuple[KeySet, ...] = ()
    opening: Mapping[str, str] = field(default_factory=dict)
    reader: RowReader | None = field(default=None, repr=False, compare=False)
    textless: str | None = None
    sample: RowSample | None = None
    numbers: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of rows, the broken ones among them."""
        return len(self.line)

    @property
    def total(self) -> int:
        """Number of rows that there are, whether these are all or a sample of them."""
        return len(self) if self.sample is None else self.sample.of

    def texts(self, row: int) -> Sequence[tuple[str, str]]:
        """What stands in a row (index from 0): a role and a text for each message; nothing for a broken row.

        Plain text has the role `text`, or `prompt` and `completion`. Rows that are asked for in order are
        read in one stream. The report says that a check read content; what it finds names rows, and puts
        words into `Finding.content` alone. Raises `InputError` where the files changed since they were
        prepared.
        """
        if self.reader is None:
            raise InputError(self.textless or "the texts of these rows cannot be read")
        return self.reader.texts(row)

    def index(self, number: int) -> int | None:
        """Where the row is that is the `number`-th of all (from 1); None where it was not drawn."""
        if self.numbers is None:
            return number - 1 if 0 < number <= len(self) else None
        import numpy as np

        place = int(np.searchsorted(self.numbers, number - 1))
        return place if place < len(self) and int(self.numbers[place]) == number - 1 else None

    def at(self, row: int, column: int | None = None) -> Location:
        """The place of a row (index from 0): clickable, and named by its digest."""
        return Location(
            path=self.files[int(self.file[row])],
            line=int(self.line[row]),
            column=column or 1,
            row=(row if self.numbers is None else int(self.numbers[row])) + 1,
            record=self.records[row],
        )


def _nothing() -> NDArray[Any]:
    import numpy as np

    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Row:
    """One prepared row, as rules look at it: `index` from 0, lengths in tokens."""

    index: int
    length: int
    kept: int
    trained: int
    trained_lost: int
    at: Location


@dataclass(frozen=True)
class Prepared:
    """The rows as the trainer will feed them: columns over all rows, in data order.

    All arrays have one entry a row (int32 unless said): `length` tokens before truncation; `kept`
    tokens that are fed (0: dropped, broken); `trained` tokens in the loss; `trained_lost` tokens
    that would be in the loss but for truncation; `bos` number of BOS tokens; `answer` tokens of the
    last stretch in the loss before truncation; `ends_in_stop` (bool) the row's last token that is
    not blank is a stop token, before truncation; `stop_trained` (bool) a stop token is in the loss
    at the end of the fed row.
    `boundary` tokens of the prompt alone with which the row does not begin (0: the prompt is its prefix);
    the mask is off by so many.
    `outlier` (bool) marks rows that the policy's `outliers` changed or dropped; `used` (bool) marks
    rows that are fed. A row that TRL drops (fully masked, not packing) is not used.
    `sequences` are what is fed: a row index, a start and a stop into the row's tokens (int64, shape
    (n, 3)); one a used row, several where `outliers.action` is `chunk`.
    `digest` is sha256 over ids and labels of all sequences, in order; None if a row is in trouble, and if
    these rows are a `sample`.
    `stored` tells of rows that were read prepared: each is one sequence, packed ones taken apart.
    `first_pass` names what was read and tokenised, before outliers and truncation, where that can be told.
    """

    rows: Rows
    length: NDArray[np.int32]
    kept: NDArray[np.int32]
    trained: NDArray[np.int32]
    trained_lost: NDArray[np.int32]
    bos: NDArray[np.int8]
    answer: NDArray[np.int32]
    boundary: NDArray[np.int32]
    ends_in_stop: NDArray[np.bool_]
    stop_trained: NDArray[np.bool_]
    outlier: NDArray[np.bool_]
    used: NDArray[np.bool_]
    sequences: NDArray[np.int64]
    row_errors: Mapping[int, RowError]
    digest: str | None
    tokens: TokenStore
    engine: str = "tokenizers"
    masked: bool = True
    stored: StoredRows | None = None
    first_pass: str | None = None

    def alike(self, other: Prepared) -> bool:
        """Whether another preparation is the same in all that can be seen of it: settings that change what is
        fed of some rows do not always change what is fed of these.
        """
        import numpy as np

        told = self.first_pass is not None and self.digest is not None
        if not told or (self.first_pass, self.digest) != (other.first_pass, other.digest):
            return False
        if self.rows.files != other.rows.files:  # the same bytes in another place
            return False
        columns = (one.name for one in fields(self) if isinstance(getattr(self, one.name), np.ndarray))
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in columns)

    def __len__(self) -> int:
        """Number of rows, the broken ones among them."""
        return len(self.length)

    @property
    def sample(self) -> RowSample | None:
        """What these rows were drawn of; None: they are all there are."""
        return self.rows.sample

    def at(self, row: int) -> Location:
        """The place of a row (index from 0)."""
        return self.rows.at(row)

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence that will be fed, before truncation to max_length (outliers applied)."""
        stops: NDArray[np.int64] = self.sequences[:, 2] - self.sequences[:, 1]
        return stops

    def fed(self, max_length: int | None, *, cut: bool = True) -> NDArray[np.int64]:
        """Tokens of each sequence as fed: cut to `max_length` where the trainer cuts."""
        lengths = self.lengths()
        return lengths if max_length is None or not cut else lengths.clip(max=max_length)

    def fed_spans(self, training: Training, part: slice | NDArray[np.int64] = ALL) -> NDArray[np.int64]:
        """What is fed, after truncation: (row, start, stop) of each sequence, or of some, as `sequences`, but
        cut.
        """
        import numpy as np

        rows, begins, ends = self.sequences[part].T
        starts, stops = cut_bounds(training)(begins, ends)
        return np.stack([rows, starts.clip(min=begins), stops], axis=1)

    def first_spans(self, training: Training, rows: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Of these rows, those that are fed: from where to where the first sequence of each is."""
        import numpy as np

        known = self.sequences[:, 0]
        places = np.searchsorted(known, np.asarray(rows, dtype=np.int64))
        places = places[places < len(known)]
        spans = self.fed_spans(training, np.unique(places)).tolist()
        return {row: (start, stop) for row, start, stop in spans}

    def headless(self, training: Training) -> NDArray[np.bool_]:
        """Rows that are fed, but nowhere from their first token on (`keep_end` cuts the beginning away)."""
        import numpy as np

        whole = np.zeros(len(self), dtype=bool)
        for first in range(0, len(self.sequences), BLOCK):
            spans = self.fed_spans(training, slice(first, first + BLOCK))
            whole[spans[spans[:, 1] == 0, 0]] = True
        found: NDArray[np.bool_] = self.used & ~whole
        return found

    def rows_where(self, mask: NDArray[np.bool_]) -> Iterator[Row]:
        """The rows that `mask` (one bool a row) selects, in data order."""
        for index in mask.nonzero()[0].tolist():
            yield Row(
                index=index,
                length=int(self.length[index]),
                kept=int(self.kept[index]),
                trained=int(self.trained[index]),
                trained_lost=int(self.trained_lost[index]),
                at=self.at(index),
            )


class TokenStore(Protocol):
    """Token ids and loss mask of rows, before truncation; mapped from disk, not held in memory."""

    def ids(self, row: int) -> NDArray[np.int32]:
        """Token ids of a row (index from 0)."""

    def mask(self, row: int) -> NDArray[np.bool_]:
        """Which of them are in the loss."""

    def used_ids(self, *, trained: bool = False) -> NDArray[np.int64]:
        """Ids that occur in the rows, each once, in order; with `trained` only those in the loss."""

    def rows_with(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """The rows (indices from 0) that have any of these ids, in order."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One row's conversation, kept for rules that compare renderings.

    `ids` are its tokens before truncation; those from `start` up to `stop` are fed (`stop` None: all).
    """

    index: int
    messages: tuple[Message, ...]
    prompt_turns: int
    ids: tuple[int, ...]
    at: Location
    tools: Any = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None

    @property
    def fed(self) -> tuple[int, ...]:
        """The tokens that are fed."""
        return self.ids[self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows drawn from the data (seeded) plus the longest ones; `total` rows stood to choose from."""

    rows: tuple[SampleRow, ...]
    total: int
