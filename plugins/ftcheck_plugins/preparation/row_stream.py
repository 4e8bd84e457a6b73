"""The texts of rows, read again for rules that ask for them: in order in one stream, a block at a time."""

from collections.abc import Iterator, Sequence
from itertools import islice

from ftcheck.dedup.fingerprints import text_of
from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck_plugins.reading import files, row_formats
from ftcheck_plugins.reading.files import Source
from ftcheck_plugins.reading.raw_rows import RawRow
from ftcheck_plugins.reading.row_formats import Example

BLOCK = 1_000
"""Rows that are held at once."""

Texts = Sequence[tuple[str, str]]


def unchanged(raws: Sequence[RawRow], records: Sequence[str]) -> bool:
    """Whether rows that were read again are those of these digests (sha256, hex), in order."""
    return len(raws) <= len(records) and all(
        raw.record.hex() == one for raw, one in zip(raws, records, strict=False)
    )


class RowStream:
    """Texts of the rows of a source. A row before those that were read last begins the stream again."""

    def __init__(
        self, source: Source, records: Sequence[str], layout: str, text_field: str, run: Run
    ) -> None:
        """Nothing is read yet. `records` are the digests (sha256, hex) of the rows that were prepared."""
        self._source, self._records, self._run = source, records, run
        self._layout, self._text_field = layout, text_field
        self._stream: Iterator[RawRow] | None = None
        self._first = 0
        self._block: list[Texts] = []

    def texts(self, row: int) -> Texts:
        """Role and text of each message of a row; nothing for a broken row."""
        self._run.read_content()
        if row < self._first or self._stream is None:
            self._stream = files.stream(self._source, offline=self._run.offline)
            self._first, self._block = 0, []
        while row >= self._first + len(self._block):
            self._first += len(self._block)
            raws = list(islice(self._stream, BLOCK))
            if not raws or not unchanged(raws, self._records[self._first : self._first + len(raws)]):
                raise InputError(f"{self._source.files[0]}: changed since it was prepared: run again")
            self._block = [self._said(raw) for raw in raws]
        return self._block[row - self._first]

    def _said(self, raw: RawRow) -> Texts:
        made = row_formats.example(raw.data, self._layout, self._text_field) if raw.data is not None else None
        if not isinstance(made, Example):
            return ()
        if made.turns:
            return tuple((turn["role"], text_of(turn.get("content"))) for turn in made.turns)
        parts = (("prompt", made.prompt), ("completion", made.completion), ("text", made.text))
        return tuple((name, text) for name, text in parts if isinstance(text, str))
