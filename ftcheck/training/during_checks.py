"""Runs a job's checks of stage `during` while it trains: cheap, on each log, and never in its way.

A check looks at a `MetricHistory`. What it finds is kept with the steps at which it was seen; the parameter
`action` of its rule says what the trainer is to do about it. A check that breaks is `errored` and
not asked again; one that never had anything to look at is `skipped`, never passed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ftcheck.extension.plugin_host import Host
from ftcheck.extension.rules import Rule
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.metric_history import (
    Expected,
    Lines,
    MetricHistory,
    Span,
)
from ftcheck.inputs.run_folder import Metric
from ftcheck.ledger import judge
from ftcheck.records import MAX_FINDINGS, Check, Finding, Outcome, Result, Severity
from ftcheck.report.redact import redact

OURS = "metrics"
"""The input that changes from log to log."""


class Action(StrEnum):
    """What the trainer does about a finding: tell, save a checkpoint now, or end the run."""

    WARN = "warn"
    CHECKPOINT = "checkpoint"
    STOP = "stop"

    @property
    def rank(self) -> int:
        """0 for `warn`, 2 for `stop`."""
        return list(Action).index(self)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A finding at the step at which it was first seen, and what is to be done about it."""

    check: str
    step: int
    action: Action
    finding: Finding

    def __str__(self) -> str:
        """One line, as errors and logs say it."""
        fix = f"; {self.finding.fix}" if self.finding.fix else ""
        return f"{self.check} at step {self.step}: {self.finding.message}{fix}"


@dataclass
class _Seen:
    """A finding as it stands: its newest words, and the first and the last step at which it was seen."""

    finding: Finding
    step: int
    last: int


@dataclass
class _Watched:
    """One check: its rule with parameters and inputs, and what it has found so far."""

    check: Check
    rule: Rule
    arguments: dict[str, Any] = field(default_factory=dict)
    result: Result | None = None
    looks: int = 0
    seen: list[_Seen] = field(default_factory=list)
    total: int = 0
    now: dict[str, _Seen] = field(default_factory=dict)
    acted: Action | None = None

    @property
    def action(self) -> Action:
        """What the policy asks for; `warn` for a rule without the parameter."""
        stated = self.check.params.get("action")
        return Action(stated) if stated in list(Action) else Action.WARN

    @property
    def broken(self) -> bool:
        """Whether it errored, and is not asked again."""
        return self.result is not None and self.result.outcome is Outcome.ERRORED

    def look(self, window: MetricHistory, step: int, finish: Callable[[Result], Result]) -> list[Alarm]:
        """Ask the rule; an alarm for each finding that was not there at the last look."""
        if self.broken:
            return []
        found = finish(judge(self._asked(window), Severity.ERROR))
        self.looks += found.outcome is not Outcome.SKIPPED
        fresh = self._merged(found, step)
        if not self.looks or found.outcome is not Outcome.SKIPPED:
            self.result = found
        if found.outcome is not Outcome.FAILED:
            return []
        if fresh and (self.acted is None or self.action.rank > self.acted.rank):
            self.acted = self.action
        return [Alarm(self.check.id, step, self.action, one) for one in fresh]

    def _asked(self, window: MetricHistory) -> Result:
        from ftcheck.runner.worker import collect

        try:
            return collect(self.check, self.rule, {**self.arguments, OURS: window})
        except Exception as error:
            return self.failed(error)

    def failed(self, error: Exception) -> Result:
        """A result that says that the rule broke, or one of its inputs."""
        words = redact(" ".join(str(error).split()))
        return Result(self.check, Outcome.ERRORED, reason=f"{type(error).__name__}: {words}")

    def _merged(self, found: Result, step: int) -> list[Finding]:
        """Add what was found; what was there at the last look is the same finding, with newer words."""
        now, fresh = {}, []
        for finding in found.findings:
            key = re.sub(r"[\d.,]+(e[+-]?\d+)?", "#", finding.message)
            if key in now:
                continue
            before = self.now.get(key)
            if before is None:
                before = _Seen(finding, step, step)
                self.total += 1
                if len(self.seen) < MAX_FINDINGS:
                    self.seen.append(before)
                if finding.severity is not Severity.INFO:
                    fresh.append(finding)
            before.finding, before.last = finding, step
            now[key] = before
        self.now = now
        return fresh

    def final(self, finish: Callable[[Result], Result]) -> Result:
        """What became of the check, with everything it ever found."""
        if self.result is None:
            return Result(self.check, Outcome.SKIPPED, reason="nothing was logged while the check was active")
        if self.broken:
            return self.result
        findings = tuple(one.finding for one in self.seen)
        failing = [one for one in findings if one.severity is not Severity.INFO]
        outcome = Outcome.PASSED if self.looks else self.result.outcome
        whole = replace(
            self.result,
            outcome=outcome,
            reason=self.result.reason if outcome is Outcome.SKIPPED else None,
            findings=findings,
            findings_total=self.total,
            failing_total=len(failing) + self.total - len(findings),
            fingerprints=tuple(sorted({one.fingerprint for one in failing if one.fingerprint})),
        )
        return finish(judge(whole, Severity.ERROR))


