"""A page for each rule: what it checks, why, its parameters, its must-fail case, and the failures it is "
"for."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping

from docs.generator import markdown as md
from ftcheck.extension.plugin_host import make_host
from ftcheck.extension.rules import Case, Rule
from ftcheck.policy import describe_params
from ftcheck.records import Finding, Result, Severity, Stage
from ftcheck.tables.failures import Failure, catalogue, caught_by
from ftcheck.testing import run

SHOWN = 3
"""Findings of a must-fail case that are shown."""
STAGES = {
    Stage.BEFORE: "Before training",
    Stage.DURING: "While it trains",
    Stage.AFTER: "The morning after",
}
ELSEWHERE = {"gate": "[the gate](gate.md)", "policy": "[reading the policy](policy.md)", None: "nothing yet"}
"""What finds a failure where it is no rule."""


def pages() -> dict[str, str]:
    """The list of rules, and a page for each."""
    rules = make_host().rules
    return {
        "reference/rules/index.md": _index(rules),
        "reference/failures.md": _failures(),
        **{f"reference/rules/{name}.md": _page(rule) for name, rule in rules.items()},
    }


def _index(rules: Mapping[str, Rule]) -> str:
    return md.page(
        "Rules",
        f"{len(rules)} rules are built in. A policy's check names one; `extends: [recommended]` brings "
        "those of stage `before` and `during`, `recommended_after` those of stage `after`. `ftcheck "
        "explain RULE` prints what is on a rule's page. `hosted-file` is not in `recommended`: name it "
        "where a hosted service will take the file. The [failures](../failures.md) page lists what real "
        "users ran into, and which rule finds it.",
        *(part for stage in STAGES for part in _stage(stage, rules)),
    )


def _stage(stage: Stage, rules: Mapping[str, Rule]) -> Iterator[str]:
    mine = sorted((one for one in rules.values() if one.stage is stage), key=lambda one: (one.family, one.id))
    yield f"## {STAGES[stage]} {{ #{stage.value} }}"
    yield md.table(
        ("Rule", "Family", "What holds when it passes"),
        [(f"[`{one.id}`]({one.id}.md)", one.family, md.line(one.summary)) for one in mine],
    )


def _page(rule: Rule) -> str:
    planned = f"Planned for jobs that set {' or '.join(map(md.code, rule.only.stated))}." if rule.only else ""
    return md.page(
        rule.id,
        md.paragraphs(rule.summary),
        md.table(
            ("Stage", "Family", "Severity of findings"),
            [(f"`{rule.stage.value}`", rule.family, _severities(rule))],
        ),
        f"## What goes wrong otherwise\n\n{md.paragraphs(rule.why)}",
        f"## How it is checked\n\n{md.paragraphs(rule.detail)}" if rule.detail else "",
        planned,
        _parameters(rule),
        _example(rule),
        *_caught(caught_by(rule.id)),
        _inputs(rule),
    )


def _parameters(rule: Rule) -> str:
    rows = [
        (
            md.anchored(f"param-{one.name}", md.code(one.name)),
            md.line(one.kind),
            md.code(json.dumps(one.default)),
            md.line(one.help),
        )
        for one in describe_params(rule)
    ]
    body = md.table(("Parameter", "Takes", "Default", "Meaning"), rows) or "It takes no parameters."
    return f"## Parameters {{ #parameters }}\n\n{body}"


def _planted(rule: Rule) -> Iterator[tuple[Case, Result]]:
    """The rule's must-fail cases, with what it says of them."""
    for case in rule.planted():
        if case.fails:
            yield case, run(rule, case.params, **case.inputs()).result


def _severities(rule: Rule) -> str:
    """The severities that the must-fail cases bring; a policy may cap them."""
    seen = {finding.severity for _, result in _planted(rule) for finding in result.findings}
    return ", ".join(f"`{one.value}`" for one in reversed(Severity) if one in seen)


def _example(rule: Rule) -> str:
    """The first must-fail case, as `ftcheck selftest` plants it, with its findings."""
    case, result = next(iter(_planted(rule)))
    params = f" with the parameters {md.code(json.dumps(dict(case.params)))}" if case.params else ""
    findings = [f for f in result.findings if f.severity is not Severity.INFO][:SHOWN]
    lines = _of_any_machine("\n".join(_finding(one) for one in findings))
    return (
        f"## A case that must fail\n\n`ftcheck selftest` plants “{md.line(case.name)}”{params} and "
        f"demands a finding. It says:\n\n```text\n{lines}\n```"
    )


def _of_any_machine(text: str) -> str:
    """Without the names of temporary folders, and the free space of this disk."""
    text = re.sub(re.escape(tempfile.gettempdir()) + r"(/ftcheck-selftest-\w+)?", "/tmp", text)
    return re.sub(r"[\d.,]+ GiB free", "60 GiB free", text)


def _finding(one: Finding) -> str:
    said = [f"{one.severity.value}: {one.message}", f"  fix: {one.fix}" if one.fix else ""]
    change = (
        f"  change: {one.change.path}: {json.dumps(one.change.old)} -> {json.dumps(one.change.new)}"
        if one.change
        else ""
    )
    return "\n".join(part for part in (*said, change) if part)


def _caught(failures: tuple[Failure, ...]) -> Iterator[str]:
    if failures:
        yield "## Failures that it is for"
    for one in failures:
        yield f"### {md.line(one.what)} {{ #failure-{one.id} }}\n\n{_failure(one)}"


def _failure(one: Failure) -> str:
    threads = ", ".join(_thread(thread) for thread in one.threads)
    said = [f"*Symptom:* {md.line(one.symptom)}", f"*Fix:* {md.line(one.fix)}"]
    return "\n\n".join([*said, f"*Threads:* {threads}"] if threads else said)


def _thread(address: str) -> str:
    """A link that shows `owner/repository#number`; what has no address stays text."""
    if not address.startswith("https://github.com/"):
        return md.line(address)
    shown = address.removeprefix("https://github.com/").replace("/issues/", "#").replace("/pull/", "#")
    return f"[{md.line(shown)}]({address})"


def _inputs(rule: Rule) -> str:
    links = ", ".join(f"[`{name}`](../inputs.md#input-{name})" for name in rule.inputs)
    return f"## Inputs\n\nIt asks for {links}." if links else ""


def _failures() -> str:
    """All catalogued failures, by the rule that finds them; in full those that no rule's page tells."""
    told = [one for one in catalogue() if one.rule in ELSEWHERE]
    return md.page(
        "Failures",
        f"{len(catalogue())} failures that cost real users real nights, read in public issues and pull "
        "requests. The rule's page names the fix and the threads. The catalogue is "
        "`ftcheck/tables/failures.json`.",
        md.table(("Failure", "Found by", "Symptom", "Threads"), map(_row, catalogue())),
        *(f"## {md.line(one.what)} {{ #failure-{one.id} }}\n\n{_failure(one)}" for one in told),
    )


def _row(one: Failure) -> tuple[str, str, str, str]:
    at = f"#failure-{one.id}" if one.rule in ELSEWHERE else f"rules/{one.rule}.md#failure-{one.id}"
    finder = ELSEWHERE.get(one.rule) or f"[`{one.rule}`](rules/{one.rule}.md)"
    return f"[{md.line(one.what)}]({at})", finder, md.line(one.symptom), str(len(one.threads))
