"""Reads what is said in some rows once more, for rules that compare a few rows closely."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import Rows
from ftcheck.settings import Job
from ftcheck_plugins.preparation.preparation import source_of
from ftcheck_plugins.reading import files, row_formats
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
        order = sorted(set(rows))
        wanted = [(row, int(self.rows.file[row]), int(self.rows.offset[row])) for row in order]
        source = source_of(self.job, "train", self.run)
        found = [self._words(raw) for raw in files.rows_at(source, wanted, offline=self.run.offline)]
        if len(found) != len(order):
            raise InputError(f"data.train of job {self.job.name} changed after it was prepared")
        by_row = dict(zip(order, found, strict=True))
        return [by_row[row] for row in rows]

    def _words(self, raw: files.RawRow) -> str:
        layout, text_field = self.rows.format, self.job.training.dataset_text_field
        made = row_formats.example(raw.data, layout, text_field) if raw.data is not None else None
        return "\n".join(row_formats.gist(made).said) if isinstance(made, Example) else ""
