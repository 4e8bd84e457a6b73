"""Findings with their place, why they matter, and what to do, with buttons that copy it."""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from ftcheck.paths import near
from ftcheck.records import Change, Finding, Result, Severity
from ftcheck.report import wording
from ftcheck.report.clean import GUTTER
from ftcheck.report.html.elements import code, copyable, folded, joined, prose, tag
from ftcheck.report.record import Report

STRETCHES = re.compile("(«[^»]*»|✂[^✂]*✂)")
"""What is in the loss and what is cut off, as a row is drawn in a line."""
FIRST = 6
"""Findings that are shown before the others are folded away."""


def findings(result: Result) -> Markup:
    """The findings that the report holds, and how many there are beyond them."""
    shown = wording.shown_findings(result)
    if not shown:
        return Markup("")
    first, rest = shown[:FIRST], shown[FIRST:]
    more = wording.unshown(result, len(shown))
    return joined(
        (
            _list(first),
            folded(f"{len(rest):,} more findings", _list(rest)) if len(rest) > 1 else _list(rest),
            tag("p", f"and {more:,} more, which no report lists", class_="note") if more > 0 else None,
        )
    )


def _list(shown: Sequence[Finding]) -> Markup:
    return tag("ul", joined(map(_finding, shown)), class_="findings") if shown else Markup("")


def _finding(finding: Finding) -> Markup:
    place = wording.place(finding.at)
    message, *quoted = finding.message.split("\n")
    severity = finding.severity
    kind = tag("span", severity.value, class_="severity") if severity is not Severity.ERROR else None
    words = tag("span", kind, " " if kind else None, message, class_="text")
    rows = joined(_quoted(line.removeprefix(GUTTER)) for line in quoted)
    where = tag("span", code(place), class_="place") if place else None
    return tag("li", where, words, rows, data_fingerprint=finding.fingerprint)


def _quoted(line: str) -> Markup:
    """A line of somebody's text; a row as the model sees it is drawn as `ftcheck show` draws it."""
    if not line.startswith(wording.AS_SEEN):
        return tag("pre", line, class_="quoted")
    return tag("pre", joined(_drawn(line.removeprefix(wording.AS_SEEN))), class_="quoted seen")


def _drawn(text: str) -> Iterator[Markup]:
    """The stretches between the signs: in the loss, cut off, masked."""
    for part in STRETCHES.split(text):
        kind = {"«": "t", "✂": "c"}.get(part[:1], "m")
        yield tag("span", part, class_=f"k {kind}")


def remedies(report: Report, result: Result) -> Markup:
    """Each fix once, with its change as a line to copy, and the command that makes the changes."""
    shown = wording.shown_findings(result)
    told = dict.fromkeys((one.fix, one.change) for one in shown if one.fix or one.change)
    said = {fix for fix, change in told if change is not None}
    items = [_remedy(fix, change) for fix, change in told if change is not None or fix not in said]
    command = fix_command(report, result)
    if command is not None:
        items.append(tag("li", copyable(command, "the command")))
    return tag("ul", joined(items), class_="remedies") if items else Markup("")


def _remedy(fix: str | None, change: Change | None) -> Markup:
    if change is None:
        return tag("li", prose(fix))
    said = _beside(fix or "", change)
    return tag("li", change_line(change), tag("span", prose(said), class_="text") if said else None)


def change_line(change: Change) -> Markup:
    """A change as the line that goes and the one that comes, with a button that copies it."""
    key = change.path.rpartition(".")[2]
    line = f"{key}: {wording.setting(change.new)}"
    button = tag("button", "Copy", type="button", class_="copy js", data_copy=line, aria_label=f"Copy {line}")
    old = tag("del", f"{key}: {wording.setting(change.old)}")
    return tag(
        "span", tag("span", change.path, class_="path"), old, tag("ins", line), button, class_="change"
    )


def _beside(fix: str, change: Change) -> str:
    """What a fix says beside its change, which is said once."""
    key, text = change.path.rpartition(".")[2], wording.change_text(change)
    line, whole = f"{key}: {wording.setting(change.new)}", f"{key}: {text.removeprefix(change.path + ': ')}"
    if fix in (line, f"set {line}"):
        return ""
    return fix.removeprefix(whole).strip(" ,()") if fix.startswith(whole) else fix


def fix_command(report: Report, result: Result) -> str | None:
    """`ftcheck fix POLICY --diff`, where it can change what is wrong: not what the command line states."""
    changes = [one.change for one in wording.shown_findings(result) if one.change and wording.mends(one)]
    stated = {one.partition("=")[0] for one in report.overrides}
    if not report.policy_path.endswith((".yaml", ".yml")) or not changes:
        return None
    if any(one.path in stated for one in changes):
        return None
    job = result.check.job
    about = [one for one in report.overrides if job is None or one.startswith(f"jobs.{job}.")]
    given = (word for one in about for word in ("--set", one))
    switch = () if all(one.safe for one in changes) else ("--unsafe",)
    return shlex.join(("ftcheck", "fix", near(report.policy_path), *given, *switch, "--diff"))


def reasons(shown: Iterable[Finding], general: str) -> list[str]:
    """What goes wrong, each reason once: a finding's own where it has one, else the rule's."""
    found = list(shown)
    serious = [one for one in found if one.severity is not Severity.INFO] or found
    return [why for why in dict.fromkeys(one.why or general for one in serious) if why] or [general]
