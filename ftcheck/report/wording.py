"""The wording that all report formats share: outcomes, numbers, places, findings."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ftcheck.paths import near
from ftcheck.records import MAX_FINDINGS, Change, Finding, Location, Measurement, Outcome, Result, Severity
from ftcheck.report import sampled
from ftcheck.report.numbers import number as number

UNFINISHED = (Outcome.ERRORED, Outcome.TIMEOUT, Outcome.NOT_RUN)
SET_ASIDE = (Outcome.WAIVED, Outcome.SKIPPED)
SYMBOLS = {
    Outcome.PASSED: "✓",
    Outcome.FAILED: "✗",
    Outcome.WAIVED: "-",
    Outcome.SKIPPED: "-",
    Outcome.ERRORED: "!",
    Outcome.TIMEOUT: "!",
    Outcome.NOT_RUN: "-",
}
MEMORY_PARTS = {
    "weights": ("weights", "unquantised"),
    "LoRA and optimizer": ("adapter", "gradients", "optimizer"),
    "activations": ("activations",),
    "working": ("working", "workspace", "fragmentation"),
    "CUDA": ("context",),
}
"""Parts of memory by their usual names, and what the memory model calls them."""
PREDICTED_BY = {"replay": "replayed", "formulas": "by formulas", "probe": "measured"}
"""How an estimate of memory was found (`planning.records.Figure.by`), in words."""
WORDS = {Outcome.TIMEOUT: "timed out", Outcome.NOT_RUN: "not run"}


AS_SEEN = "as the model sees it: "
"""How the line of a finding begins that draws its row; only `--show-content` adds one."""
REQUIRED = "required by the gate"
NOT_BLOCKING = "not blocking"


def outcome_word(result: Result) -> str:
    """`passed`, `failed`, `failed, not blocking`, `failed; required by the gate`, `timed out` and so on."""
    word = WORDS.get(result.outcome, result.outcome.value)
    if is_required(result):
        return f"{word}; {REQUIRED}"
    return f"{word}, {NOT_BLOCKING}" if is_warning(result) else word


def is_required(result: Result) -> bool:
    """Whether a check keeps the gate shut only because `gate.require` names it."""
    unproved = is_warning(result) or result.outcome in SET_ASIDE
    return result.check.required and unproved


def is_warning(result: Result) -> bool:
    """Whether a check failed with findings below `gate.fail_on` alone."""
    return result.outcome is Outcome.FAILED and not result.blocking


def telling(result: Result) -> str:
    """The few words beside a check's name: the rule's own summary, or its first measurements."""
    if result.summary:
        return " · ".join(filter(None, (one_line(result.summary), sampled.estimates(result))))
    if result.measurements:
        return " · ".join(measured(one) for one in result.measurements[:3])
    return one_line(result.findings[0].message) if result.findings else ""


def reason_of(result: Result) -> str:
    """Why a check has an outcome other than passed or failed; never empty."""
    fallback = "no reason was given"
    return (result.reason or "").strip() or (result.detail or "").strip().rpartition("\n")[2] or fallback


def measured(measurement: Measurement) -> str:
    """`p95 812 tokens (limit <= 768)`, with its interval where it was measured on a sample."""
    value = sampled.valued(measurement)
    words = [measurement.name, value, measurement.unit or ""]
    limit = f"(limit {measurement.limit})" if measurement.limit else ""
    return " ".join(word for word in (*words, limit) if word)


def one_line(text: str) -> str:
    """The text without its line breaks and runs of spaces."""
    return " ".join(text.split())


def first_line(text: str) -> str:
    """The first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def place(at: Location | None) -> str:
    """`path:line:column`, relative to the current folder where it lies in it; else the YAML path or row."""
    if at is None:
        return ""
    if at.path is not None:
        return str(replace(at, path=near(at.path)))
    return at.yaml_path or (f"row {at.row:,}" if at.row is not None else "")


def change_text(change: Change) -> str:
    """`jobs.mapper.training.max_length: 1024 -> 1536`."""
    return f"{change.path}: {setting(change.old)} -> {setting(change.new)}"


def mends(finding: Finding) -> bool:
    """Whether `ftcheck fix` takes up what a finding of a failed check proposes."""
    return finding.change is not None and finding.severity is not Severity.INFO


def setting(value: Any) -> str:
    """A value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def finding_text(finding: Finding) -> str:
    """A finding as plain text: place and message, why it matters where it says so, then what to do."""
    where = place(finding.at)
    lines = [f"{where}: {finding.message}" if where else finding.message]
    if finding.why:
        lines.append(f"  why: {finding.why}")
    if finding.fix:
        lines.append(f"  fix: {finding.fix}")
    if finding.change:
        lines.append(f"  change: {change_text(finding.change)}")
    return "\n".join(lines)


def shown_findings(result: Result) -> tuple[Finding, ...]:
    """At most 20 findings."""
    return result.findings[:MAX_FINDINGS]


def unshown(result: Result, shown: int) -> int:
    """How many findings there were beyond those shown."""
    return max(result.findings_total, len(result.findings)) - shown


def by_reason(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    """Results that have the same outcome for the same reason, together: it is said once."""
    groups: dict[tuple[Outcome, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.outcome, reason_of(result)), []).append(result)
    return [(reason, together) for (_, reason), together in groups.items()]


def shown_severity(finding: Finding, result: Result, fail_on: Severity) -> Severity:
    """How bad a finding of a failed check is shown to be: red is what blocks."""
    if result.blocking and finding.severity.rank >= fail_on.rank:
        return Severity.ERROR
    return Severity.INFO if finding.severity is Severity.INFO else Severity.WARNING


def worst(findings: Sequence[Finding]) -> Severity:
    """The highest severity among findings."""
    return max((finding.severity for finding in findings), key=lambda one: one.rank, default=Severity.ERROR)
