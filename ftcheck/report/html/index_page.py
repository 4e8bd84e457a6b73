"""The index of many policies: the verdict of each job, with a link to its policy's own page."""

from collections import Counter
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ftcheck.plurals import counted
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import badge, joined, section, tag
from ftcheck.report.html.shell import Document, document
from ftcheck.report.job_verdicts import JobVerdict, Verdict
from ftcheck.report.redact import redact, visible

KINDS = {
    Verdict.UNREADABLE: ("broken", "!"),
    Verdict.NOT_RUN: ("broken", "!"),
    Verdict.INCOMPLETE: ("broken", "!"),
    Verdict.FAILED: ("fail", "✗"),
    Verdict.SHUT: ("warn", "!"),
    Verdict.NOTHING: ("warn", "!"),
    Verdict.WARNED: ("warn", "✓"),
    Verdict.PASSED: ("pass", "✓"),
}
NO_JOBS = (Verdict.UNREADABLE, Verdict.NOT_RUN)
"""Verdicts on a policy as a whole."""
COLUMNS = (Column("policy", names=True), Column("job"), Column("verdict"), Column("why"), Column("gate"))


def page(verdicts: Sequence[JobVerdict], links: Mapping[str, str]) -> str:
    """The page, worst first. `links` lead from a policy's name to its page, relative to this one."""
    found = sorted(verdicts, key=lambda one: one.verdict.rank)
    bad = [one for one in found if not one.verdict.is_good]
    good = [one for one in found if one.verdict.is_good]
    parts = [
        ("against", "Not passed", _section("against", f"Not passed ({len(bad)})", bad, links)),
        ("passed", "Passed", _section("passed", f"Passed ({len(good)})", good, links)),
    ]
    body = joined((_top(found), *(part for _, _, part in parts)))
    shown = [(name, word) for name, word, part in parts if part]
    return document(Document("index", f"{_headline(found)} · ftcheck index", shown, body))


def started(policies: int) -> str:
    """The page before the first check: nothing is proved."""
    lead = tag(
        "p", "The run was started and wrote no result: it still goes on, or was stopped.", class_="lead"
    )
    head = tag("h1", "Did not finish")
    said = tag("p", counted(policies, "policy", "policies"))
    top = tag("section", tag("div", head, lead, said), class_="verdict broken", aria_label="Verdict")
    return document(Document("index", "Did not finish · ftcheck index", [], top))


def _headline(found: Sequence[JobVerdict]) -> str:
    bad = sum(not one.verdict.is_good for one in found)
    return f"{bad} did not pass" if bad else "All passed" if found else "Nothing checked"


def _top(found: Sequence[JobVerdict]) -> Markup:
    counts = Counter(one.verdict for one in found)
    worst = min((one.verdict for one in found), key=lambda one: one.rank, default=Verdict.NOTHING)
    kind, sign = KINDS[worst]
    head = tag("h1", tag("span", sign, class_=f"sign {kind}", aria_hidden="true"), _headline(found))
    jobs = sum(one.job is not None for one in found)
    policies = len({one.policy for one in found})
    lead = f"{counted(jobs, 'job')} of {counted(policies, 'policy', 'policies')}"
    tiles = (
        tag("li", tag("b", f"{counts[one]:,}"), tag("span", one.value)) for one in Verdict if counts[one]
    )
    inside = tag("div", head, tag("p", lead, class_="lead"))
    tally = tag("div", tag("ul", joined(tiles), class_="tiles"), class_="tally")
    return tag("section", inside, tally, class_=f"verdict {kind}", aria_label="Verdict")


def _section(name: str, heading: str, found: Sequence[JobVerdict], links: Mapping[str, str]) -> Markup:
    rows = (_row(one, links) for one in found)
    return section(name, heading, table(heading, COLUMNS, rows, stacked=True))


def _row(one: JobVerdict, links: Mapping[str, str]) -> list[str | None]:
    kind, sign = KINDS[one.verdict]
    policy = visible(one.policy)
    link = tag("a", policy, href=links[one.policy]) if one.policy in links else policy
    job = visible(one.job) if one.job is not None else "host" if one.verdict not in NO_JOBS else ""
    return [link, job, badge(one.verdict.value, kind, sign), visible(redact(one.why)), one.gate]
