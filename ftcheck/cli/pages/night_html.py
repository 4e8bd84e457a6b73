"""A whole night on one page: checks before, plan, training, checks after; planned numbers beside measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from ftcheck.cli.pages import monitor_html, plan_html
from ftcheck.cli.pages.monitor_page import clock
from ftcheck.cli.pages.plan_page import span
from ftcheck.inputs.metric_history import Span
from ftcheck.inputs.run_folder import State
from ftcheck.planning.records import JobPlan, Unplanned
from ftcheck.plurals import agreeing, counted
from ftcheck.records import Outcome, Result
from ftcheck.report import wording
from ftcheck.report.clean import clean
from ftcheck.report.html import check_list, failed_checks, jobs, ran, verdict, waivers
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import badge, facts, joined, outcome_sign, section, tag
from ftcheck.report.html.shell import Document, document
from ftcheck.report.record import Report

GLANCE = (
    Column("job", names=True),
    Column("checks before"),
    Column("plan"),
    Column("training"),
    Column("checks after"),
)
HELD = (
    Column("number", names=True),
    Column("planned", number=True),
    Column("measured", number=True),
    Column("within the plan"),
)
Section = tuple[str, str, Markup]


@dataclass(frozen=True, slots=True)
class Night:
    """What a night left behind. `runs` are of one job each; `missing` says what is not there to read."""

    before: Report | None = None
    after: Report | None = None
    plans: Sequence[JobPlan | Unplanned] = ()
    runs: Sequence[monitor_html.Pair] = ()
    missing: Sequence[str] = ()

    @property
    def reports(self) -> list[Report]:
        """The reports that are there."""
        return [one for one in (self.before, self.after) if one is not None]

    @property
    def jobs(self) -> list[str]:
        """All jobs that anything tells of."""
        told = [job for report in self.reports for job in report.jobs]
        told += [one.job for one in self.plans]
        return list(dict.fromkeys([*told, *(view.job for view, _ in self.runs)]))


@dataclass(frozen=True, slots=True)
class _Job:
    """One job of a night."""

    name: str
    night: Night
    plan: JobPlan | Unplanned | None = None
    run: monitor_html.Pair | None = field(default=None)

    @classmethod
    def of(cls, name: str, night: Night) -> "_Job":
        plan = next((one for one in night.plans if one.job == name), None)
        return cls(name, night, plan, next((one for one in night.runs if one[0].job == name), None))


def page(night: Night, at: str) -> str:
    """The night as one HTML file."""
    night = _cleaned(night)
    known = [_Job.of(name, night) for name in night.jobs]
    parts = [*_jobs(known), *_reports(night), *_plans(night)]
    links = [(identifier, word) for identifier, word, part in parts if part]
    body = joined((_top(night, known, at), *(part for _, _, part in parts)))
    return document(Document("night", f"{_word(night)}: {_name(night)} · ftcheck night", links, body))


def _cleaned(night: Night) -> Night:
    return replace(
        night,
        before=clean(night.before) if night.before is not None else None,
        after=clean(night.after) if night.after is not None else None,
        plans=[clean(one) for one in night.plans],
        runs=[(clean(view), drawn) for view, drawn in night.runs],
        missing=clean(tuple(night.missing)),
    )


def _name(night: Night) -> str:
    return next((one.policy_name for one in night.reports), ", ".join(night.jobs))


# --- the top ------------------------------------------------------------------------------------------


def lacking(night: Night) -> list[str]:
    """What keeps a night from being whole: it is no pass while anything stands here."""
    return list(_lacking(night, [_Job.of(name, night) for name in night.jobs]))


def _lacking(night: Night, known: Sequence[_Job]) -> Iterator[str]:
    yield from night.missing
    if night.before is None:
        yield "no report of the checks before training was given"
    for job in known:
        if job.run is None:
            yield f"{job.name}: no run folder was given"
        elif job.run[0].state is not State.FINISHED:
            yield f"{job.name}: its training is {job.run[0].state.value}"
        elif _other_rows(job):
            yield f"{job.name}: the run was fed other ids than those that the report before training is of"
    if night.after is None:
        yield "no report of the checks after training was given"
    for report in night.reports:
        if verdict.state(report) == "broken":
            yield f"the checks {report.stage.value} training: {verdict.word(report).lower()}"


def _other_rows(job: _Job) -> bool:
    """Whether a run was fed other rows than the ones that were checked, as far as both say."""
    before = job.night.before.jobs.get(job.name) if job.night.before is not None else None
    fed = job.run[0].ids if job.run is not None else None
    return before is not None and before.ids is not None and fed is not None and fed != before.ids


def state(night: Night) -> str:
    """`pass` only if everything is there and passed."""
    broken = {State.FAILED, State.CRASHED}
    if any(one.verdict == "failed" for one in night.reports):
        return "fail"
    if any(view.state in broken for view, _ in night.runs):
        return "fail"
    return "broken" if lacking(night) else "pass"


def _word(night: Night) -> str:
    return {"pass": "Passed", "fail": "Failed"}.get(state(night), "Not whole")


def _top(night: Night, known: Sequence[_Job], at: str) -> Markup:
    kind = state(night)
    sign = {"pass": "✓", "fail": "✗"}.get(kind, "!")
    name = tag("span", _name(night), class_="policy")
    head = tag("h1", tag("span", sign, class_=f"sign {kind}", aria_hidden="true"), _word(night), " ", name)
    lacks = joined(tag("li", one, class_="text") for one in _lacking(night, known))
    return tag(
        "section",
        head,
        tag("ul", lacks, class_="notes") if lacks else tag("p", _whole(night), class_="lead"),
        table("The night by job", GLANCE, (_glance(one) for one in known), stacked=True),
        facts((("Made", verdict.when(at)),)),
        class_=f"verdict {kind}",
        aria_label="Verdict",
    )


def _whole(night: Night) -> str:
    aside = sum(one.outcome in wording.SET_ASIDE for report in night.reports for one in report.results)
    if state(night) != "pass":
        return "All of the night is here."
    rest = f"; {counted(aside, 'check')} {agreeing(aside, 'was', 'were')} skipped or waived" if aside else ""
    return f"Every training finished, and the checks before and after it passed{rest}."


def _glance(job: _Job) -> tuple[str | None, ...]:
    night = job.night
    return (
        job.name,
        _gate(night.before, job.name),
        _plan(job.plan),
        _run(job.run),
        _gate(night.after, job.name),
    )


def _gate(report: Report | None, job: str) -> Markup:
    """What a report says of a job: its gate, and how many checks failed."""
    if report is None:
        return badge("not given", "skip", "?")
    results = [one for one in report.results if one.check.job == job]
    failed = sum(one.outcome is Outcome.FAILED for one in results)
    said = f" {failed:,} of {len(results):,} failed" if failed else f" {len(results):,} checks"
    return joined((verdict.gate_badge(report, job), said)) if results else badge("no checks", "warn", "!")


def _plan(plan: JobPlan | Unplanned | None) -> Markup:
    if plan is None:
        return badge("not given", "skip", "?")
    if isinstance(plan, Unplanned):
        return badge("no plan", "fail", "✗")
    took = f" {span(plan.time)}" if plan.time.known else ""
    return joined((badge(*plan_html.fit(plan)), took))


def _run(run: monitor_html.Pair | None) -> Markup:
    if run is None:
        return badge("not given", "skip", "?")
    view = run[0]
    loss = f" loss {wording.number(round(view.loss, 4))}" if view.loss is not None else ""
    took = f" in {clock(view.gone)}" if view.gone is not None else ""
    return joined((monitor_html.state_badge(view.state), f"{loss}{took}"))


# --- each job -----------------------------------------------------------------------------------------


def _jobs(known: Sequence[_Job]) -> Iterator[Section]:
    for number, job in enumerate(known):
        identifier = f"night-{number}"
        yield identifier, job.name, _job(job, identifier)


def _job(job: _Job, identifier: str) -> Markup:
    held = table(f"Planned and measured, {job.name}", HELD, _held(job), stacked=True)
    return section(
        identifier,
        job.name,
        tag("h3", "Planned and measured") if held else None,
        held,
        monitor_html.run_body(job.run) if job.run is not None else None,
        _after(job),
    )


def _held(job: _Job) -> Iterator[tuple[str | None, ...]]:
    """Numbers that were planned beside those that were measured; those that nobody measured are left out."""
    if job.run is None:
        return
    view = job.run[0]
    plan = job.plan if isinstance(job.plan, JobPlan) else None
    expected: Mapping[str, Span] = view.expected or {}
    if plan is not None and view.state is State.FINISHED:
        yield _row("steps", float(plan.step.total), float(plan.step.total), float(view.step))
    if plan is not None and plan.time.known and view.gone is not None:
        low, high = ((one or 0.0) * 60 for one in (plan.time.low, plan.time.high))
        yield _row("minutes", low, high, view.gone / 60)
    for name, key, measured in (
        ("tokens/s", "tokens_per_second", view.whole_pace or view.tokens_per_second),
        ("peak memory, GiB", "memory_gib", view.memory_peak_gib),
    ):
        found = expected.get(key)
        if measured is not None:
            yield _row(name, found.low if found else None, found.high if found else None, measured)


def _row(name: str, low: float | None, high: float | None, measured: float) -> tuple[str | None, ...]:
    value = monitor_html.rounded(measured)
    if low is None and high is None:
        return name, "not planned", value, badge("nothing to compare with", "skip", "?")
    planned = " to ".join(monitor_html.rounded(one) for one in dict.fromkeys((low, high)) if one is not None)
    if low is None or high is None:
        planned = f"at least {planned}" if high is None else f"at most {planned}"
    holds = (low is None or measured >= low) and (high is None or measured <= high)
    return name, planned, value, badge("yes", "pass", "✓") if holds else badge("no", "warn", "!")


def _after(job: _Job) -> Markup:
    """What the checks after training say of the job, each in a line."""
    report = job.night.after
    results = [one for one in report.results if one.check.job == job.name] if report is not None else []
    items = (
        tag("li", outcome_sign(one.outcome), " ", tag("b", one.check.name), " ", _said(one), class_="text")
        for one in results
    )
    return (
        joined((tag("h3", "After training"), tag("ul", joined(items), class_="notes")))
        if results
        else Markup("")
    )


def _said(result: Result) -> str:
    explained = result.outcome not in (Outcome.PASSED, Outcome.FAILED)
    said = wording.reason_of(result) if explained else wording.telling(result)
    return f"{wording.outcome_word(result)}: {said}" if said else wording.outcome_word(result)


# --- the reports and plans in full --------------------------------------------------------------------


def _reports(night: Night) -> Iterator[Section]:
    for report in night.reports:
        stage = report.stage.value
        told = f" {stage} training"
        yield f"problems-{stage}", f"Problems {stage}", failed_checks.problems(report, told)
        yield f"failures-{stage}", f"Failures {stage}", failed_checks.failures(report, told)
        yield f"unfinished-{stage}", f"Not finished {stage}", failed_checks.unfinished(report, told)
    if night.before is not None and not night.plans:  # a plan shows the same figures, and more
        yield "jobs", "Jobs", jobs.jobs(night.before)
    yield "checks", "Checks", check_list.checks(night.reports)
    for report in night.reports:
        stage = report.stage.value
        told = f" {stage} training"
        yield f"waivers-{stage}", f"Waivers {stage}", waivers.waivers(report, told)
        yield f"notes-{stage}", f"Notes {stage}", ran.notes(report, told)
        yield f"ran-{stage}", f"What ran {stage}", ran.ran(report, told)


def _plans(night: Night) -> Iterator[Section]:
    for number, one in enumerate(night.plans):
        identifier = f"plan-{number}"
        yield identifier, f"Plan of {one.job}", plan_html.job_section(one, identifier, f"Plan of {one.job}")
