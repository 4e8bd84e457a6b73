"""Which rows `ftcheck fix` lists in `data.exclude`, and in which file: from the results of failed checks."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ftcheck.inputs import exclude_list
from ftcheck.inputs.exclude_list import Excluded
from ftcheck.records import Change, Outcome, Result
from ftcheck.settings import Job

Rows = Mapping[str, tuple[Excluded, ...]]


@dataclass(frozen=True, slots=True)
class RowList:
    """The list of one job: where it lies, its rows, and those of them that were not in it before.

    `reason` says why it is not written, None if it can be.
    """

    job: str
    path: Path
    rows: tuple[Excluded, ...]
    new: tuple[Excluded, ...]
    reason: str | None = None

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks that asked for the new rows."""
        return tuple(dict.fromkeys(one.check for one in self.new))

    @property
    def text(self) -> str:
        """What stands in the file."""
        return exclude_list.written(self.rows, self.path.parent)

    def at(self, path: Path) -> "RowList":
        """The same list in another place."""
        return replace(self, path=path)

    def change(self, policy: Path | None, stated: str | None) -> Change:
        """What the policy has to say for it, or a --set (None); `stated` is the list that it names now."""
        named = str(self.path) if policy is None else os.path.relpath(self.path, policy.parent)
        return Change(f"jobs.{self.job}.data.exclude", stated, named, safe=False)


def asked(results: Iterable[Result], jobs: Iterable[str]) -> Rows:
    """The rows that failed checks of these jobs would leave out."""
    found: dict[str, list[Excluded]] = {}
    wanted = set(jobs)
    for result in results:
        job = result.check.job
        if result.outcome is Outcome.FAILED and job in wanted and result.rows:
            found.setdefault(job or "", []).extend(
                Excluded(os.path.abspath(at.path or ""), at.line or 0, at.record or "", result.check.id)
                for at in result.rows
            )
    return {job: exclude_list.merged(rows) for job, rows in found.items()}


def lists(
    found: Rows, jobs: Mapping[str, Job], counts: Mapping[str, int], policy: Path
) -> tuple[RowList, ...]:
    """A list for each job that lacks some: the one it has with more rows, or a new one beside the policy.

    `counts` are the rows that a job trains on now. Raises `InputError` for a list that cannot be read.
    """
    made = (_list(jobs[name], rows, counts.get(name, 0), policy) for name, rows in found.items())
    return tuple(one for one in made if one.new)


def _list(job: Job, rows: tuple[Excluded, ...], count: int, policy: Path) -> RowList:
    stated = Path(job.data.exclude) if job.data.exclude is not None else None
    before = exclude_list.read(stated) if stated is not None else ()
    known = {(one.file, one.line) for one in before}
    new = tuple(one for one in rows if (one.file, one.line) not in known)
    path = stated or policy.with_name(f"{policy.stem}.{job.name}.exclude.jsonl")
    every = exclude_list.merged((*before, *new))
    return RowList(job.name, path, every, new, _reason(path, stated, every, count + len(before)))


def _reason(path: Path, stated: Path | None, rows: tuple[Excluded, ...], total: int) -> str | None:
    other = next((one.file for one in rows if not one.file.endswith(".jsonl")), None)
    if other is not None:
        return f"rows of {Path(other).name} cannot be excluded: data.exclude supports .jsonl files only"
    if not total:
        return "the number of rows is unknown: the preparation did not finish"
    if len(rows) > exclude_list.MOST * total:
        share = f"{len(rows):,} of {total:,} rows would be excluded, more than {exclude_list.MOST:.0%}"
        return f"{share}: check the source of the data"
    if stated is None and path.exists():
        return f"{path} exists, but is not data.exclude: move the file away, or set data.exclude to it"
    return None