class DuringChecks:
    """A job's checks of stage `during`. `begin` it, let it `see` each metric line, then ask for `results`."""

    def __init__(
        self,
        checks: Sequence[Check] = (),
        host: Host | None = None,
        expected: Expected | None = None,
        finish: Callable[[Result], Result] = lambda result: result,
        tell: Callable[[Alarm], None] = lambda alarm: None,
    ) -> None:
        """`finish` turns failed results into waived ones, where the policy waives them.

        `tell` is told each alarm at once.
        """
        rules = host.rules if host is not None else {}
        self._watched = [_Watched(check, rules[check.rule]) for check in checks]
        self._finish, self._tell = finish, tell
        self._lines = Lines()
        self._about: dict[str, Any] = {}
        self.expected = expected or Expected()
        self.begun = False

    def begin(self, inputs: Inputs, lines: Sequence[Mapping[str, Any]] = (), **about: Any) -> None:
        """Open what the rules ask for; `lines` are those of the run's own past, where it is resumed.

        `about` are fields of the window: total, device, memory_gib.
        """
        from ftcheck.policy import make_params

        self.begun, self._about = True, about
        for one in self._watched:
            try:
                one.arguments = {name: inputs.get(name) for name in one.rule.inputs if name != OURS}
                if one.rule.params_type is not None:
                    one.arguments["params"] = make_params(one.rule, one.check.params)
            except Exception as error:
                one.result = one.failed(error)
        for values in lines:
            self._lines.add(_metric(values))

    def expect(self, name: str, span: Span) -> None:
        """Add what only the trainer knows: the trained share of the rows that it feeds."""
        self.expected = replace(self.expected, known={**self.expected.known, name: span})

    def see(self, values: Mapping[str, Any]) -> tuple[Alarm, ...]:
        """One metric line: what is found now and was not found at the line before."""
        if not self._lines.add(_metric(values)):
            return ()
        window = self._lines.window(expected=self.expected, **self._about)
        step = int(values["step"])
        alarms = tuple(alarm for one in self._watched for alarm in one.look(window, step, self._finish))
        for alarm in alarms:
            self._tell(alarm)
        return alarms

    @property
    def outcomes(self) -> tuple[Result, ...]:
        """What became of each check so far."""
        return tuple(one.final(self._finish) for one in self._watched)

    def results(self) -> list[dict[str, Any]]:
        """What became of each check so far, as run.json keeps it."""
        return [_to_dict(one, one.final(self._finish)) for one in self._watched]


def _metric(values: Mapping[str, Any]) -> Metric:
    return Metric(int(values["step"]), 0, values)


def _to_dict(watched: _Watched, result: Result) -> dict[str, Any]:
    return {
        "id": result.check.id,
        "rule": result.check.rule,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "summary": result.summary,
        "action": watched.action.value,
        "acted": watched.acted.value if watched.acted is not None else None,
        "looks": watched.looks,
        "measurements": [
            {"name": one.name, "value": one.value, "unit": one.unit, "limit": one.limit}
            for one in result.measurements
        ],
        "findings_total": result.findings_total,
        "findings": [
            {
                "step": seen.step,
                "last_step": seen.last,
                "message": seen.finding.message,
                "severity": seen.finding.severity.value,
                "fix": seen.finding.fix,
            }
            for seen in watched.seen
        ],
    }
