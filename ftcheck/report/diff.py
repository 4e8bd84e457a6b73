"""What differs between two reports: findings by their fingerprints, outcomes, measurements, inputs, versions.

Only findings that fail a check are compared (warnings and errors, waived ones too). What is not known is no
difference of nothing: a check that did not come to an end, is not planned any more, or has more findings than
a report keeps says so, and its numbers are lower bounds then.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ftcheck.records import Finding, Measurement, Outcome, Result, Severity
from ftcheck.report.record import InputDigest, Report, finding_to_dict

SCHEMA = "ftcheck.diff/1"
DECIDED = (Outcome.PASSED, Outcome.FAILED, Outcome.WAIVED)
"""Outcomes of checks that looked at everything they are about."""
Presence = Literal["new", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two reports, in short."""

    policy: str
    status: str
    verdict: str | None
    failed: int
    finished_at: str | None = None


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A value before and after; None where it is not stated."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class InputChange:
    """An input whose digest, path or number of rows is another; None where the report has no such input."""

    name: str
    before: InputDigest | None
    after: InputDigest | None


@dataclass(frozen=True, slots=True)
class CheckChange:
    """A check that ended otherwise, or that only one of the reports planned (its outcome is None then)."""

    check: str
    presence: Presence
    before: Outcome | None
    after: Outcome | None
    blocked_before: bool
    blocks_after: bool


@dataclass(frozen=True, slots=True)
class FindingsChange:
    """The findings of one check. `new`, `fixed` and `still` are those of which a report keeps the text.

    The totals count all; they are lower bounds unless `exact`. `unknown` says why nothing can be said of what
    became of the findings before (or of what is new), else it is empty.
    """

    check: str
    new: tuple[Finding, ...] = ()
    fixed: tuple[Finding, ...] = ()
    still: tuple[Finding, ...] = ()
    new_total: int = 0
    fixed_total: int = 0
    still_total: int = 0
    exact: bool = True
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class MeasurementChange:
    """A measurement that is another, new or gone. `relative` is (after - before) / |before|, for numbers."""

    check: str
    name: str
    unit: str | None
    presence: Presence
    before: Any = None
    after: Any = None
    limit_before: str | None = None
    limit_after: str | None = None
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs between two reports; `run` (times, machine) is empty unless it was asked for."""

    before: Side
    after: Side
    gate: tuple[ValueChange, ...] = ()
    checks: tuple[CheckChange, ...] = ()
    findings: tuple[FindingsChange, ...] = ()
    measurements: tuple[MeasurementChange, ...] = ()
    inputs: tuple[InputChange, ...] = ()
    jobs: tuple[ValueChange, ...] = ()
    policy: tuple[ValueChange, ...] = ()
    waivers: tuple[ValueChange, ...] = ()
    versions: tuple[ValueChange, ...] = ()
    run: tuple[ValueChange, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything does, findings that are still there aside."""
        told = (self.gate, self.checks, self.measurements, self.inputs, self.jobs, self.policy)
        moved = any(one.new_total or one.fixed_total or one.unknown for one in self.findings)
        sides = (self.before.status, self.before.verdict) != (self.after.status, self.after.verdict)
        return moved or sides or any((*told, self.waivers, self.versions, self.run))

    @property
    def exact(self) -> bool:
        """Whether the totals over all findings are exact, and no lower bounds."""
        return all(one.exact and not one.unknown for one in self.findings)

    def total(self, what: Literal["new", "fixed", "still"]) -> int:
        """How many findings are new, fixed or still there, over all checks; a lower bound unless `exact`."""
        return sum(getattr(one, f"{what}_total") for one in self.findings)


