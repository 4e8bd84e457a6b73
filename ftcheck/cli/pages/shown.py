"""What the commands show of a run on the terminal, and runs that `train` makes on its own."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ftcheck.exit_codes import ExitCode
from ftcheck.plurals import counted
from ftcheck.records import Outcome

if TYPE_CHECKING:
    from ftcheck.gate.ticket import Refusal, Ticket
    from ftcheck.records import Progress
    from ftcheck.report.record import Report
    from ftcheck.runner.load import Loaded
    from ftcheck.runner.options import Options
    from ftcheck.runner.planned import Planned
    from ftcheck.runner.session import Ended
    from ftcheck.training.during_checks import Alarm, DuringChecks


class Shown:
    """A run on the terminal: `watch` it inside the `with` block, then `end` it."""

    def __init__(
        self,
        outputs: Sequence[str] = (),
        *,
        quiet: bool = False,
        verbose: bool = False,
        durations: int | None = None,
    ) -> None:
        """Prints to stdout, or to stderr where a report goes to stdout itself."""
        from rich.console import Console

        taken = any(spec.partition("=")[2] in ("", "-") and spec != "github" for spec in outputs)
        self._console = Console(stderr=taken, highlight=False, emoji=False, markup=False)
        self._quiet, self._verbose, self._durations = quiet, verbose, durations
        self._reporter: Any = None
        self.planned: Planned | None = None

    def __enter__(self) -> "Shown":
        """Nothing is shown before the run is planned."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take the progress bars away, however the run ended."""
        if self._reporter is not None:
            self._reporter.close()

    def watch(self, planned: "Planned") -> Sequence[object]:
        """The object that prints the run while it goes on."""
        from ftcheck.cli.pages.run_page import TerminalReporter
        from ftcheck.durations import seconds

        policy, rules = planned.loaded.policy, planned.loaded.host.rules
        self.planned = planned
        self._reporter = TerminalReporter(
            self._console,
            header=header(planned),
            job_order=tuple(policy.jobs),
            why={rule_id: rule.why for rule_id, rule in rules.items()},
            place_of=policy.at,
            max_age=timedelta(seconds=seconds(policy.gate.max_age) or 0),
            quiet=self._quiet,
            verbose=self._verbose,
            durations=self._durations,
        )
        return [self._reporter]

    def end(self, ended: "Ended") -> None:
        """Name the reports that were written, and say what went wrong."""
        from ftcheck.runner import session

        if self._reporter is not None:
            self._reporter.show_reports(ended.written)
        if ended.error is not None:
            session.say(ended.error)


class TrainingShown:
    """Progress of a training: a bar on a terminal, now and then a line elsewhere."""

    EVERY = 30.0

    def __init__(self) -> None:
        """Prints to stdout."""
        from rich.console import Console

        from ftcheck.cli.pages.progress_bars import Bars
        from ftcheck.cli.pages.screen import Screen

        self._screen = Screen(Console(highlight=False, emoji=False, markup=False))
        self._bars = Bars(self._screen)
        self._told = 0.0

    def __enter__(self) -> "TrainingShown":
        """Nothing is shown before the first step."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away, however the training ended."""
        self._bars.stop()

    def show(self, progress: "Progress") -> None:
        """Move the bar; without a terminal, a line when the work is done or has gone on for a while."""
        import time

        from ftcheck.cli.pages.progress_bars import progress_text

        self._bars.show(progress)
        late = time.monotonic() - self._told >= self.EVERY
        if progress.finished or (late and not self._screen.live):
            self._told = time.monotonic()
            self._screen.put([(f"{progress.task}  ", "")], progress_text(progress))

    def tell(self, alarm: "Alarm") -> None:
        """What a check found while it trains, at once."""
        with self._bars.lock:
            self._screen.put([(f"{alarm.action.value}  ", "bold red")], str(alarm))

    def end(self, watch: "DuringChecks", trainer: str) -> None:
        """What became of the checks that watched the training; nothing where there were none."""
        results = watch.outcomes
        if not results:
            return
        if not watch.begun:
            words = f"{counted(len(results), 'check')} of stage during did not run:"
            words += f" the trainer {trainer} does not support them"
            self._screen.put([("during  ", "bold")], words)
            return
        counts = Counter(result.outcome.value for result in results)
        self._screen.put([("during  ", "bold")], ", ".join(f"{n} {name}" for name, n in counts.items()))
        for result in results:
            if result.outcome not in (Outcome.PASSED, Outcome.FAILED):
                words = f"{result.outcome.value}: {result.reason}"
                self._screen.put([(f"  - {result.check.name}  ", "")], words)


def header(planned: "Planned") -> str:
    """`ftcheck 0.1.0 · policy night-before · 2 jobs, 34 checks`, and what narrows the run."""
    jobs, checks = len(planned.jobs), len(planned.taken)
    parts = [
        f"ftcheck {metadata.version('ftcheck')}",
        f"policy {planned.loaded.policy.name}",
        f"{counted(jobs, 'job')}, {counted(checks, 'check')}",
    ]
    whole = len(planned.loaded.checks)
    if checks != whole:
        parts.append(f"selected from {whole}")
    if planned.loaded.policy.overrides:
        count = len(planned.loaded.policy.overrides)
        parts.append(counted(count, "override"))
    return " · ".join(parts)


def run_now(options: "Options", job: str) -> "tuple[Ticket | Refusal | None, ExitCode, Report | None]":
    """Run all checks of one job, and the gate's word; None if the run itself could not be made."""
    from dataclasses import replace

    from ftcheck.runner import session
    from ftcheck.runner.select import Selection

    show = Shown(quiet=True)
    with show:
        ended = session.run(replace(options, selection=Selection(jobs=(job,))), show.watch)
    show.end(ended)
    if ended.code is ExitCode.INTERRUPTED or job not in ended.decisions:
        return None, ended.code, None
    return ended.decisions[job], ended.code, ended.report


def host_again(loaded: "Loaded", options: "Options", job: str) -> "Refusal | None":
    """Run the host's checks on this machine, whatever the stored report says of another one."""
    from ftcheck.gate.ticket import Reason, Refusal
    from ftcheck.records import Outcome
    from ftcheck.training.require import host_checks

    results = host_checks(loaded, options, job)
    bad = [r for r in results if r.blocking or r.outcome in (Outcome.ERRORED, Outcome.TIMEOUT)]
    if not bad:
        return None
    reasons = [
        Reason("failed", f"{r.check.id} on this machine: {r.findings[0].message if r.findings else r.reason}")
        for r in bad
    ]
    return Refusal(job, tuple(reasons))
