"""`ftcheck fix`."""

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, overrides, rules_dirs

if TYPE_CHECKING:
    from ftcheck.fix.row_lists import Asked, RowList
    from ftcheck.fix.search import Choice, Found
    from ftcheck.records import Change, Result
    from ftcheck.runner.load import Loaded
    from ftcheck.runner.session import Options
    from ftcheck.settings import Job


@click.command(short_help="Write the changes that failed checks propose into the policy.")
@POLICY
@click.option("--job", "jobs", multiple=True, metavar="J", help="Only this job; the others are not changed.")
@overrides
@click.option("--diff", is_flag=True, help="Write nothing, print the diff; exit 1 if there is one, else 0.")
@click.option("--unsafe", is_flag=True, help="Also write changes that alter what the model learns.")
@click.option(
    "--report",
    type=click.Path(path_type=str),
    metavar="R",
    help="Use the findings of a stored JSON report, if nothing has changed since; default: run the checks.",
)
@click.option("--select", multiple=True, metavar="CHECK", help="Only these checks: ids or names, * allowed.")
@click.option("--ignore", multiple=True, metavar="CHECK", help="Without these checks.")
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@rules_dirs
def fix(
    policy: str,
    jobs: tuple[str, ...],
    overrides: tuple[str, ...],
    diff: bool,
    unsafe: bool,
    report: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    offline: bool,
    rules_dirs: tuple[Path, ...],
) -> int:
    """Run the checks of POLICY and write the changes that its failed checks propose into the file.

    Comments, order, quotes and layout of all other lines are kept. A value is written under its job, even if
    it came from `defaults` or from a file that is extended. Before anything is written, the checks run again
    with the changes, in memory, up to five times, so that problems uncovered by one change are fixed too.

    Data files are never changed. With --unsafe, the rows that checks would exclude (duplicates, leaked and
    unreadable rows) are listed in a file beside the policy, and data.exclude is set to it.

    Without --unsafe, changes that alter what the model learns are listed, but not written. Remarks and waived
    findings change nothing. Values of --set are never written.

    Exits 0 if nothing had to be changed or the file was written, 1 with --diff if it would be changed, 2 if
    it cannot be written, 3 if a check ended in an error (the changes of the others are written), 5 if the
    report is stale.
    """
    from ftcheck.fix import search
    from ftcheck.runner import session
    from ftcheck.runner.load import load
    from ftcheck.runner.select import Selection, narrow

    options = session.Options(
        policy=policy,
        overrides=overrides,
        selection=Selection(jobs=tuple(dict.fromkeys(jobs)), select=select, ignore=ignore),
        offline=offline,
        rules_dirs=all_rules_dirs(rules_dirs),
    )
    loaded = load(policy, overrides, options.rules_dirs)
    taken = {one.id for one in narrow(loaded.checks, options.selection, tuple(loaded.policy.jobs))}
    file = _File.opened(policy, write=not diff)
    known = tuple(loaded.policy.jobs)
    runs = _Runs(options, known)
    if report is not None:
        first = [one for one in _stored(report, loaded, jobs or known) if one.check.id in taken]
    else:
        first = list(runs.results(()))

    def objection(changes: "Sequence[Change]") -> str | None:
        return search.unwritable(file.text, changes, known, overrides) or runs.refused(changes)

    found = search.search(
        runs.own(first),
        runs.results if report is None else None,
        objection,
        unsafe=unsafe,
    )
    rows = _Rows(runs, dict(loaded.policy.jobs), file, overrides)
    found, lists = rows.left_out(found, jobs or known, unsafe=unsafe)
    ready = [one for one in lists if unsafe and one.reason is None]
    changes = [one.change for one in found.taken] + rows.changes(ready)
    text = search.written(policy, file.text, changes, known)
    told = _Told(
        policy, file.text, known, found, lists, diff=diff, stored=report is not None, unsafe=unsafe, jobs=jobs
    )
    if diff:
        click.echo(_diff(policy, file.text, text), nl=False)
    else:
        rows.write(ready)
        if text != file.text:
            file.replace(text)
    told.tell()
    return told.code(changed=text != file.text or bool(ready))