def compare(before: Report, after: Report, *, volatile: bool = False) -> Difference:
    """What differs; with `volatile` also what changes by itself between two runs (times, machine)."""
    pairs = _pairs(before, after)
    return Difference(
        before=_side(before, volatile=volatile),
        after=_side(after, volatile=volatile),
        gate=_values(before.gate, after.gate),
        checks=tuple(one for pair in pairs.items() for one in _check_change(*pair)),
        findings=tuple(one for pair in pairs.items() for one in _findings(*pair)),
        measurements=tuple(one for pair in pairs.items() for one in _measurements(*pair, volatile=volatile)),
        inputs=tuple(_inputs(before, after)),
        jobs=_values(_jobs(before), _jobs(after)),
        policy=_values(_policy(before), _policy(after)),
        waivers=_values(_waivers(before), _waivers(after)),
        versions=_values(_versions(before), _versions(after)),
        run=_values(_run(before), _run(after)) if volatile else (),
    )


def to_dict(difference: Difference) -> dict[str, Any]:
    """The difference as `ftcheck.diff/1`."""
    told = asdict(difference)
    for made, one in zip(told["findings"], difference.findings, strict=True):
        for what in ("new", "fixed", "still"):
            made[what] = [finding_to_dict(finding) for finding in getattr(one, what)]
    totals = {what: difference.total(what) for what in ("new", "fixed", "still")}
    return {
        "schema": SCHEMA,
        "differs": difference.differs,
        "totals": totals | {"exact": difference.exact},
    } | told


Pair = tuple[Result | None, Result | None]


def _pairs(before: Report, after: Report) -> dict[str, Pair]:
    """The two results of each check, sorted by its id."""
    then = {one.check.id: one for one in before.results}
    now = {one.check.id: one for one in after.results}
    return {name: (then.get(name), now.get(name)) for name in sorted(then.keys() | now.keys())}


def _side(report: Report, *, volatile: bool) -> Side:
    return Side(
        report.policy_name,
        report.status,
        report.verdict,
        sum(one.outcome is Outcome.FAILED for one in report.results),
        report.finished_at if volatile else None,
    )


