"""The report: ledger, results, digests of every input, versions; as a record and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ftcheck.digest import beginning
from ftcheck.errors import Problem
from ftcheck.paths import near
from ftcheck.records import (
    MAX_FINDINGS,
    Change,
    Check,
    Finding,
    Location,
    Measurement,
    Outcome,
    Result,
    Severity,
    Stage,
)
from ftcheck.report.identity import named
from ftcheck.sampling.row_sample import Estimate, RowSample

SCHEMA = "ftcheck.report/1"
Status = Literal["started", "complete", "incomplete", "partial"]
Verdict = Literal["passed", "failed"]


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One loaded plugin: where it comes from, which version it is, and a digest of its code.

    `code` is over the Python and JSON files of its package (12 hex digits): an edit in place shows.
    """

    name: str
    distribution: str
    version: str
    code: str = ""

    def __str__(self) -> str:
        """`rules 0.1.0 (3f2a9c01d4e5)`, as a check names the plugin that its rule comes from."""
        return f"{self.name} {self.version}" + (f" ({self.code})" if self.code else "")


@dataclass(frozen=True, slots=True)
class InputDigest:
    """One input as it was checked: path, sha256 digest (None: not readable), rows where it has rows."""

    path: str
    digest: str | None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class IdsFrom:
    """Whose ids were checked. `source` is `trl` (as TRL prepares the rows; the trainer feeds just these),
    `prepared` (read from a folder) or `unverified` (the trainer reads the rows itself, nobody knows how).
    `digest` is that over the ids and labels of a folder.
    """

    source: Literal["trl", "prepared", "unverified"]
    version: str | None = None
    framework: str | None = None
    path: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        """`as TRL 1.16 prepares them`, `read from DIR (axolotl), sha256:…`, or `unverified`."""
        if self.source == "trl":
            return " ".join(("as TRL", *([self.version] if self.version else []), "prepares them"))
        if self.source == "prepared":
            by = f" ({self.framework})" if self.framework else ""
            return f"read from {self.path}{by}" + (f", {beginning(self.digest)}" if self.digest else "")
        by = f": the trainer {self.framework} reads and tokenises the rows itself" if self.framework else ""
        return f"unverified{by}"


@dataclass(frozen=True, slots=True)
class JobDigests:
    """What ties a report to a job: its section, plan, model, applied template, and ids with labels.

    `eval_ids` is the digest over the evaluation rows' ids and labels; None where nothing evaluates.
    `during` is the plan of the checks that the trainer runs while it trains; None: there are none.
    `ids_from` says whose ids they are. `sample` is there where a sample of the rows was checked: there is no
    digest over all ids then, `sample.ids` is that over the ids and labels of the sample.
    """

    digest: str
    plan: str
    model: str | None = None
    template: str | None = None
    ids: str | None = None
    during: str | None = None
    eval_ids: str | None = None
    ids_from: IdsFrom | None = None
    sample: RowSample | None = None


@dataclass(frozen=True, slots=True)
class WaiverUse:
    """A waiver as the run used it. `used` is false when it waived nothing.

    `findings` is how many findings it waived, `line` where it stands in the policy, `fingerprints` are those
    that it names, and `remarks` say what is wrong with it: that it is unused, that it names findings that are
    gone, or that it is too broad.
    """

    check: str
    reason: str
    owner: str
    expires: str
    used: bool
    findings: int = 0
    line: int | None = None
    remarks: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleParam:
    """A parameter of a rule, as `ftcheck explain` prints it."""

    name: str
    kind: str
    default: Any
    help: str


