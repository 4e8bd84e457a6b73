"""The gate: a pure function from a report and the state of the world to a ticket or a refusal."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ftcheck import digest
from ftcheck.durations import seconds
from ftcheck.gate import sampled, waived
from ftcheck.gate.input_digests import ADAPTER, InputDigests
from ftcheck.gate.ticket import (
    SEAL,
    Reason,
    Refusal,
    Ticket,
)
from ftcheck.gate.whose_ids import contradictions
from ftcheck.ledger import BROKEN, judge, narrowed, status_of, verdict_of
from ftcheck.policy.plan import matching, of_job
from ftcheck.records import MAX_FINDINGS, Check, Outcome, Result, Severity
from ftcheck.report.record import InputDigest, JobDigests, Report, to_dict
from ftcheck.settings import Job, Policy

_NO_IDS = "some rows could not be prepared, or no check uses the prepared rows"


@dataclass(frozen=True, slots=True)
class World:
    """The state of the world that a report is held against: policy, plan, digests, and the time.

    `signed`: whether one whom `gate.require_signed` names was found to have signed the report's bytes.
    `sealed` gives the report's digest where it is worked out once for several jobs.
    """

    policy: Policy
    checks: tuple[Check, ...]
    evidence: InputDigests
    now: datetime
    signed: bool = False
    sealed: Callable[[], str] | None = None


def decide(report: Report, world: World, job: str) -> Ticket | Refusal:
    """The gate. Every reason that speaks against the job is named; without any, a ticket."""
    reasons = _unfinished(report, job) or [*_changed(report, world, job), *_verdict(report, world, job)]
    if reasons:
        return Refusal(job, tuple(dict.fromkeys(reasons)))
    issued = world.now.isoformat(timespec="seconds")
    sealed = world.sealed() if world.sealed is not None else report_digest(report)
    return Ticket(policy=world.policy.path, issued_at=issued, seal=SEAL, **ticket_values(report, job, sealed))


def ticket_values(report: Report, job: str, sealed: str) -> dict[str, Any]:
    """What a ticket says of a job, from the report and its digest: its digests, and whose ids they are."""
    digests = report.jobs[job]
    inputs = {name: one.digest or "" for name, one in report.inputs.items() if name.startswith(f"{job}.")}
    return {
        "job": job,
        "report": sealed,
        "job_digest": digests.digest,
        "plan": digests.plan,
        "model": digests.model,
        "template": digests.template,
        "ids": digests.ids,
        "eval_ids": digests.eval_ids,
        "ids_from": str(digests.ids_from or "unverified"),
        "sample": digests.sample,
        "inputs": inputs,
    }


def report_digest(report: Report) -> str:
    """A digest of what a report says was checked: without the gate's words, and without its run."""
    said = to_dict(replace(report, gate={}))
    return digest.of_json({key: value for key, value in said.items() if key != "run"})


def _unfinished(report: Report, job: str) -> list[Reason]:
    """A report that says nothing (yet) about this job; other reasons would be noise then."""
    if report.status == "started":
        return [Reason("started", "the run has not finished, or was killed: run the checks again")]
    if report.status == "incomplete" and not report.results:
        first = report.problems[0].message if report.problems else "no check ran"
        return [Reason("incomplete", f"the run ended before its checks: {first}")]
    if job not in report.jobs:
        return [Reason("partial", f"the report does not cover the job {job}: run the checks again")]
    return []


def _changed(report: Report, world: World, job: str) -> Iterator[Reason]:
    """What is not as it was checked: settings, plan, plugins, files, template, model."""
    then, now = report.jobs[job], world.evidence.job
    if then.digest != now.digest:
        yield Reason("policy-changed", f"the section jobs.{job} differs from the one that was checked")
    if then.plan != now.plan:
        yield _plan_changed(report, world, job)
    if then.during != now.during:
        yield Reason("policy-changed", "the checks that run during training differ from those in the report")
    yield from _policy_changed(report, world.policy, job)
    if report.fail_on is not world.policy.gate.fail_on:
        asked = world.policy.gate.fail_on.value
        yield Reason(
            "policy-changed", f"gate.fail_on was {report.fail_on.value} in the report, is {asked} now"
        )
    for name in sorted({*world.evidence.inputs, *_inputs_of(report, job)}):
        was, is_now = report.inputs.get(name), world.evidence.inputs.get(name)
        if name == f"{job}.{ADAPTER}" and is_now is not None and is_now.digest is None:
            yield Reason("no-adapter", f"{is_now.path} contains no adapter: {job} was not trained")
        elif was is None or is_now is None or was.digest is None or was.digest != is_now.digest:
            yield Reason(code_of(name, job), changed_input(name, was, is_now))
    if then.template != now.template:
        yield Reason(
            "template-changed", changed_value("the chat template as applied", then.template, now.template)
        )
    if then.model is None or then.model != now.model:
        yield Reason("model-changed", changed_value("the model's configuration", then.model, now.model))


