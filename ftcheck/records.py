"""The frozen records that flow through ftcheck: findings, measurements, checks, results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ftcheck.sampling.row_sample import Estimate


class Severity(StrEnum):
    """How bad a finding is: `info` < `warning` < `error`. An `info` never fails a check."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for `info`, 1 for `warning`, 2 for `error`."""
        return list(Severity).index(self)

    def capped(self, cap: "Severity | None") -> "Severity":
        """This severity, but no higher than `cap`."""
        return self if cap is None or self.rank <= cap.rank else cap


class Outcome(StrEnum):
    """What became of one planned check. Every ledger entry ends in exactly one of these."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"
    SKIPPED = "skipped"
    ERRORED = "errored"
    TIMEOUT = "timeout"
    NOT_RUN = "not-run"


class Stage(StrEnum):
    """Which part of a run's life a check belongs to."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


ON_COMMAND_LINE = "--set"
"""The path of a `Location` whose value was given on the command line."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where something is: a place in a file, a key of the policy, or a row of a data set.

    `line` and `column` count from 1. `row` counts the rows of a data set from 1, over all its
    files; `record` is the sha256 of the row's bytes, so that it can be found after a reshuffle.
    """

    path: str | None = None
    line: int | None = None
    column: int | None = None
    yaml_path: str | None = None
    row: int | None = None
    record: str | None = None

    @property
    def in_file(self) -> bool:
        """Whether it is in a file that an editor can open, and not on the command line."""
        return self.path is not None and not self.path.startswith("--")

    def __str__(self) -> str:
        """`path:line:column`, as far as known: terminals and editors make it a link."""
        return ":".join(str(p) for p in (self.path, self.line, self.column) if p is not None)


@dataclass(frozen=True, slots=True)
class Change:
    """A change to the policy that fixes a finding: `path` is a YAML path such as
    `jobs.mapper.training.max_length`. A `safe` change does not alter what the model learns.
    """

    path: str
    old: Any
    new: Any
    safe: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: what is wrong (with the number), how bad, where, and what to do about it.

    `why` says what goes wrong in training or serving, where the rule's own `why` misses this finding.
    `content` is text of somebody's that belongs to it, such as a model's answer: it is dropped unless
    `--show-content` asks for it. `fingerprint` names the finding across runs; the runner gives it, no rule.
    """

    message: str
    severity: Severity = Severity.ERROR
    at: Location | None = None
    fix: str | None = None
    change: Change | None = None
    content: str | None = None
    why: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number that a rule reports whether or not it passes. `limit` is text such as `<= 768`.

    `volatile` marks what changes by itself between two runs on the same inputs (free disk space): it
    stands under `run` in the JSON report, and so does the summary of its check.
    `statistic` tells what the value is of the rows it was taken on (`ftcheck.sampling.statistics`); where
    these are a sample, the runner makes `estimate` of it, and `value` that of all rows.
    """

    name: str
    value: float | int | str | bool | None
    unit: str | None = None
    limit: str | None = None
    volatile: bool = False
    statistic: Any = field(default=None, repr=False, compare=False)
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Exclude:
    """Rows of the training data without which this check would pass; optional, after its finding.

    `rows` are indices, and `at` tells the place of one (`rows.at`). `ftcheck fix --unsafe` lists them in
    data.exclude. Rows that a finding of severity `info` is about are none of them.
    """

    rows: Sequence[int]
    at: Callable[[int], Location]


@dataclass(frozen=True, slots=True)
class Skip:
    """What a rule yields when it has nothing to look at; the check is then `skipped`, never passed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The few words that stand beside a check's name in the terminal. Optional, at most one a rule."""

    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """One planned check: a rule bound to a job (or to the host) with its parameters.

    `needs` are the inputs the rule asks for, and `plugin` is `name version` of its plugin. `required` means
    that the gate opens only if it passes (`gate.require`).
    """

    id: str
    name: str
    rule: str
    job: str | None
    stage: Stage
    severity: Severity | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 600.0
    tags: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    plugin: str = ""
    at: Location | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one check. `reason` says why for every outcome but `passed` and `failed`.

    `findings` holds at most `MAX_FINDINGS`, worst first; `findings_total` is how many there were. Where a
    waiver names some of a check's findings and not others, both are about the others alone.
    `failing_total` counts the findings that fail the check (warnings and errors), waived ones included, and
    `waived_total` those of them that the waiver names. `fingerprints` are those of all that fail it, sorted:
    fewer than `failing_total` where there are too many to keep.
    `summary` is the check's most telling number, in words; `seconds` is the rule's own time. `rows` are those
    that may be left out of training for it to pass: only where `ftcheck fix` asks for them, in no report.
    `reads_content` tells whether the rule looked at what stands in the rows, and not at columns alone.
    """

    check: Check
    outcome: Outcome
    blocking: bool = False
    reason: str | None = None
    findings: tuple[Finding, ...] = ()
    findings_total: int = 0
    failing_total: int = 0
    waived_total: int = 0
    fingerprints: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    summary: str | None = None
    seconds: float = 0.0
    detail: str | None = None
    rows: tuple[Location, ...] = ()
    reads_content: bool = False


MAX_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work has come. `total` is None while nobody knows. `line` tells whether a line stays when
    it has finished.
    """

    task: str
    done: int
    total: int | None = None
    unit: str = "rows"
    finished: bool = False
    detail: str | None = None
    line: bool = True
