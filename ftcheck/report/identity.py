"""What names a finding across runs: the fingerprint by which reports, waivers and other programs know it.

It is made of the check, the place as it survives other rows (a row's own digest, a key of the policy, a file)
and the kind of message: its first line without numbers, digests and folders. Findings that are alike in all
of these are counted, so that no two of a check share one: `3f2a…:1`, `3f2a…:2`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from ftcheck import digest
from ftcheck.records import Check, Finding, Location
from ftcheck.report.redact import redact, visible

VERSION = "fp/2"
MAX_FINGERPRINTS = 1000
"""Fingerprints that a result keeps; a check with more findings can only be waived as a whole."""
_FOLDERS = re.compile(r"(?<![\w./-])/(?:[^\s/'\":,;()]+/)+")
_DIGESTS = re.compile(r"\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b")
_NUMBERS = re.compile(r"[0-9][0-9.,_]*(?<![.,])")
_LISTS = re.compile(r"#(?:(?:, | and )#)+")


class Namer:
    """Names the findings of one check, in the order in which its rule yields them.

    `folder` is the policy's: files are named from there, wherever the run was started.
    """

    def __init__(self, check: Check, folder: str | None = None) -> None:
        """Nothing was seen yet."""
        self._check = check
        self._folder = folder
        self._seen: Counter[str] = Counter()

    def name(self, finding: Finding) -> str:
        """The fingerprint: 32 hex digits, a colon, and how many findings like it there were so far."""
        base = _base(self._check, finding, self._folder)
        self._seen[base] += 1
        return f"{base}:{self._seen[base]}"


def named(check: Check, findings: Iterable[Finding], folder: str | None = None) -> tuple[Finding, ...]:
    """The same findings; those that have no fingerprint yet with one."""
    namer = Namer(check, folder)
    return tuple(one if one.fingerprint else replace(one, fingerprint=namer.name(one)) for one in findings)


def belongs(check: Check, finding: Finding) -> bool:
    """Whether a finding's fingerprint is what its check, place and message make of it.

    A place that is a file alone is not held against it: its path is named from where the run was started.
    """
    at = finding.at or Location()
    if at.path is not None and not (at.record or at.yaml_path):
        return True
    return (finding.fingerprint or "").partition(":")[0] == _base(check, finding, None)


def _base(check: Check, finding: Finding, folder: str | None) -> str:
    parts = [
        VERSION,
        check.id,
        check.rule,
        *_subject(finding.at or Location(), folder),
        kind(finding.message),
    ]
    return digest.of_json(parts)[len("sha256:") :][:32]


def _subject(at: Location, folder: str | None) -> tuple[str | None, int | None]:
    """What the finding is about, by a name that other rows do not change."""
    if at.record or at.yaml_path:
        return at.record or at.yaml_path, None
    return _from_folder(at.path, folder), at.row


def _from_folder(path: str | None, folder: str | None) -> str | None:
    if path is None or path.startswith("--"):
        return path
    try:
        return os.path.relpath(path, folder or os.curdir)
    except (ValueError, OSError):
        return path


def kind(message: str) -> str:
    """The first line of a message without what changes as rows come and go: `# of # rows are cut`."""
    text = visible(redact(message.partition("\n")[0]))
    text = _NUMBERS.sub("#", _DIGESTS.sub("#", _FOLDERS.sub("", text)))
    return " ".join(_LISTS.sub("#", text).split())