@dataclass(frozen=True)
class _File:
    """The policy's own file as it was before the checks ran."""

    policy: str
    path: Path
    content: bytes

    @classmethod
    def opened(cls, policy: str, *, write: bool) -> "_File":
        from ftcheck.errors import UsageError

        path = Path(os.path.realpath(policy))
        try:
            found = cls(policy, path, path.read_bytes())
        except OSError as error:
            raise UsageError(f"{policy}: cannot be read: {error.strerror or error}") from error
        if write:
            found.writable()
        return found

    @property
    def text(self) -> str:
        return self.content.decode("utf-8")

    def writable(self) -> None:
        """Raises `UsageError` for a file that is not to be written, also where root could."""
        from ftcheck.errors import UsageError

        if not os.access(self.path, os.W_OK) or not stat.S_IMODE(self.path.stat().st_mode) & 0o222:
            raise UsageError(f"{self.policy}: is read-only; `--diff` shows what would be written")

    def replace(self, text: str) -> None:
        """Write the text in one step, if the file is still what the checks saw. Raises `InputError`."""
        from ftcheck.errors import InputError
        from ftcheck.runner.outputs import replace_file

        try:
            now: bytes | None = self.path.read_bytes()
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

    def __init__(self, options: "Options", jobs: Sequence[str]) -> None:
        self._options, self._jobs = options, jobs
        self._touched: dict[str, None] = {}
        self.counts: dict[str, int] = {}

    def results(self, changes: "Sequence[Change]") -> "tuple[Result, ...]":
        """The results under these changes: all of them first, then those of jobs that were changed."""
        from ftcheck.fix.search import keys_of

        for change in changes:
            keys = keys_of(change.path, self._jobs)
            self._touched |= {keys[1]: None} if keys else {}
        selection = self._options.selection
        if self._touched:
            selection = replace(selection, jobs=tuple(self._touched))
        results, counts = _run(replace(self._with(changes), selection=selection))
        self.counts |= {job: count for job, count in counts.items() if job not in self.counts}
        return self.own(results)

    def own(self, results: "Iterable[Result]") -> "tuple[Result, ...]":
        """The results without proposals for jobs that were not asked for."""
        from ftcheck.fix.search import keys_of

        wanted = self._options.selection.jobs
        if not wanted:
            return tuple(results)

        def kept(one: Any) -> bool:
            keys = keys_of(one.change.path, self._jobs) if one.change else None
            return keys is None or keys[1] in wanted

        return tuple(replace(one, findings=tuple(filter(kept, one.findings))) for one in results)

    def refused(self, changes: "Sequence[Change]") -> str | None:
        """Why the policy would not be valid with these changes."""
        from ftcheck.errors import PolicyError
        from ftcheck.runner.load import load

        options = self._with(changes)
        try:
            load(options.policy, options.overrides, options.rules_dirs)
        except PolicyError as error:
            return f"the policy would not be valid: {error.problems[0].message}"
        return None

    def _with(self, changes: "Sequence[Change]") -> "Options":
        from ftcheck.fix.search import override

        given = (*self._options.overrides, *map(override, changes))
        return replace(self._options, overrides=given)


class _Rows:
    """Rows that are left out: asked for, tried in a folder of their own, and listed."""

    def __init__(self, runs: _Runs, jobs: "Mapping[str, Job]", file: _File, overrides: Sequence[str]) -> None:
        self._runs, self._jobs, self._file, self._overrides = runs, jobs, file, overrides

    def left_out(
        self, found: "Found", jobs: Sequence[str], *, unsafe: bool
    ) -> "tuple[Found, tuple[RowList, ...]]":
        """The lists, and with `unsafe` what the checks say without their rows, until they name no more."""
        from ftcheck.fix import row_lists, search

        named = row_lists.asked(found.results, jobs)
        lists = self._lists(named)
        for _ in range(search.ROUNDS if unsafe else 0):
            ready = [one for one in lists if one.reason is None]
            if not ready:
                break
            found = self._without(found, ready)
            more = row_lists.asked(found.results, [one.job for one in ready])
            if not more:
                break
            named = {job: (*rows, *more.get(job, ())) for job, rows in named.items()}
            lists = self._lists(named)
        return found, lists

    def _lists(self, named: "Asked") -> "tuple[RowList, ...]":
        from ftcheck.fix import row_lists

        made = row_lists.lists(named, self._jobs, self._runs.counts, self._file.path)
        return tuple(replace(one, reason=one.reason or self._objection(one)) for one in made)

    def _objection(self, rows: "RowList") -> str | None:
        """Why the policy cannot name the list, None if it can or does."""
        from ftcheck.fix import search

        stated = search.given(f"jobs.{rows.job}.data", self._overrides)
        if stated is not None:
            return f"{stated} is set on the command line: the rows are not those that the policy names"
        changes = self.changes([rows])
        return search.unwritable(self._file.text, changes, tuple(self._jobs), ()) if changes else None

    def _without(self, found: "Found", lists: "Sequence[RowList]") -> "Found":
        """What the checks say without these rows."""
        import tempfile

        with tempfile.TemporaryDirectory(prefix="ftcheck-rows-") as folder:
            tried = [one.at(Path(folder) / one.path.name) for one in lists]
            self.write(tried)
            changes = [one.change for one in found.taken] + self.changes(tried, trial=True)
            results = {one.check.id: one for one in (*found.results, *self._runs.results(changes))}
        return replace(found, results=tuple(results.values()))

    def changes(self, lists: "Sequence[RowList]", *, trial: bool = False) -> "list[Change]":
        """What the policy (in a trial: --set) has to say for these lists, where it does not yet."""
        policy = None if trial else self._file.path
        made = [(one, self._jobs[one.job].data.exclude) for one in lists]
        return [one.change(policy, stated) for one, stated in made if stated != str(one.path)]

    def write(self, lists: "Sequence[RowList]") -> None:
        """Write each list in one step. Raises `InputError`."""
        from ftcheck.errors import InputError
        from ftcheck.runner.outputs import replace_file

        for one in lists:
            try:
                replace_file(one.path, one.text.encode("utf-8"))
            except OSError as error:
                raise InputError(f"{one.path}: cannot be written: {error.strerror or error}") from error


