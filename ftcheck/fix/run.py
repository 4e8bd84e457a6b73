"""One `ftcheck fix`: run the checks, search for changes that make them pass, and write them."""

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ftcheck.atomic import replace_file
from ftcheck.errors import (
    FtcheckError,
    InputError,
    PolicyError,
    Problem,
    UsageError,
)
from ftcheck.exit_codes import ExitCode
from ftcheck.fix import row_lists, search
from ftcheck.fix.row_lists import RowList, Rows
from ftcheck.fix.search import Found
from ftcheck.gate.stored import changed_since
from ftcheck.gate.ticket import Reason
from ftcheck.inputs import bounded
from ftcheck.inputs.work_folders import work_folder
from ftcheck.records import Change, Finding, Result
from ftcheck.runner.execute import Executed, execute
from ftcheck.runner.load import Loaded, load, open_policy
from ftcheck.runner.options import Options
from ftcheck.runner.planned import Planned, plan
from ftcheck.runner.select import narrow
from ftcheck.runner.workplace import Workplace
from ftcheck.sampling.row_sample import RowSample
from ftcheck.settings import Job


class Watcher(Protocol):
    """Sees a run of the checks through its event hooks, and is closed at its end."""

    def close(self) -> None:
        """The run is over, however it ended."""


Watch = Callable[[int], Watcher]
"""Makes the watcher of a run of so many checks."""


class StaleReport(FtcheckError):
    """A stored report that does not hold for the files as they are now."""

    exit_code = ExitCode.REFUSED
    code = "stale-report"


@dataclass(frozen=True, slots=True)
class Fixed:
    """What was found, and what becomes of the policy's file.

    `before` and `after` are its texts (equal where nothing changes); `jobs` are all jobs of the policy,
    `lists` the files of rows that are left out of training.
    """

    found: Found
    lists: tuple[RowList, ...]
    before: str
    after: str
    jobs: tuple[str, ...]


def fix(
    options: Options, watch: Watch, *, report: str | None = None, write: bool = True, unsafe: bool = False
) -> Fixed:
    """Search for the changes that make the failed checks of a policy pass, and write them.

    `report` is a stored report whose findings are taken in place of a run. Without `write`, nothing is
    written. With `unsafe`, changes that alter what the model learns are taken too, and rows are left out.
    Raises `UsageError` for a file that cannot be written, `InputError` if it changed, `StaleReport`.
    """
    loaded = load(options.policy, options.overrides, options.rules_dirs)
    known = tuple(loaded.policy.jobs)
    wanted = options.selection.jobs or known
    file = PolicyFile.opened(str(options.policy), write=write)
    runs = _Runs(options, known, watch)
    if report is not None:
        taken = {one.id for one in narrow(loaded.checks, options.selection, known)}
        first = [one for one in _stored(report, loaded, wanted) if one.check.id in taken]
    else:
        first = list(runs.results(()))

    def objection(changes: Sequence[Change]) -> str | None:
        return search.unwritable(file.text, changes, known, options.overrides) or runs.refused(changes)

    found = search.search(runs.own(first), runs.results if report is None else None, objection, unsafe=unsafe)
    rows = _RowsLeftOut(runs, dict(loaded.policy.jobs), file, options.overrides)
    found, lists = rows.without(found, wanted, unsafe=unsafe)
    ready = [one for one in lists if unsafe and one.reason is None]
    changes = [one.change for one in found.taken] + rows.changes(ready)
    text = search.written(str(options.policy), file.text, changes, known)
    if write:
        rows.write(ready)
        if text != file.text:
            file.replace(text)
    return Fixed(found, lists, file.text, text, known)


