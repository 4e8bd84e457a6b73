"""`ftcheck fix`."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, overrides, rules_dirs

if TYPE_CHECKING:
    from ftcheck.fix.row_lists import RowList
    from ftcheck.fix.run import Fixed
    from ftcheck.fix.search import Choice


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
    from ftcheck.fix import run as fixing
    from ftcheck.runner.options import Options
    from ftcheck.runner.select import Selection

    options = Options(
        policy=policy,
        overrides=overrides,
        selection=Selection(jobs=tuple(dict.fromkeys(jobs)), select=select, ignore=ignore),
        offline=offline,
        rules_dirs=all_rules_dirs(rules_dirs),
    )
    fixed = fixing.fix(options, watcher, report=report, write=not diff, unsafe=unsafe)
    if diff:
        click.echo(_diff(policy, fixed.before, fixed.after), nl=False)
    stored = report is not None
    told = _Told(policy, fixed, diff=diff, stored=stored, unsafe=unsafe, jobs=jobs, overrides=overrides)
    told.tell()
    return told.code()


def watcher(planned: int) -> Any:
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


@dataclass(frozen=True)
class _Told:
    """The summary at the end, and the exit code."""

    policy: str
    fixed: "Fixed"
    diff: bool
    stored: bool
    unsafe: bool
    jobs: tuple[str, ...]
    overrides: tuple[str, ...] = ()

    def tell(self) -> None:
        """Changes, what was not changed and why, and what still fails. With a diff on stdout: on stderr."""
        found, ready = self.fixed.found, self._ready()
        self._choices("would fix" if self.diff else "fixed", found.taken, ready if self.unsafe else ())
        held = ready if not self.unsafe else ()
        if found.held or held:
            self._choices("not written, because it alters what the model learns", found.held, held)
            self._say(f"  to write it: {self._command('--unsafe')}")
        for one in found.left:
            checks = ", ".join(one.checks)
            self._say(f"skipped  {one.path}: {one.reason}  ({checks})")
        for rows in self.fixed.lists:
            if rows.reason is not None:
                self._say(f"skipped  rows of {rows.job}: {rows.reason}  ({', '.join(rows.checks)})")
        if not found.taken and not found.held and not found.left and not self.fixed.lists:
            self._say("nothing to fix: no failed check proposes a change")
        self._remaining()

    def code(self) -> int:
        """0, 1 for a diff, 3 if a check broke."""
        from ftcheck.exit_codes import ExitCode

        if self._broken():
            return ExitCode.INCOMPLETE
        changed = self.fixed.after != self.fixed.before or (self.unsafe and any(self._ready()))
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

        keys = keys_of(path, self.fixed.jobs)
        at = place(self.fixed.before, keys) if keys else None
        where = f"{self.policy}:{at[0]}:{at[1]}" if at else f"{self.policy}"
        return visible(f"{where}  {path}")

    def _remaining(self) -> None:
        from ftcheck.records import Outcome

        red = [one.check.id for one in self.fixed.found.results if one.outcome is Outcome.FAILED]
        changed = self.fixed.found.taken or (self.unsafe and any(self._ready()))
        if self.stored or not self.fixed.found.settled:
            if changed:
                self._say(f"now run the checks again: ftcheck run {self.policy}")
        elif red:
            state = "still failing" if changed else "failing"
            self._say(f"{state}: {_listed(red)}  (ftcheck run {self.policy})")
        if broken := self._broken():
            self._say(f"ended in an error, so what they would propose is unknown: {_listed(broken)}")

    def _ready(self) -> "list[RowList]":
        """The lists of rows that can be written."""
        return [one for one in self.fixed.lists if one.reason is None]

    def _broken(self) -> list[str]:
        from ftcheck.ledger import BROKEN

        return [one.check.id for one in self.fixed.found.results if one.outcome in BROKEN]

    def _command(self, more: str) -> str:
        jobs = "".join(f" --job {job}" for job in self.jobs)
        given = "".join(f" --set {shlex.quote(one)}" for one in self.overrides)
        return f"ftcheck fix {self.policy}{jobs}{given} {more}"

    def _say(self, line: str) -> None:
        from ftcheck.report.redact import shown

        click.echo(shown(line), err=self.diff)


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _diff(policy: str, old: str, new: str) -> str:
    """A unified diff that `patch` takes, but for lines that hold a secret: these are shown without it."""
    import difflib

    from ftcheck.report.redact import redact, visible

    before, after = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (old, new))
    made = difflib.unified_diff(before, after, fromfile=policy, tofile=policy)
    return "".join(
        visible(redact(line)) if line.endswith("\n") else f"{redact(line)}\n\\ No newline at end of file\n"
        for line in made
    )
