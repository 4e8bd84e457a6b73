"""`-o junit`: JUnit XML whose colours agree with the exit code.

junit-xml builds the test suites. What it would get wrong is handled before or after it: every failure has a
message, each test case has one outcome and a time, and characters that XML cannot hold are shown as
`\\x1b`. The document is valid by Jenkins' junit-10.xsd, which allows no `skipped` on the root and no
`disabled` anywhere.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ftcheck.extension.reporters import Reporter
from ftcheck.plurals import counted
from ftcheck.records import Outcome, Result
from ftcheck.report import sampled, verdict_lines, wording
from ftcheck.report.clean import clean
from ftcheck.report.record import Report

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_NAME = 512
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def render(report: Report) -> str:
    """One suite for the ledger, and one for what went wrong outside of any check."""
    from xml.etree import ElementTree

    report = clean(report)
    suites = [_ledger(report), _run(report)]
    root = _document(report, [suite.build_xml_doc() for suite in suites if suite.test_cases])
    ElementTree.indent(root, " ")
    return _HEAD + ElementTree.tostring(root, encoding="unicode") + "\n"


def _ledger(report: Report) -> Any:
    names: Counter[tuple[str, str]] = Counter()
    cases = []
    for result in sorted(report.results, key=lambda one: one.check.id):
        classname = f"{_class(report)}.{result.check.job or 'host'}"
        case = _case(names, classname, result.check.name, result.seconds)
        _fill(case, result)
        cases.append(case)
    return _suite(report, f"ftcheck {report.policy_name}", cases)


def _run(report: Report) -> Any:
    names: Counter[tuple[str, str]] = Counter()
    cases = []
    for name, message, output in _outside(report):
        case = _case(names, f"{_class(report)}.run", name, 0.0)
        case.add_error_info(message=message, output=output, error_type="incomplete")
        cases.append(case)
    return _suite(report, f"ftcheck {report.policy_name} (run)", cases)


def _outside(report: Report) -> Iterator[tuple[str, str, str]]:
    """What makes a run fail although no check does: name, first line, full text."""
    if report.status == "started":
        yield "run did not finish", "run did not finish", "The run was killed, or is still in progress."
        return
    for problem in report.problems:
        yield "problem", wording.first_line(str(problem)) or "unknown problem", str(problem)
    nothing = verdict_lines.decided_nothing(report)
    if nothing:
        yield nothing, nothing, f"{verdict_lines.tally(report)}: the report proves nothing."


def _class(report: Report) -> str:
    return f"ftcheck.{report.policy_name or 'policy'}"


def _case(names: Counter[tuple[str, str]], classname: str, name: str, seconds: float) -> Any:
    from junit_xml import TestCase

    classname, name = _short(classname), _short(name)
    names[classname, name] += 1
    count = names[classname, name]
    if count > 1:
        name = _short(name, f" #{count}")
    return TestCase(name, classname, elapsed_sec=seconds)


def _short(text: str, tail: str = "") -> str:
    text = wording.one_line(text) or "(no name)"
    return (text if len(text) + len(tail) <= MAX_NAME else text[: MAX_NAME - len(tail) - 1] + "…") + tail


def _fill(case: Any, result: Result) -> None:
    """Exactly one of passed, failure, skipped, error."""
    text = _story(result)
    if result.outcome is Outcome.FAILED and result.blocking:
        kind = wording.worst(result.findings).value
        case.add_failure_info(message=_headline(result), output=text, failure_type=kind)
    elif result.outcome is Outcome.FAILED:
        note = wording.REQUIRED if wording.is_required(result) else "warning"
        case.stdout = f"{note}: {_headline(result)}\n{text}"
    elif result.outcome is Outcome.WAIVED:
        case.add_skipped_info(message=wording.one_line(verdict_lines.waived_because(result)), output=text)
    elif result.outcome is Outcome.SKIPPED:
        case.add_skipped_info(message=wording.one_line(wording.reason_of(result)))
    elif result.outcome is not Outcome.PASSED:
        message = f"{wording.outcome_word(result)}: {wording.first_line(wording.reason_of(result))}"
        case.add_error_info(message=message, output=_why_broken(result), error_type=result.outcome.value)
    elif text:
        case.stdout = text


def _headline(result: Result) -> str:
    """The first finding's first line; never empty, for junit-xml would write a pass."""
    message = wording.first_line(result.findings[0].message) if result.findings else ""
    more = wording.unshown(result, 1)
    message = (
        message or wording.telling(result) or (result.reason or "").strip() or "failed, without a finding"
    )
    return f"{message} (and {more:,} more)" if more > 0 else message


def _story(result: Result) -> str:
    shown = wording.shown_findings(result)
    lines = [wording.finding_text(finding) for finding in shown]
    more = wording.unshown(result, len(shown))
    if more > 0:
        lines.append(f"{len(shown)} of {counted(len(shown) + more, 'finding')} shown")
    if result.summary:
        lines.append(result.summary)
    lines += [wording.measured(measurement) for measurement in result.measurements]
    if result.outcome is Outcome.FAILED:
        lines.append(f"why this matters: ftcheck explain {result.check.rule}")
    return "\n".join(lines)


def _why_broken(result: Result) -> str:
    parts = (wording.reason_of(result), result.detail or "", _story(result))
    return "\n\n".join(part for part in parts if part.strip())


def _suite(report: Report, name: str, cases: Sequence[Any]) -> Any:
    from junit_xml import TestSuite

    return TestSuite(
        _short(name), list(cases), timestamp=report.started_at or None, properties=_properties(report)
    )


def _properties(report: Report) -> dict[str, str]:
    """An allow-list of what is shown."""
    told = {
        "policy": report.policy_path,
        "stage": report.stage.value,
        "status": report.status,
        "verdict": report.verdict or "none",
    }
    drawn = sampled.state(report)
    told |= {"sample": drawn} if drawn else {}
    told |= {f"note {number}": note for number, note in enumerate(report.notes, start=1)}
    told |= {f"input {name}": one.digest for name, one in sorted(report.inputs.items()) if one.digest}
    return told | {f"gate {job}": state for job, state in sorted(report.gate.items())}


def _document(report: Report, suites: Sequence["Element"]) -> "Element":
    """Times everywhere, only attributes that the schema knows, and the sums on the root."""
    from xml.etree.ElementTree import Element

    for suite in suites:
        suite.attrib.pop("disabled", None)
        for case in suite.iter("testcase"):
            case.set("time", f"{float(case.get('time', '0')):.3f}")
        suite.set("time", f"{float(suite.get('time', '0')):.3f}")
    root = Element("testsuites", name=_short(_class(report)))
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")
    root.extend(suites)
    return root


REPORTER = Reporter(name="junit", render=render, suffix=".xml")