@dataclass(frozen=True)
class PolicyFile:
    """The policy's own file as it was before the checks ran."""

    policy: str
    path: Path
    content: bytes

    @classmethod
    def opened(cls, policy: str, *, write: bool) -> "PolicyFile":
        """Read it. Raises `UsageError` if it cannot be read, or with `write` if it is read-only."""
        path = Path(os.path.realpath(policy))
        try:
            found = cls(policy, path, bounded.read(path))
        except OSError as error:
            raise UsageError(f"{policy}: cannot be read: {error.strerror or error}") from error
        if write:
            found.writable()
        return found

    @property
    def text(self) -> str:
        """Its content."""
        return self.content.decode("utf-8")

    def writable(self) -> None:
        """Raises `UsageError` for a file that is not to be written, also where root could."""
        if not os.access(self.path, os.W_OK) or not stat.S_IMODE(self.path.stat().st_mode) & 0o222:
            raise UsageError(f"{self.policy}: is read-only; `--diff` shows what would be written")

    def replace(self, text: str) -> None:
        """Write the text in one step, if the file is still what the checks saw. Raises `InputError`."""
        try:
            now: bytes | None = bounded.read(self.path)
        except OSError:
            now = None
        if now != self.content:
            raise InputError(
                f"{self.policy}: changed while the checks ran: nothing was written; run it again"
            )
        try:
            replace_file(self.path, text.encode("utf-8"))
        except OSError as error:
            raise InputError(f"{self.policy}: cannot be written: {error.strerror or error}") from error


class _Runs:
    """Runs of the checks under changes that are tried, without report and without memory of them."""

    def __init__(self, options: Options, jobs: Sequence[str], watch: Watch) -> None:
        self._options, self._jobs, self._watch = options, jobs, watch
        self._touched: dict[str, None] = {}
        self.counts: dict[str, int] = {}

    def results(self, changes: Sequence[Change]) -> tuple[Result, ...]:
        """The results under these changes: all of them first, then those of jobs that were changed."""
        for change in changes:
            keys = search.keys_of(change.path, self._jobs)
            self._touched |= {keys[1]: None} if keys else {}
        selection = self._options.selection
        if self._touched:
            selection = replace(selection, jobs=tuple(self._touched))
        results, counts = self._run(replace(self._with(changes), selection=selection))
        self.counts |= {job: count for job, count in counts.items() if job not in self.counts}
        return self.own(results)

    def _run(self, options: Options) -> tuple[tuple[Result, ...], dict[str, int]]:
        """One run of the checks, and the rows of each job."""
        planned = plan(open_policy(options.policy, options.overrides, options.rules_dirs), options)
        executed = _executed(options, planned, self._watch, rows=True)
        _refuse_sampled({name: one.sample for name, one in executed.facts.prepared.items()})
        return executed.results, {job: one.rows for job, one in executed.facts.prepared.items()}

    def own(self, results: Iterable[Result]) -> tuple[Result, ...]:
        """The results without proposals for jobs that were not asked for."""
        wanted = self._options.selection.jobs
        if not wanted:
            return tuple(results)

        def kept(one: Finding) -> bool:
            keys = search.keys_of(one.change.path, self._jobs) if one.change else None
            return keys is None or keys[1] in wanted

        return tuple(replace(one, findings=tuple(filter(kept, one.findings))) for one in results)

    def refused(self, changes: Sequence[Change]) -> str | None:
        """Why the policy would not be valid with these changes."""
        options = self._with(changes)
        try:
            load(options.policy, options.overrides, options.rules_dirs)
        except PolicyError as error:
            return f"the policy would not be valid: {error.problems[0].message}"
        return None

    def _with(self, changes: Sequence[Change]) -> Options:
        given = (*self._options.overrides, *map(search.override, changes))
        return replace(self._options, overrides=given)


def results_of(options: Options, planned: Planned, watch: Watch) -> tuple[Result, ...]:
    """The results of a plan's checks, without report and without memory of them."""
    return _executed(options, planned, watch, rows=False).results


def _executed(options: Options, planned: Planned, watch: Watch, *, rows: bool) -> Executed:
    watcher = watch(len(planned.taken))
    planned.loaded.host.watch(watcher)
    try:
        with Workplace(offline=options.offline, workers=options.workers) as place:
            executed = execute(place, options, planned.loaded, planned.taken, planned.jobs, rows=rows)
    finally:
        watcher.close()
    if executed.interrupted:
        raise KeyboardInterrupt
    return executed