@dataclass(frozen=True, slots=True)
class RuleText:
    """What `ftcheck explain` says of a rule: what holds when it passes, what goes wrong otherwise, how it
    measures, and its parameters. `thread` is a public thread about a failure that it catches.
    """

    holds: str
    why: str
    how: str = ""
    params: tuple[RuleParam, ...] = ()
    thread: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `status` says how much of the plan has an outcome, `verdict` what came of it.

    `problems` are what kept the run from being complete (a plugin that did not load, a policy that
    cannot be read); `selection` is how the plan was narrowed, None for all of it. `gate` says, for each
    job, `open` or the refusal codes. `rules` are the texts of the rules in the plan; `folder` is where the
    run was started, from the top of its repository (empty: at the top, or in no repository). `expiring` are
    the days left of waivers that end within a week, by check.
    """

    status: Status
    policy_path: str
    policy_name: str
    verdict: Verdict | None = None
    stage: Stage = Stage.BEFORE
    overrides: tuple[str, ...] = ()
    selection: Mapping[str, Any] | None = None
    removed: tuple[str, ...] = ()
    fail_on: Severity = Severity.ERROR
    jobs: Mapping[str, JobDigests] = field(default_factory=dict)
    inputs: Mapping[str, InputDigest] = field(default_factory=dict)
    plugins: tuple[PluginInfo, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    waivers: tuple[WaiverUse, ...] = ()
    results: tuple[Result, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    started_at: str = ""
    finished_at: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    cached: tuple[str, ...] = ()
    cached_checks: tuple[str, ...] = ()
    gate: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, RuleText] = field(default_factory=dict)
    folder: str = ""
    expiring: Mapping[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Planned checks and how many ended in each outcome."""
        counts = {"planned": len(self.results)} | {outcome.value: 0 for outcome in Outcome}
        for result in self.results:
            counts[result.outcome.value] += 1
        return counts

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results of checks that failed, ended in an error or ran out of time."""
        bad = (Outcome.FAILED, Outcome.ERRORED, Outcome.TIMEOUT)
        return tuple(one for one in self.results if one.outcome in bad)

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """What was measured, one flat row each: `pandas.DataFrame(report.measurements)`.

        Its keys are `check` (the id), `job` (None: the host), `rule`, `name`, `value` (a number or a text),
        `unit` and `limit` (`<= 768`; both None where there is none); on a sample of the rows also `estimate`
        (its kind), `sampled`, `low` and `high`, None where rows do not matter.
        """
        sampled = any(one.sample is not None for one in self.jobs.values())
        return [
            {
                "check": one.check.id,
                "job": one.check.job,
                "rule": one.check.rule,
                "name": m.name,
                "value": m.value,
                "unit": m.unit,
                "limit": m.limit,
                **(_flat(m.estimate) if sampled else {}),
            }
            for one in self.results
            for m in one.measurements
        ]


def _flat(estimate: Estimate | None) -> dict[str, Any]:
    """What a sample says of all rows, beside a measurement."""
    if estimate is None:
        return dict.fromkeys(("estimate", "sampled", "low", "high"))
    return {
        "estimate": estimate.kind,
        "sampled": estimate.sampled,
        "low": estimate.low,
        "high": estimate.high,
    }


def to_dict(report: Report) -> dict[str, Any]:
    """The report as `ftcheck.report/1`: sorted, with all that changes between equal runs under `run`."""
    results = sorted(report.results, key=lambda r: r.check.id)
    return {
        "schema": SCHEMA,
        "status": report.status,
        "verdict": report.verdict,
        "policy": {
            "path": report.policy_path,
            "name": report.policy_name,
            "stage": report.stage.value,
            "fail_on": report.fail_on.value,
            "overrides": list(report.overrides),
            "selection": dict(report.selection) if report.selection is not None else None,
            "removed": sorted(report.removed),
        },
        "jobs": {name: asdict(report.jobs[name]) for name in sorted(report.jobs)},
        "inputs": {name: asdict(report.inputs[name]) for name in sorted(report.inputs)},
        "plugins": [asdict(p) for p in sorted(report.plugins, key=lambda p: (p.distribution, p.name))],
        "packages": {name: report.packages[name] for name in sorted(report.packages)},
        "waivers": [asdict(w) for w in sorted(report.waivers, key=lambda w: w.check)],
        "counts": report.counts(),
        "problems": [asdict(p) for p in report.problems],
        "notes": list(report.notes),
        "gate": {name: report.gate[name] for name in sorted(report.gate)},
        "results": [_settled(r) for r in results],
        "rules": {name: asdict(report.rules[name]) for name in sorted(report.rules)},
        "run": {
            "started_at": report.started_at,
            "finished_at": report.finished_at,
            "seconds": {r.check.id: round(r.seconds, 3) for r in results},
            "volatile": {r.check.id: _volatile(r) for r in results if _is_volatile(r)},
            "machine": dict(report.machine),
            "cached": sorted(report.cached),
            "folder": report.folder,
            "expiring": {name: report.expiring[name] for name in sorted(report.expiring)},
            "cached_checks": sorted(report.cached_checks),
        },
    }


def result_to_dict(result: Result) -> dict[str, Any]:
    """One result as it stands in the JSON report (without its seconds)."""
    check = result.check
    return {
        "id": check.id,
        "name": check.name,
        "rule": check.rule,
        "job": check.job,
        "stage": check.stage.value,
        "severity": check.severity.value if check.severity else None,
        "params": dict(check.params),
        "tags": list(check.tags),
        "plugin": check.plugin,
        "required": check.required,
        "at": {"path": near(check.at.path), "line": check.at.line} if check.at and check.at.path else None,
        "outcome": result.outcome.value,
        "blocking": result.blocking,
        "reason": result.reason,
        "summary": result.summary,
        "measurements": [_measurement_to_dict(m) for m in result.measurements],
        "findings_total": result.findings_total,
        "failing_total": result.failing_total,
        "waived_total": result.waived_total,
        "fingerprints": list(result.fingerprints),
        "findings": [finding_to_dict(one) for one in named(check, result.findings[:MAX_FINDINGS])],
        "detail": result.detail,
        "reads_content": result.reads_content,
    }


def _is_volatile(result: Result) -> bool:
    return any(one.volatile for one in result.measurements)


def _settled(result: Result) -> dict[str, Any]:
    """A result without what changes by itself between two runs."""
    settled = result_to_dict(result)
    if _is_volatile(result):
        settled["summary"] = None
        for one in settled["measurements"]:
            one["value"] = None if one.get("volatile") else one["value"]
    return settled


def _volatile(result: Result) -> dict[str, Any]:
    values = {one.name: one.value for one in result.measurements if one.volatile}
    return {"summary": result.summary, "measurements": values}


def _measurement_to_dict(one: Measurement) -> dict[str, Any]:
    stable: dict[str, Any] = {"name": one.name, "value": one.value, "unit": one.unit, "limit": one.limit}
    if one.volatile:
        stable["volatile"] = True
    if one.estimate is not None:
        stable["estimate"] = asdict(one.estimate)
    return stable


def _measurement_from_dict(data: Mapping[str, Any]) -> Measurement:
    estimate = data.get("estimate")
    return Measurement(**{**data, "estimate": Estimate(**estimate) if estimate is not None else None})


def finding_to_dict(finding: Finding) -> dict[str, Any]:
    """One finding as it stands in the JSON report."""
    at = finding.at or Location()
    return {
        "message": finding.message,
        "severity": finding.severity.value,
        **asdict(at),
        "path": near(at.path) if at.path is not None else None,
        "why": finding.why,
        "fix": finding.fix,
        "change": asdict(finding.change) if finding.change else None,
        "fingerprint": finding.fingerprint,
    }


def from_dict(data: Mapping[str, Any]) -> Report:
    """Read a report back. Raises `KeyError`, `TypeError` or `ValueError` on anything malformed."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema is {data['schema']!r}, this ftcheck reads {SCHEMA!r}")
    policy, run = data["policy"], data["run"]
    return Report(
        status=data["status"],
        verdict=data["verdict"],
        policy_path=policy["path"],
        policy_name=policy["name"],
        stage=Stage(policy["stage"]),
        fail_on=Severity(policy["fail_on"]),
        overrides=tuple(policy["overrides"]),
        selection=policy["selection"],
        removed=tuple(policy["removed"]),
        jobs={name: _job_from_dict(job) for name, job in data["jobs"].items()},
        inputs={name: InputDigest(**one) for name, one in data["inputs"].items()},
        plugins=tuple(PluginInfo(**p) for p in data["plugins"]),
        packages=dict(data["packages"]),
        waivers=tuple(_waiver_from_dict(w) for w in data["waivers"]),
        problems=tuple(Problem(**p) for p in data["problems"]),
        notes=tuple(data["notes"]),
        gate=dict(data["gate"]),
        results=tuple(_with_volatile(r, run) for r in data["results"]),
        started_at=run["started_at"],
        finished_at=run["finished_at"],
        machine=dict(run["machine"]),
        cached=tuple(run["cached"]),
        rules={name: _rule_from_dict(rule) for name, rule in data.get("rules", {}).items()},
        folder=run.get("folder", ""),
        expiring=dict(run.get("expiring", {})),
        cached_checks=tuple(run.get("cached_checks", ())),
    )


