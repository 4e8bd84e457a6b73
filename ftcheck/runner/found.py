"""What a rule finds, as it comes: named, counted, and the worst of it kept; what is waived aside."""

from dataclasses import replace

from ftcheck.errors import in_one_line
from ftcheck.records import MAX_FINDINGS, Check, Finding, Result, Severity
from ftcheck.report.identity import MAX_FINGERPRINTS, Namer


def in_line(finding: Finding) -> Finding:
    """A finding whose message is one line: what it names of a file begins no line of its own."""
    return replace(finding, message=in_one_line(finding.message))


class Found:
    """The findings of one check, of which there may be millions.

    `waived` are the fingerprints that a waiver names. A finding of severity `info` fails nothing, and is not
    waived.
    """

    def __init__(self, check: Check, waived: frozenset[str] = frozenset(), folder: str | None = None) -> None:
        """Nothing was found yet; `folder` is the policy's."""
        self._namer = Namer(check, folder)
        self._waived = frozenset() if check.severity is Severity.INFO else waived
        self._kept: dict[tuple[bool, Severity], list[Finding]] = {}
        self._names: list[str] = []
        self._total = self._covered = self.failing = 0

    def add(self, finding: Finding) -> None:
        """Count a finding; kept, it is named and its message is one line. Only so many can be waived."""
        fails = finding.severity is not Severity.INFO
        counts = fails and len(self._names) < MAX_FINGERPRINTS
        self._total += 1
        self.failing += fails
        if not counts and len(self._list(False, finding.severity)) >= MAX_FINDINGS:
            return
        finding = in_line(finding)
        name = self._namer.name(finding)
        is_waived = counts and name in self._waived
        self._names += [name] if counts else []
        self._covered += is_waived
        kept = self._list(is_waived, finding.severity)
        if len(kept) < MAX_FINDINGS:
            kept.append(replace(finding, fingerprint=name))

    def _list(self, is_waived: bool, severity: Severity) -> list[Finding]:
        return self._kept.setdefault((is_waived, severity), [])

    def entered(self, result: Result) -> Result:
        """A result with the findings: all, or those that are not waived where there are such."""
        aside = 0 if self.failing == self._covered else self._covered
        states = (False,) if aside else (False, True)
        kept = [
            one for severity in reversed(Severity) for state in states for one in self._list(state, severity)
        ]
        return replace(
            result,
            findings=tuple(kept[:MAX_FINDINGS]),
            findings_total=self._total - aside,
            failing_total=self.failing,
            waived_total=self._covered,
            fingerprints=tuple(sorted(self._names)),
        )