def _run(options: "Options") -> "tuple[tuple[Result, ...], dict[str, int]]":
    """One run of the checks in a folder of its own, and the rows of each job; progress on stderr."""
    import shutil
    import tempfile

    from ftcheck.ledger import Ledger
    from ftcheck.runner import session
    from ftcheck.runner.checks import run_checks
    from ftcheck.runner.worker_setup import Setup

    planned = session.plan(options)
    policy, host = planned.loaded.policy, planned.loaded.host
    ledger, folder = Ledger(planned.taken), Path(tempfile.mkdtemp(prefix="ftcheck-fix-"))
    setup = Setup(
        checks=planned.taken,
        jobs=tuple(policy.jobs[name] for name in planned.jobs),
        folder=folder,
        plugins=policy.plugins,
        rules_dirs=options.rules_dirs,
        offline=options.offline,
        policy=policy.path,
        rows=True,
    )
    watcher = _watcher(len(planned.taken))
    host.watch(watcher)
    try:
        finish = session.waiving(policy)
        facts = run_checks(
            setup, host, ledger, fail_on=policy.gate.fail_on, limits=options.limits, finish=finish
        )
    finally:
        watcher.close()
        shutil.rmtree(folder, ignore_errors=True)
    return ledger.close("not run"), {job: one.rows for job, one in facts.prepared.items()}


def _watcher(planned: int) -> Any:
    """What moves bars on stderr while the checks run."""
    from rich.console import Console

    from ftcheck import hookimpl
    from ftcheck.cli.pages.progress_bars import Bars
    from ftcheck.cli.pages.screen import Screen
    from ftcheck.records import Progress

    bars = Bars(Screen(Console(stderr=True, highlight=False, emoji=False, markup=False)))

    class Watcher:
        done = 0

        @hookimpl
        def ftcheck_progress(self, progress: Progress) -> None:
            with bars.lock:
                bars.show(progress)

        @hookimpl
        def ftcheck_check_finished(self) -> None:
            self.done += 1
            with bars.lock:
                bars.show(Progress("checking", self.done, planned, "checks", self.done >= planned))

        def close(self) -> None:
            bars.stop()

    return Watcher()


CHANGED = "-changed"


def _stored(path: str, loaded: "Loaded", jobs: Sequence[str]) -> "tuple[Result, ...]":
    """The results of a stored report that is whole and still fits the files. Raises `Stale`."""
    from datetime import UTC, datetime

    from ftcheck.gate.decide import World, decide
    from ftcheck.gate.input_digests import gather
    from ftcheck.gate.stored import read_report
    from ftcheck.gate.ticket import Reason, Refusal

    report = read_report(path)
    if isinstance(report, Reason):
        raise _stale([report])
    reasons = []
    if report.status != "complete":
        reasons.append(Reason(report.status, f"{path}: the report is {report.status}"))
    for job in jobs:
        evidence = gather(loaded.policy.jobs[job], loaded.checks, loaded.during)
        world = World(loaded.policy, loaded.checks, evidence, datetime.now(UTC))
        decision = decide(report, world, job)
        if isinstance(decision, Refusal):
            bad = [one for one in decision.reasons if one.code.endswith(CHANGED)]
            missing = [one for one in decision.reasons if one.code in ("partial", "inconsistent")]
            reasons += bad or missing
    if reasons:
        raise _stale(reasons)
    return report.results