def as_stored(report: Report) -> Report:
    """The report as it is read back from its JSON: sorted, and with no more than stands there."""
    return from_dict(to_dict(report))


def _job_from_dict(data: Mapping[str, Any]) -> JobDigests:
    ids_from, sample = data.get("ids_from"), data.get("sample")
    made = {
        "ids_from": IdsFrom(**ids_from) if ids_from is not None else None,
        "sample": RowSample(**sample) if sample is not None else None,
    }
    return JobDigests(**{**data, **made})


def _waiver_from_dict(data: Mapping[str, Any]) -> WaiverUse:
    listed = {name: tuple(data.get(name, ())) for name in ("remarks", "fingerprints")}
    return WaiverUse(**{**data, **listed})


def _rule_from_dict(data: Mapping[str, Any]) -> RuleText:
    return RuleText(**{**data, "params": tuple(RuleParam(**one) for one in data["params"])})


def _with_volatile(data: Mapping[str, Any], run: Mapping[str, Any]) -> Result:
    """A result with what stands under `run` of it."""
    moved = run["volatile"].get(data["id"])
    if moved is not None:
        values = moved["measurements"]
        measured = [{**m, "value": values.get(m["name"], m["value"])} for m in data["measurements"]]
        data = {**data, "summary": moved["summary"], "measurements": measured}
    return result_from_dict(data, run["seconds"].get(data["id"], 0.0))