def _values(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> tuple[ValueChange, ...]:
    return tuple(
        ValueChange(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _check_change(name: str, pair: Pair) -> Iterator[CheckChange]:
    then, now = pair
    outcomes = [one.outcome if one else None for one in pair]
    blocks = [one is not None and one.blocking for one in pair]
    if outcomes[0] is not outcomes[1] or blocks[0] != blocks[1]:
        presence: Presence = "new" if then is None else "removed" if now is None else "changed"
        yield CheckChange(name, presence, outcomes[0], outcomes[1], blocks[0], blocks[1])


def _findings(name: str, pair: Pair) -> Iterator[FindingsChange]:
    then, now = pair
    known: Result | None
    if then is not None and now is None:
        known, unknown = then, "the check is not planned any more"
    elif now is not None and now.outcome not in DECIDED:
        known, unknown = then, f"the check did not come to an end: {now.outcome.value}"
    elif then is not None and then.outcome not in DECIDED:
        known, unknown = now, f"the check did not come to an end before: {then.outcome.value}"
    elif any(one is not None and _unnamed(one) for one in pair):
        yield FindingsChange(name, unknown="a report of an earlier ftcheck does not name them", exact=False)
        return
    else:
        yield from _matched(name, then, now)
        return
    if known is not None and (known.failing_total or _unnamed(known)):
        yield FindingsChange(name, unknown=unknown, exact=False)


def _unnamed(result: Result) -> bool:
    """Whether its findings are not counted by name, as in a report from before there were such names."""
    return result.outcome in (Outcome.FAILED, Outcome.WAIVED) and not result.failing_total


def _matched(name: str, then: Result | None, now: Result | None) -> Iterator[FindingsChange]:
    """Of a check that came to an end both times; one that was not planned before had no findings."""
    was, are = _fingerprints(then), _fingerprints(now)
    totals = [one.failing_total if one else 0 for one in (then, now)]
    if not any(totals):
        return
    whole = [len(was) == totals[0], len(are) == totals[1]]
    new, fixed, still = are - was, was - are, are & was
    yield FindingsChange(
        name,
        new=_kept(now, new) if whole[0] else (),
        fixed=_kept(then, fixed) if whole[1] else (),
        still=_kept(now, still),
        new_total=len(new) if all(whole) else max(0, totals[1] - totals[0]),
        fixed_total=len(fixed) if all(whole) else max(0, totals[0] - totals[1]),
        still_total=len(still),
        exact=all(whole),
    )


def _fingerprints(result: Result | None) -> frozenset[str]:
    return frozenset(result.fingerprints) if result else frozenset()


def _kept(result: Result | None, names: frozenset[str]) -> tuple[Finding, ...]:
    found = result.findings if result else ()
    return tuple(one for one in found if one.fingerprint in names and one.severity is not Severity.INFO)


def _measurements(name: str, pair: Pair, *, volatile: bool) -> Iterator[MeasurementChange]:
    then, now = ({m.name: m for m in one.measurements} if one else {} for one in pair)
    for key in [*then, *(key for key in now if key not in then)]:
        was, is_now = then.get(key), now.get(key)
        either = is_now or was
        if either is None or (either.volatile and not volatile):
            continue
        if was is None or is_now is None or (was.value, was.limit) != (is_now.value, is_now.limit):
            yield _measured(name, was, is_now, either)


def _measured(
    check: str, was: Measurement | None, is_now: Measurement | None, either: Measurement
) -> MeasurementChange:
    return MeasurementChange(
        check,
        either.name,
        either.unit,
        presence="new" if was is None else "removed" if is_now is None else "changed",
        before=was.value if was else None,
        after=is_now.value if is_now else None,
        limit_before=was.limit if was else None,
        limit_after=is_now.limit if is_now else None,
        relative=_relative(was.value, is_now.value) if was and is_now else None,
    )


def _relative(before: Any, after: Any) -> float | None:
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (before, after))
    return (after - before) / abs(before) if numbers and before else None


def _inputs(before: Report, after: Report) -> Iterator[InputChange]:
    for name in sorted(before.inputs.keys() | after.inputs.keys()):
        was, is_now = before.inputs.get(name), after.inputs.get(name)
        if was != is_now:
            yield InputChange(name, was, is_now)


def _jobs(report: Report) -> dict[str, str | None]:
    """What ties the report to its jobs, by a name that people know."""
    names = {"digest": "settings", "plan": "planned checks", "during": "checks during training"}
    parts = ("digest", "plan", "model", "template", "ids", "during", "eval_ids")
    told = {
        f"{job}: {names.get(part, part)}": getattr(one, part)
        for job, one in report.jobs.items()
        for part in parts
    }
    told |= {f"{job}: sample": str(one.sample) for job, one in report.jobs.items() if one.sample}
    return told | {f"{job}: ids from": str(one.ids_from) for job, one in report.jobs.items() if one.ids_from}


def _policy(report: Report) -> dict[str, str | None]:
    return {
        "name": report.policy_name,
        "stage": report.stage.value,
        "gate.fail_on": report.fail_on.value,
        "overrides": ", ".join(report.overrides) or None,
        "selection": str(dict(report.selection)) if report.selection else None,
        "removed checks": ", ".join(sorted(report.removed)) or None,
    }


def _waivers(report: Report) -> dict[str, str | None]:
    told: dict[str, list[str]] = {}
    for one in report.waivers:
        words = f"until {one.expires}: {one.reason} ({one.owner}), {one.findings} findings"
        told.setdefault(one.check, []).append(words)
    return {check: "; ".join(words) for check, words in told.items()}


def _versions(report: Report) -> dict[str, str | None]:
    plugins = {f"plugin {one.name} ({one.distribution})": str(one) for one in report.plugins}
    return {**report.packages, **plugins}


def _run(report: Report) -> dict[str, str | None]:
    machine = {f"machine {name}": str(value) for name, value in report.machine.items()}
    return {
        "started": report.started_at or None,
        "finished": report.finished_at,
        "from the cache": ", ".join(sorted(report.cached)) or None,
        **machine,
    }
