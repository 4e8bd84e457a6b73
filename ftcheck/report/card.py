"""The section of a model card that says what was checked: Markdown for the README.md of a model on the hub.

It holds digests, counts and reasons, and no text of rows: of findings only how many there are.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from ftcheck.plurals import counted
from ftcheck.records import Outcome, Result
from ftcheck.report import sampled, verdict_lines, wording
from ftcheck.report.clean import clean
from ftcheck.report.escape import markdown_text
from ftcheck.report.record import Report

TITLE = "## What was checked"
UNCHECKED = (Outcome.SKIPPED, Outcome.NOT_RUN, Outcome.ERRORED, Outcome.TIMEOUT)


def card(report: Report) -> str:
    """The section: verdict, data and ids by their digests, packing, evaluation, and what was not checked."""
    report = clean(report)
    sections = (_head(report), _inputs(report), _numbers(report), _waivers(report), _failed(report))
    return "\n\n".join([*(one for one in sections if one), _unchecked(report)]) + "\n"


def _head(report: Report) -> str:
    facts = (
        f"verdict **{markdown_text(verdict_lines.verdict(report))}**",
        markdown_text(verdict_lines.tally(report)),
        markdown_text(verdict_lines.gate_state(report.gate)),
        markdown_text(verdict_lines.decided_nothing(report)),
        markdown_text(sampled.state(report)),
    )
    made = f"policy {markdown_text(report.policy_name)} (stage {report.stage.value})"
    when = f", {markdown_text(report.finished_at)}" if report.finished_at else ""
    said = " · ".join(one for one in facts if one)
    return f"{TITLE}\n\nBy ftcheck with the {made}{when}: {said}."


def _inputs(report: Report) -> str:
    """What was looked at, each with its digest."""
    rows = [
        (name, one.path, "" if one.rows is None else f"{one.rows:,}", one.digest)
        for name, one in sorted(report.inputs.items())
    ]
    for job, digests in sorted(report.jobs.items()):
        whose = str(digests.ids_from or "unverified")
        rows.append((f"{job}: token ids and labels", whose, "", digests.ids))
        if digests.sample is not None:
            drawn = f"{job}: ids and labels of a sample"
            rows.append((drawn, whose, f"{digests.sample}", digests.sample.ids))
        if digests.eval_ids is not None:
            rows.append((f"{job}: ids and labels for evaluation", whose, "", digests.eval_ids))
        rows.append((f"{job}: chat template as applied", "", "", digests.template))
    return _table(("what", "where from", "rows", "sha256"), rows)


def _numbers(report: Report) -> str:
    """Lengths, packing and the answers to gold questions, as far as they were measured."""
    return "\n".join(f"- {line}" for result in report.results for line in _measured(result))


def _measured(result: Result) -> Iterator[str]:
    value = {one.name: one.value for one in result.measurements}
    job = markdown_text(result.check.job or "host")
    if result.check.rule == "packing-efficiency" and "blocks_planned" in value:
        share = _percent(value.get("fill_planned"))
        yield f"{job}: packed into {_number(value['blocks_planned'])} blocks, {share} full"
    if result.check.rule == "accuracy" and {"accuracy", "accuracy_low", "accuracy_high", "n"} <= set(value):
        between = f"{_percent(value['accuracy_low'])} to {_percent(value['accuracy_high'])}"
        right = _percent(value["accuracy"])
        yield f"{job}: {right} of {_number(value['n'])} gold questions are right (95 % interval {between})"


def _percent(value: Any) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else "unknown"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else markdown_text(str(value))


def _waivers(report: Report) -> str:
    """Findings that somebody accepted, with the reason and the last day."""
    used = [one for one in report.waivers if one.used]
    rows = [(one.check, one.reason, one.owner, one.expires) for one in used]
    return f"Accepted findings:\n\n{_table(('check', 'reason', 'owner', 'until'), rows)}" if rows else ""


def _failed(report: Report) -> str:
    failed = [one for one in report.results if one.outcome is Outcome.FAILED]
    rows = [
        (
            one.check.id,
            "blocks" if one.blocking else wording.outcome_word(one),
            counted(one.findings_total, "finding"),
        )
        for one in failed
    ]
    return f"Failed:\n\n{_table(('check', 'outcome', 'findings'), rows)}" if rows else ""


def _unchecked(report: Report) -> str:
    """What has no word in this section, said plainly, also where it is nothing."""
    rows = [
        (one.check.id, wording.outcome_word(one), wording.reason_of(one))
        for one in report.results
        if one.outcome in UNCHECKED
    ]
    rows += [(name, "removed by the policy", "") for name in report.removed]
    if not report.results:
        return "Nothing was checked."
    if not rows:
        return "All planned checks ran."
    return f"Not checked:\n\n{_table(('check', 'outcome', 'reason'), rows)}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str | None, ...]]) -> str:
    body = [f"| {' | '.join(markdown_text(cell or '') for cell in row)} |" for row in rows]
    return "\n".join((f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body)) if body else ""
