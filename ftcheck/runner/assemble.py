"""Puts the report of a run together: results, digests, versions, waivers, notes, the gate's word."""

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata

from ftcheck.errors import Problem
from ftcheck.gate.input_digests import InputDigests
from ftcheck.gate.whose_ids import trl_release
from ftcheck.ledger import narrowed, status_of, verdict_of
from ftcheck.paths import near
from ftcheck.records import Outcome, Result
from ftcheck.report.record import IdsFrom, InputDigest, JobDigests, Report, WaiverUse
from ftcheck.report.waiver_days import expiring, told
from ftcheck.runner.checks import Facts, PreparedFacts
from ftcheck.runner.execute import Executed
from ftcheck.runner.planned import Planned
from ftcheck.runner.waiver_uses import waiver_uses

PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "jinja2",
    "numpy",
    "peft",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)


def now() -> str:
    """The time as reports write it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def assemble(
    planned: Planned,
    opening: Report,
    executed: Executed,
    digests: Mapping[str, InputDigests],
    changed: Sequence[Problem] = (),
) -> Report:
    """The report of a run whose ledger is closed; `opening` is the one that said `started`.

    `changed` are inputs that were written meanwhile. Nothing is said of the gate yet.
    """
    policy, selection = planned.loaded.policy, planned.selection.as_dict()
    results, facts = executed.results, executed.facts
    waivers = waiver_uses(policy, results, _planned_ids(planned))
    soon = expiring(waivers, datetime.now(UTC).date())
    interrupted = [Problem("interrupted")] if executed.interrupted else []
    unread = (*_unread(planned, results, facts), *_absent(planned, digests))
    problems = (*unread, *changed, *interrupted)
    status = status_of(results, problems, selected=narrowed(selection))
    return replace(
        opening,
        status=status,
        verdict=verdict_of(results, status),
        policy_path=policy.path,
        policy_name=policy.name,
        stage=policy.stage,
        overrides=policy.overrides,
        selection=selection,
        removed=policy.removed,
        fail_on=policy.gate.fail_on,
        jobs={name: _with_ids(planned, name, one.job, facts) for name, one in digests.items()},
        inputs=_with_rows(digests, facts),
        plugins=planned.loaded.host.plugins,
        packages=_packages(),
        waivers=waivers,
        expiring=soon,
        results=results,
        problems=problems,
        notes=(*_notes(planned, waivers, soon), *facts.notes),
        finished_at=now(),
        machine={"system": platform.platform(), "python": platform.python_version()},
        cached=tuple(facts.cached),
        cached_checks=tuple(_on_kept_facts(results, facts)),
    )


def _planned_ids(planned: Planned) -> frozenset[str]:
    return frozenset(one.id for one in (*planned.loaded.checks, *planned.loaded.during))


def _on_kept_facts(results: Iterable[Result], facts: Facts) -> Iterator[str]:
    """Checks that asked for an input which an earlier run worked out (not for rows alone: those are read)."""
    for one in results:
        if any(f"{one.check.job}.{name}" in facts.cached for name in one.check.needs):
            yield one.check.id


def with_problems(report: Report, problems: Sequence[Problem]) -> Report:
    """The report of a run that turns out not to be complete: it has no verdict, and its gate is shut."""
    gate = dict.fromkeys(report.gate, "incomplete")
    return replace(
        report, status="incomplete", verdict=None, problems=(*report.problems, *problems), gate=gate
    )


def _with_ids(planned: Planned, name: str, job: JobDigests, facts: Facts) -> JobDigests:
    """A job's digests with those over ids and labels, where its rows were prepared; whose ids they are."""
    prepared = facts.prepared.get(name)
    if prepared is None:
        return job
    ids_from = _ids_from(planned, name, prepared)
    return replace(
        job, ids=prepared.ids, eval_ids=prepared.eval_ids, ids_from=ids_from, sample=prepared.sample
    )


def _ids_from(planned: Planned, name: str, prepared: PreparedFacts) -> IdsFrom:
    job = planned.loaded.policy.jobs[name]
    if job.data.prepared is not None:
        path = near(job.data.prepared)
        return IdsFrom("prepared", framework=prepared.framework, path=path, digest=prepared.ids)
    trainer = planned.loaded.host.trainers.get(job.trainer.use)
    if trainer is None or trainer.reads_rows:
        return IdsFrom("unverified", framework=job.trainer.use)
    return IdsFrom("trl", version=trl_release())


def _unread(planned: Planned, results: Sequence[Result], facts: Facts) -> list[Problem]:
    """Rows that could not be prepared and that no check speaks of: the run is not complete then."""
    spoken = {r.check.job for r in results if r.outcome not in (Outcome.PASSED, Outcome.SKIPPED)}
    problems = []
    for job, found in sorted(facts.prepared.items()):
        if found.row_errors and found.first and job not in spoken:
            place, why = found.first
            message = (
                f"{found.row_errors} of {found.rows} rows could not be prepared, the first: {place}: {why}"
            )
            problems.append(Problem(message, yaml_path=f"jobs.{job}.data.train"))
    return problems


def _absent(planned: Planned, digests: Mapping[str, InputDigests]) -> Iterator[Problem]:
    """Files of a trainer that cannot be read: no check opens them, and the gate stays shut without them."""
    for name, found in digests.items():
        job = planned.loaded.policy.jobs[name]
        for number, _ in enumerate(job.trainer.files):
            one = found.inputs[f"{name}.files.{number + 1}"]
            if one.digest is None:
                at = job.at("trainer.files")
                message = f"{one.path} cannot be read, or is not there: correct trainer.files"
                yield Problem(message, at.path, at.line, at.column, at.yaml_path)


def _with_rows(digests: Mapping[str, InputDigests], facts: Facts) -> dict[str, InputDigest]:
    inputs = {name: one for found in digests.values() for name, one in found.inputs.items()}
    for job, found in facts.prepared.items():
        if f"{job}.train" in inputs:
            inputs[f"{job}.train"] = replace(inputs[f"{job}.train"], rows=_all_rows(found))
    return inputs


def _all_rows(found: PreparedFacts) -> int:
    """How many rows there are, though a sample was prepared."""
    return found.rows if found.sample is None else found.sample.of


def _packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _notes(planned: Planned, waivers: Sequence[WaiverUse], soon: Mapping[str, int]) -> Iterator[str]:
    """What a reader should know beside the results: checks that were taken out, waivers that rot."""
    for name in planned.loaded.policy.removed:
        yield f"check removed by the policy: {name}"
    yield from (words for _, words in told(waivers, soon))