def _policy_changed(report: Report, policy: Policy, job: str) -> Iterator[Reason]:
    """What the report says of the policy beside its jobs: stage, overrides of this job, removed checks."""
    if report.stage is not policy.stage:
        message = f"the report is one of stage {report.stage}, the policy is of stage {policy.stage}"
        yield Reason("policy-changed", message)
    if _about(report.overrides, job) != _about(policy.overrides, job):
        yield Reason(
            "policy-changed", f"the values that --set gave to jobs.{job} are not those of the report"
        )
    if sorted(report.removed) != sorted(policy.removed):
        yield Reason("policy-changed", "the policy removes other checks than the report says")


def _about(overrides: Sequence[str], job: str) -> list[str]:
    return sorted(one for one in overrides if one.startswith(f"jobs.{job}."))


def _inputs_of(report: Report, job: str) -> list[str]:
    return [name for name in report.inputs if name.startswith(f"{job}.")]


def code_of(name: str, job: str) -> str:
    """The refusal code for an input of a job that is not what was checked."""
    rest = name.removeprefix(f"{job}.")
    if rest == ADAPTER:
        return "adapter-changed"
    if rest.partition(".")[0] == "from":
        return "policy-changed"
    if rest.endswith("tokenizer"):
        return "tokenizer-changed"
    return "template-changed" if rest.endswith("chat_template") else "data-changed"


def changed_input(name: str, was: InputDigest | None, is_now: InputDigest | None) -> str:
    """What an input was and is, by its digests."""
    path = (is_now or was or InputDigest(name, None)).path
    return changed_value(path, was.digest if was else None, is_now.digest if is_now else None)


def changed_value(what: str, was: str | None, is_now: str | None) -> str:
    """What a digest was when it was checked, and is now."""
    return f"{what} was {_short(was)} in the report, is {_short(is_now)} now"


def _short(value: str | None) -> str:
    return f"{digest.beginning(value, 4)}{value[-4:]}" if value else "not readable"


def _plan_changed(report: Report, world: World, job: str) -> Reason:
    """Whether other checks are planned now, or only other plugins would run them."""
    then = {_essence(result.check) for result in report.results if result.check.job in (job, None)}
    now = {_essence(check) for check in of_job(world.checks, job)}
    if then == now:
        return Reason("plugins-changed", "the plugins or their versions differ from those in the report")
    names = sorted({one[0] for one in then ^ now})
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    code = "partial" if then < now and report.status == "partial" else "policy-changed"
    return Reason(code, f"the planned checks differ from those in the report: {listed}")


def _essence(check: Check) -> tuple[str, str, str, str | None]:
    return check.id, check.rule, digest.canonical(dict(check.params)), check.severity


def _verdict(report: Report, world: World, job: str) -> Iterator[Reason]:
    """What the report's own results say, and whether they still count."""
    mine = {r.check.id: r for r in report.results if r.check.job in (job, None)}
    planned = [check.id for check in of_job(world.checks, job)]
    yield from _complete(report, mine, planned, world.policy.jobs[job])
    for one in mine.values():
        if one.blocking:
            yield Reason("failed", f"{one.check.id} failed with a blocking finding")
    for pattern in world.policy.gate.require:
        for one_id in matching(pattern, planned):
            if one_id not in mine or mine[one_id].outcome is not Outcome.PASSED:
                outcome = mine[one_id].outcome.value if one_id in mine else "not in the report"
                yield Reason("required", f"{one_id} is required to pass; it is {outcome}")
    yield from sampled.refusals(report.jobs[job], world.policy, job)
    if world.policy.gate.require_signed and not world.signed:
        yield Reason(
            "unsigned", "gate.require_signed asks for a signature: ftcheck attest signs a stored report"
        )
    yield from _waivers(report, world, mine)
    yield from _age(report, world)
    yield from _consistent(report, world, job, mine)