def _stale(reasons: Sequence[Any]) -> Exception:
    from ftcheck.errors import ExitCode, FtcheckError, Problem

    class Stale(FtcheckError):
        exit_code = ExitCode.REFUSED
        code = "stale-report"

    said = dict.fromkeys(f"{one.code}: {one.message}" for one in reasons)
    return Stale("the report does not hold", [Problem(f"report refused: {one}") for one in said])


@dataclass(frozen=True)
class _Told:
    """The summary at the end, and the exit code."""

    policy: str
    text: str
    known: tuple[str, ...]
    found: "Found"
    lists: "tuple[RowList, ...]"
    diff: bool
    stored: bool
    unsafe: bool
    jobs: tuple[str, ...]

    def tell(self) -> None:
        """Changes, what was not changed and why, and what still fails. With a diff on stdout: on stderr."""
        found, ready = self.found, [one for one in self.lists if one.reason is None]
        self._choices("would fix" if self.diff else "fixed", found.taken, ready if self.unsafe else ())
        held = ready if not self.unsafe else ()
        if found.held or held:
            self._choices("not written, because it alters what the model learns", found.held, held)
            self._say(f"  to write it: {self._command('--unsafe')}")
        for one in found.left:
            checks = ", ".join(one.checks)
            self._say(f"skipped  {one.path}: {one.reason}  ({checks})")
        for rows in self.lists:
            if rows.reason is not None:
                self._say(f"skipped  rows of {rows.job}: {rows.reason}  ({', '.join(rows.checks)})")
        if not found.taken and not found.held and not found.left and not self.lists:
            self._say("nothing to fix: no failed check proposes a change")
        self._remaining()

    def code(self, *, changed: bool) -> int:
        """0, 1 for a diff, 3 if a check broke."""
        from ftcheck.errors import ExitCode

        if self._broken():
            return ExitCode.INCOMPLETE
        return ExitCode.BLOCKED if changed and self.diff else ExitCode.OK

    def _choices(self, label: str, choices: "Sequence[Choice]", lists: "Sequence[RowList]") -> None:
        from ftcheck.fix.search import shown

        if choices or lists:
            self._say(f"{label}:")
        for rows in lists:
            count = f"{len(rows.new):,} row{'s' * (len(rows.new) != 1)} of {rows.job}"
            self._say(f"  {rows.path}  {count} excluded from training   ({', '.join(rows.checks)})")
        for one in choices:
            change, checks = one.change, ", ".join(one.checks)
            values = f"{shown(change.old)} -> {shown(change.new)}"
            self._say(f"  {self._place(change.path)}  {values}   ({checks})")
            for other in one.others:
                self._say(f"    {other.check} proposed {shown(other.change.new)}")

    def _place(self, path: str) -> str:
        from ftcheck.fix.search import keys_of
        from ftcheck.fix.yaml_edits import place
        from ftcheck.report.redact import visible

        keys = keys_of(path, self.known)
        at = place(self.text, keys) if keys else None
        where = f"{self.policy}:{at[0]}:{at[1]}" if at else f"{self.policy}"
        return visible(f"{where}  {path}")

    def _remaining(self) -> None:
        from ftcheck.records import Outcome

        red = [one.check.id for one in self.found.results if one.outcome is Outcome.FAILED]
        changed = self.found.taken or (self.unsafe and any(one.reason is None for one in self.lists))
        if self.stored or not self.found.settled:
            if changed:
                self._say(f"now run the checks again: ftcheck run {self.policy}")
        elif red:
            state = "still failing" if changed else "failing"
            self._say(f"{state}: {_listed(red)}  (ftcheck run {self.policy})")
        if broken := self._broken():
            self._say(f"ended in an error, so what they would propose is unknown: {_listed(broken)}")

    def _broken(self) -> list[str]:
        from ftcheck.ledger import BROKEN

        return [one.check.id for one in self.found.results if one.outcome in BROKEN]

    def _command(self, more: str) -> str:
        jobs = "".join(f" --job {job}" for job in self.jobs)
        return f"ftcheck fix {self.policy}{jobs} {more}"

    def _say(self, line: str) -> None:
        click.echo(line, err=self.diff)


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _diff(policy: str, old: str, new: str) -> str:
    """A unified diff that `patch` takes."""
    import difflib

    before, after = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (old, new))
    made = difflib.unified_diff(before, after, fromfile=policy, tofile=policy)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in made
    )