def result_from_dict(data: Mapping[str, Any], seconds: float = 0.0) -> Result:
    """Read one result back."""
    check = Check(
        id=data["id"],
        name=data["name"],
        rule=data["rule"],
        job=data["job"],
        stage=Stage(data["stage"]),
        severity=Severity(data["severity"]) if data["severity"] else None,
        params=dict(data["params"]),
        tags=tuple(data["tags"]),
        plugin=data["plugin"],
        required=data.get("required", False),
        at=Location(**data["at"]) if data.get("at") else None,
    )
    return Result(
        check=check,
        outcome=Outcome(data["outcome"]),
        blocking=data["blocking"],
        reason=data["reason"],
        summary=data["summary"],
        measurements=tuple(map(_measurement_from_dict, data["measurements"])),
        findings_total=data["findings_total"],
        failing_total=data.get("failing_total", 0),
        waived_total=data.get("waived_total", 0),
        fingerprints=tuple(data.get("fingerprints", ())),
        findings=tuple(_finding_from_dict(f) for f in data["findings"]),
        detail=data["detail"],
        reads_content=data.get("reads_content", False),
        seconds=seconds,
    )


def _finding_from_dict(data: Mapping[str, Any]) -> Finding:
    place = {key: data[key] for key in ("path", "line", "column", "yaml_path", "row", "record")}
    at = Location(**place)
    return Finding(
        message=data["message"],
        severity=Severity(data["severity"]),
        at=None if at == Location() else at,
        why=data.get("why"),
        fix=data["fix"],
        change=Change(**data["change"]) if data["change"] else None,
        fingerprint=data["fingerprint"],
    )
