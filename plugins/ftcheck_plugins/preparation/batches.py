"""What the first pass makes of some rows: columns, token ids, and what is to be said of single rows.

A batch knows nothing of the rows before it, so that several processes can make batches of one file.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.dedup import fingerprints
from ftcheck.inputs import columns
from ftcheck.inputs.columns import Keys
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.settings import Job
from ftcheck_plugins.preparation import answer_texts
from ftcheck_plugins.preparation.trl_tokenize import RowTokenizer, Tokens, nothing
from ftcheck_plugins.reading import row_formats, tool_rows
from ftcheck_plugins.reading.raw_rows import RawRow
from ftcheck_plugins.reading.row_formats import Example, Gist

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS = 1_000
"""Rows of one batch."""
PREFERENCE = "the rows are preference data (chosen and rejected answers), which SFT cannot train on"
FOR_PREFERENCE = (
    "train with a preference trainer (DPO), or write the chosen answers as prompt + completion or messages"
)
IDS_ALREADY = "the rows are token ids already (input_ids), which data.train does not read"
FOR_IDS = "name their file or folder in data.prepared; .jsonl files as Parquet"
NO_LAYOUT = (
    "messages | prompt + completion | text | conversations | instruction + output;"
    " set data.format, or training.dataset_text_field"
)

NO_GIST = Gist([], (), (), ())
"""That of a row that cannot be read."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows that follow one another, prepared. Rows are named by their index in the batch.

    `columns` hold one entry a row: `file`, `line`, `offset`, `turns`, `system` (an index into `prompts`, -1
    for none), the fingerprints `asked`, `said` and `answered`, and `spelled` and `ending` (see `Rows`);
    `records` the sha256 of each row, 32 bytes each. `notes` say why an engine that was tried was left.
    `key_sets` are the sets of keys that rows have, each with its number of rows and the first; `opening` what
    kinds of values the first row has that could be read (`ftcheck.inputs.columns`).
    """

    columns: "dict[str, NDArray[np.int64]]"
    records: bytes
    tokens: Tokens
    layout: str | None
    row_errors: dict[int, RowError]
    remarks: dict[str, list[int]]
    marks: dict[str, list[int]]
    prompts: tuple[str, ...]
    engine: str
    notes: tuple[str, ...]
    key_sets: dict[Keys, list[int]]
    opening: dict[str, str] | None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.columns["line"])


class BatchMaker:
    """Makes batches of one job's rows, all of one layout: the first row's, if the policy names none."""

    def __init__(
        self,
        job: Job,
        tokenizer: Tokenizer | None,
        rows: RowTokenizer | None,
        layout: str | None = None,
        first: Mapping[str, Any] | None = None,
    ) -> None:
        """`rows` tokenises for `tokenizer`; both None: rows without tokens. `layout` is that of the rows
        before these, where it is known; `first` is the first row of all where that may be none of those that
        follow.
        """
        self._text_field = job.training.dataset_text_field
        self._layout = layout if job.data.format == "auto" else job.data.format
        if self._layout is None and first is not None:
            self._layout = row_formats.detect(first, self._text_field)
        self._rows = rows
        self._marks = _Marks(tokenizer) if tokenizer is not None else None

    @property
    def layout(self) -> str | None:
        """The layout of the rows; None before the first one that has any."""
        return self._layout

    @property
    def settled(self) -> bool:
        """Whether it has seen enough: the layout is known, and which engine gives the ids."""
        return self._layout is not None and (self._rows is None or self._rows.settled)

    def make(self, raws: Sequence[RawRow]) -> Batch:
        """A batch of these rows. Raises `Differs` where a fast way turns out to give other results."""
        import numpy as np

        found = _Found()
        examples = [self._example(n, raw, found) for n, raw in enumerate(raws)]
        opening = next((raw.data for raw in raws if raw.data is not None), None)
        found.remark(answer_texts.remarks(found.gists))
        tokens = self._tokens(examples, found)
        places = zip(*((raw.file, raw.line, raw.offset) for raw in raws), strict=True)
        values_of = dict(zip(("file", "line", "offset"), places, strict=True)) | found.columns()
        engine = self._rows.engine if self._rows is not None else None
        return Batch(
            columns={name: np.array(values, dtype=np.int64) for name, values in values_of.items()},
            records=b"".join([raw.record for raw in raws]),
            tokens=tokens,
            layout=self._layout,
            row_errors=found.row_errors,
            remarks=found.remarks,
            marks=found.marks,
            prompts=tuple(found.prompts),
            engine=engine.name if engine is not None else "tokenizers",
            notes=(engine.note,) if engine is not None and engine.note else (),
            key_sets=_key_sets(raws),
            opening=columns.kinds(opening, self._text_field) if opening is not None else None,
        )

    def _tokens(self, examples: Sequence[Example | None], found: "_Found") -> Tokens:
        if self._rows is None:
            return nothing(len(examples))
        good = [n for n, one in enumerate(examples) if one is not None]
        made = self._rows.batch([one for one in examples if one is not None])
        found.row_errors.update((good[n], trouble) for n, trouble in made.row_errors.items())
        placed = made.spread(good, len(examples))
        found.remark(placed.remarks)
        return placed

    def _example(self, index: int, raw: RawRow, found: "_Found") -> Example | None:
        made = self._read(raw)
        if isinstance(made, RowError):
            found.row_errors[index] = made
            found.row(0, NO_GIST)
            return None
        gist = row_formats.gist(made)
        for code in (*gist.remarks, *tool_rows.remarks(made, raw.data or {})):
            found.remarks.setdefault(code, []).append(index)
        for mark in self._marks.of(gist.texts) if self._marks is not None else ():
            found.marks.setdefault(mark, []).append(index)
        found.row(len(made.turns), gist)
        return made

    def _read(self, raw: RawRow) -> Example | RowError:
        if raw.data is None:
            return raw.trouble or RowError("json", "not readable")
        if self._layout is None:
            self._layout = row_formats.detect(raw.data, self._text_field)
        if self._layout is None:
            if {"chosen", "rejected"} <= raw.data.keys():
                return RowError("schema", PREFERENCE, FOR_PREFERENCE)
            if "input_ids" in raw.data:
                return RowError("schema", IDS_ALREADY, FOR_IDS)
            message = f"unknown row format; the row has {row_formats.keys_of(raw.data)}"
            return RowError("schema", message, NO_LAYOUT, content=row_formats.all_keys(raw.data))
        return row_formats.example(raw.data, self._layout, self._text_field)


def _key_sets(raws: Sequence[RawRow]) -> dict[Keys, list[int]]:
    """Which sets of keys these rows have: see `Batch`."""
    found: dict[Keys, list[int]] = {}
    for number, raw in enumerate(raws):
        if raw.data is None:
            continue
        found.setdefault(Keys.of(raw.data), [0, number])[0] += 1
    return found


class _Found:
    """What has been found out of the rows so far."""

    def __init__(self) -> None:
        self.row_errors: dict[int, RowError] = {}
        self.remarks: dict[str, list[int]] = {}
        self.marks: dict[str, list[int]] = {}
        self.prompts: dict[str, int] = {}
        self.gists: list[Gist] = []
        self._turns: list[int] = []
        self._system: list[int] = []

    def row(self, turns: int, gist: Gist) -> None:
        """What rules ask of a row's words without reading it again."""
        prompt = gist.system
        self._system.append(-1 if prompt is None else self.prompts.setdefault(prompt, len(self.prompts)))
        self._turns.append(turns)
        self.gists.append(gist)

    def remark(self, remarks: Mapping[str, Sequence[int]]) -> None:
        """Codes with their rows."""
        for code, rows in remarks.items():
            self.remarks.setdefault(code, []).extend(rows)

    def columns(self) -> "dict[str, Sequence[int] | NDArray[np.int64]]":
        """One entry a row: see `Batch`."""
        gists = self.gists
        said = [gist.said for gist in gists]
        asked, whole, answered = fingerprints.of_rows(
            said, [gist.asked for gist in gists], [gist.answer for gist in gists]
        )
        return {
            "turns": self._turns,
            "system": self._system,
            "asked": asked,
            "said": whole,
            "answered": answered,
            "spelled": answer_texts.spelled(gists),
            "ending": answer_texts.endings(gists),
        }


class _Marks:
    """Finds the texts of special tokens in rows: the tokenizer takes them for what they say."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        texts = {tokenizer.show([one]) for one in tokenizer.special_ids}
        marks = sorted((text for text in texts if re.search(r"[^\w\s]", text)), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, marks)) if marks else r"(?!)")
        self._lead = next((one for one in "<[" if all(mark.startswith(one) for mark in marks)), "")

    def of(self, texts: Sequence[str]) -> set[str]:
        """Those of them that stand in a row's texts."""
        found: set[str] = set()
        for text in texts:
            if self._lead in text:
                found.update(self._pattern.findall(text))
        return found


def batches(stream: Iterator[RawRow]) -> Iterator[list[RawRow]]:
    """Rows in lists of `ROWS`."""
    batch: list[RawRow] = []
    for row in stream:
        batch.append(row)
        if len(batch) == ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