class _RowsLeftOut:
    """Rows that are left out: asked for, tried in a folder of their own, and listed."""

    def __init__(
        self, runs: _Runs, jobs: Mapping[str, Job], file: PolicyFile, overrides: Sequence[str]
    ) -> None:
        self._runs, self._jobs, self._file, self._overrides = runs, jobs, file, overrides

    def without(
        self, found: Found, jobs: Sequence[str], *, unsafe: bool
    ) -> tuple[Found, tuple[RowList, ...]]:
        """The lists, and with `unsafe` what the checks say without their rows, until they name no more."""
        named = row_lists.asked(found.results, jobs)
        lists = self._lists(named)
        for _ in range(search.ROUNDS if unsafe else 0):
            ready = [one for one in lists if one.reason is None]
            if not ready:
                break
            found = self._tried(found, ready)
            more = row_lists.asked(found.results, [one.job for one in ready])
            if not more:
                break
            named = {job: (*rows, *more.get(job, ())) for job, rows in named.items()}
            lists = self._lists(named)
        return found, lists

    def _lists(self, named: Rows) -> tuple[RowList, ...]:
        made = row_lists.lists(named, self._jobs, self._runs.counts, self._file.path)
        return tuple(replace(one, reason=one.reason or self._objection(one)) for one in made)

    def _objection(self, rows: RowList) -> str | None:
        """Why the policy cannot name the list, None if it can or does."""
        stated = search.given(f"jobs.{rows.job}.data", self._overrides)
        if stated is not None:
            return f"{stated} is set on the command line: the rows are not those that the policy names"
        changes = self.changes([rows])
        return search.unwritable(self._file.text, changes, tuple(self._jobs), ()) if changes else None

    def _tried(self, found: Found, lists: Sequence[RowList]) -> Found:
        """What the checks say without these rows."""
        with work_folder("ftcheck-rows-") as folder:
            tried = [one.at(folder / one.path.name) for one in lists]
            self.write(tried)
            changes = [one.change for one in found.taken] + self.changes(tried, trial=True)
            results = {one.check.id: one for one in (*found.results, *self._runs.results(changes))}
        return replace(found, results=tuple(results.values()))

    def changes(self, lists: Sequence[RowList], *, trial: bool = False) -> list[Change]:
        """What the policy (in a trial: --set) has to say for these lists, where it does not yet."""
        policy = None if trial else self._file.path
        made = [(one, self._jobs[one.job].data.exclude) for one in lists]
        return [one.change(policy, stated) for one, stated in made if stated != str(one.path)]

    def write(self, lists: Sequence[RowList]) -> None:
        """Write each list in one step. Raises `InputError`."""
        for one in lists:
            try:
                replace_file(one.path, one.text.encode("utf-8"))
            except OSError as error:
                raise InputError(f"{one.path}: cannot be written: {error.strerror or error}") from error


def _stored(path: str, loaded: Loaded, jobs: Sequence[str]) -> tuple[Result, ...]:
    """The results of a stored report that is whole and still fits the files. Raises `StaleReport`."""
    report, reasons = changed_since(path, loaded.policy, loaded.checks, jobs, during=loaded.during)
    if report is None or reasons:
        raise _stale(reasons)
    _refuse_sampled({name: report.jobs[name].sample for name in jobs})
    return report.results


def _refuse_sampled(samples: Mapping[str, RowSample | None]) -> None:
    """Raise `UsageError` for jobs of which a sample was checked: what other rows need is not known."""
    for name, sample in samples.items():
        if sample is not None:
            raise UsageError(
                f"job {name}: only {sample} were checked, and values for all rows do not follow from them:"
                f" fix it without jobs.{name}.data.sample"
            )


def _stale(reasons: Sequence[Reason]) -> StaleReport:
    said = dict.fromkeys(f"{one.code}: {one.message}" for one in reasons)
    return StaleReport("the report does not hold", [Problem(f"report refused: {one}") for one in said])
