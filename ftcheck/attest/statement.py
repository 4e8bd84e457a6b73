"""A report as an in-toto Statement v1 with the predicate test-result v0.1 (in-toto/attestation, spec/).

The first subject is the report file itself, byte for byte; all else follows from what it says. Nothing in it
depends on when or where it is made, so that it can be made again and compared.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from ftcheck import digest
from ftcheck.ledger import BROKEN
from ftcheck.records import Outcome, Result
from ftcheck.report.record import Report

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
SUFFIX = ".intoto.json"
"""How the name of a statement's file ends: that of `night.json` is `night.intoto.json`."""
DIGEST = re.compile(r"sha256(-tree)?:([0-9a-f]{64})")
"""Of a tree over sha256 too, the digest is one of sha256: the annotation says that it is the root."""


def statement(name: str, content: bytes, report: Report) -> dict[str, Any]:
    """The statement for a report file: its `name`, its bytes, and the report that they hold."""
    return {
        "_type": TYPE,
        "subject": [_resource(name, digest.of_bytes(content)), *_subjects(report)],
        "predicateType": PREDICATE_TYPE,
        "predicate": _predicate(report),
    }


def encoded(made: dict[str, Any]) -> bytes:
    """A statement as the bytes that are written and signed."""
    return (json.dumps(made, indent=1) + "\n").encode("ascii")


def _resource(name: str, value: str | None, **annotations: Any) -> dict[str, Any]:
    """A ResourceDescriptor; empty where there is no whole digest, because a subject must have one."""
    found = DIGEST.fullmatch(value or "")
    if found is None:
        return {}
    said = {"name": name, "digest": {"sha256": found[2]}}
    if found[1]:
        annotations["form"] = "sha256-tree"
    return {**said, "annotations": annotations} if annotations else said


def _subjects(report: Report) -> Iterator[dict[str, Any]]:
    """What was checked: the jobs' files, tokenizers and adapters, and what was made of them.

    Of files of which a sample was checked, how many rows.
    """
    sampled = {f"{job}.train": str(one.sample) for job, one in report.jobs.items() if one.sample}
    for name, one in sorted(report.inputs.items()):
        drawn = sampled.get(name)
        if found := _resource(name, one.digest, path=one.path, **({"sample": drawn} if drawn else {})):
            yield found
    for job, digests in sorted(report.jobs.items()):
        for part in ("model", "template", "ids", "eval_ids"):
            if found := _resource(f"{job}.{part}", getattr(digests, part)):
                yield found


def _sampled(report: Report) -> bool:
    """Whether a sample of some job's rows was checked: that is no pass of the files."""
    return any(one.sample is not None for one in report.jobs.values())


def _predicate(report: Report) -> dict[str, Any]:
    passed = [one for one in report.results if one.outcome is Outcome.PASSED]
    failed = [one for one in report.results if _failed(one)]
    warned = [one for one in report.results if _warned(one) and one not in failed]
    return {
        "result": _result(report, bool(failed), bool(warned) or _sampled(report)),
        "configuration": list(_configuration(report)),
        "passedTests": _names(passed),
        "warnedTests": _names(warned),
        "failedTests": _names(failed),
    }


def _result(report: Report, failed: bool, warned: bool) -> str:
    """`PASSED` only for a whole run that passed: one of a part of the checks is a warning."""
    if failed or report.verdict != "passed":
        return "FAILED"
    return "WARNED" if warned or report.status == "partial" else "PASSED"


def _configuration(report: Report) -> Iterator[dict[str, Any]]:
    """The jobs' sections of the policy, and the plans: which rules ran with which parameters."""
    for job, one in sorted(report.jobs.items()):
        yield _resource(f"{job}.policy", one.digest, path=report.policy_path, policy=report.policy_name)
        yield _resource(f"{job}.plan", one.plan, stage=report.stage.value)
        if one.during is not None:
            yield _resource(f"{job}.during", one.during, stage="during")


def _failed(result: Result) -> bool:
    """Whether it keeps the gate shut: it blocks, it broke, or it is required and did not pass."""
    missed = result.check.required and result.outcome not in (Outcome.PASSED, Outcome.NOT_RUN)
    return result.blocking or result.outcome in BROKEN or missed


def _warned(result: Result) -> bool:
    return result.outcome in (Outcome.FAILED, Outcome.WAIVED)


def _names(results: list[Result]) -> list[str]:
    return sorted(one.check.id for one in results)
