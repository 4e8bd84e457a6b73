"""Reads what is said in some rows once more, for rules that compare a few rows closely."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import Rows
from ftcheck.inputs.row_texts import ReadRow
from ftcheck.settings import Job
from ftcheck_plugins.preparation.preparation import source_of
from ftcheck_plugins.preparation.row_stream import unchanged
from ftcheck_plugins.reading import files, row_formats
from ftcheck_plugins.reading.raw_rows import RawRow
from ftcheck_plugins.reading.row_formats import Example


@loader("row_texts")
def row_texts(job: Job, run: Run, rows: Rows) -> "FromFiles":
    """The texts of training rows; nothing is read before they are asked for."""
    return FromFiles(job, run, rows)


@dataclass(frozen=True)
class FromFiles:
    """Texts of rows, read from their places in the files."""

    job: Job
    run: Run
    rows: Rows

    def said(self, rows: Sequence[int]) -> list[str]:
        """Of each of these rows all that is said but by the system. Raises `InputError`."""
        made = [self._example(raw) for raw in self._raw(rows)]
        return ["\n".join(row_formats.gist(one).said) if one is not None else "" for one in made]

    def read(self, rows: Sequence[int]) -> list[ReadRow]:
        """These rows with their messages and tools. Raises `InputError`."""
        return [self._row(row, raw) for row, raw in zip(rows, self._raw(rows), strict=True)]

    def _raw(self, rows: Sequence[int]) -> list[RawRow]:
        self.run.read_content()
        order = sorted(set(rows))
        wanted = [(row, int(self.rows.file[row]), int(self.rows.offset[row])) for row in order]
        source = source_of(self.job, "train", self.run)
        found = list(files.rows_at(source, wanted, offline=self.run.offline))
        if len(found) < len(order) or not unchanged(found, [self.rows.records[row] for row in order]):
            raise InputError(f"data.train of job {self.job.label} changed after it was prepared")
        by_row = dict(zip(order, found, strict=True))
        return [by_row[row] for row in rows]

    def _row(self, row: int, raw: RawRow) -> ReadRow:
        made = self._example(raw)
        if made is None:
            return ReadRow(row, (), data=raw.data or {})
        asked = len(made.prompt) if isinstance(made.prompt, tuple) else 0
        return ReadRow(row, made.turns, asked, made.tools, made.template_kwargs, raw.data or {})

    def _example(self, raw: RawRow) -> Example | None:
        layout, text_field = self.rows.format, self.job.training.dataset_text_field
        made = row_formats.example(raw.data, layout, text_field) if raw.data is not None else None
        return made if isinstance(made, Example) else None