def _complete(
    report: Report, mine: Mapping[str, Result], planned: Sequence[str], job: Job
) -> Iterator[Reason]:
    missing = [one for one in planned if one not in mine or mine[one].outcome is Outcome.NOT_RUN]
    if report.status == "partial" or missing:
        what = f": {', '.join(missing[:5])} did not run" if missing else ""
        yield Reason("partial", f"the report covers a selection of the checks, or the run was stopped{what}")
    if report.status == "incomplete":
        broken = [one.check.id for one in report.results if one.outcome in BROKEN]
        why = f"{', '.join(broken[:5])} errored or timed out" if broken else report.problems[0].message
        yield Reason("incomplete", f"the run is not complete: {why}")
    elif report.status == "complete" and not any(one.blocking for one in mine.values()):
        yield from _without_ids(report.jobs[job.name], job)


def _without_ids(digests: JobDigests, job: Job) -> Iterator[Reason]:
    """Rows that nobody can hold against what was checked, where no finding says why.

    Of a sample, those that were drawn; rows that are held out of it were not checked either.
    """
    sample = digests.sample
    if (digests.ids if sample is None else sample.ids) is None:
        yield Reason("incomplete", f"no digest over ids and labels: {_NO_IDS}")
    if digests.eval_ids is None and job.evaluates and not (sample is not None and job.divided):
        yield Reason("incomplete", f"no digest over the evaluation rows' ids and labels: {_NO_IDS}")


def _waivers(report: Report, world: World, mine: Mapping[str, Result]) -> Iterator[Reason]:
    for result in mine.values():
        yield from waived.no_longer_waived(report, result, world.policy, world.now.date())


def _age(report: Report, world: World) -> Iterator[Reason]:
    limit = seconds(world.policy.gate.max_age) or 0.0
    try:
        finished = datetime.fromisoformat(report.finished_at or "")
        age = (world.now - finished).total_seconds()
    except (ValueError, TypeError):
        yield Reason("inconsistent", "the report does not say when it was made")
        return
    if age > limit:
        hours = f"{age / 3600:.1f} h"
        yield Reason("too-old", f"the report is {hours} old, gate.max_age is {world.policy.gate.max_age}")
    elif age < -300:
        yield Reason("inconsistent", "the report is dated in the future: check the clocks")


def _consistent(report: Report, world: World, job: str, mine: Mapping[str, Result]) -> Iterator[Reason]:
    """The report must tell one story: results with themselves, with the plan, and with verdict and status."""
    counted = Counter(result.check.id for result in report.results)
    for one_id, count in counted.items():
        if count > 1:
            yield Reason("inconsistent", f"{one_id} stands in the report {count} times")
    plan_of = {check.id: check for check in world.checks}
    for result in report.results:
        planned = plan_of.get(result.check.id)
        if planned is not None and result.check.id in mine and _bound(result.check) != _bound(planned):
            yield Reason("inconsistent", f"{result.check.id} is another check in the report than in the plan")
        for wrong in _contradictions(result, planned or result.check, report.fail_on):
            yield Reason("inconsistent", f"{result.check.id} {wrong}")
    for wrong in contradictions(report.jobs[job], world.policy.jobs[job]):
        yield Reason("inconsistent", f"the report {wrong}")
    for wrong in sampled.contradictions(report, world.policy.jobs[job]):
        yield Reason("inconsistent", f"the report {wrong}")
    status = status_of(report.results, report.problems, selected=narrowed(report.selection))
    if status != report.status:
        yield Reason("inconsistent", f"the report says {report.status}, its results say {status}")
    if verdict_of(report.results, report.status) != report.verdict:
        yield Reason("inconsistent", f"the verdict {report.verdict} does not follow from the results")


def _bound(check: Check) -> tuple[object, ...]:
    """What a check is: rule, parameters, job, stage, severity cap, and the plugin that runs it."""
    return (*_essence(check), check.name, check.job, check.stage, check.plugin)


def _contradictions(result: Result, planned: Check, fail_on: Severity) -> Iterator[str]:
    """What a result says against itself; severities are capped as the plan says."""
    judged = judge(replace(result, check=planned), fail_on)
    if (judged.outcome, judged.blocking) != (result.outcome, result.blocking):
        yield f"says {result.outcome.value}, its findings say otherwise"
    if len(result.findings) != min(result.findings_total, MAX_FINDINGS):
        yield f"lists {len(result.findings)} findings and counts {result.findings_total}"
    if result.outcome is Outcome.PASSED and not result.measurements:
        yield "passed and measured nothing"
    if result.outcome is Outcome.SKIPPED and any(
        one.severity is not Severity.INFO for one in result.findings
    ):
        yield "was skipped and has findings"
    if result.blocking and result.outcome is not Outcome.FAILED:
        yield f"blocks, and its outcome is {result.outcome.value}"
    yield from waived.contradictions(result)
