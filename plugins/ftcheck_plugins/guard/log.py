"""The guard's log: a line of JSON a request, with counts and never with content."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ftcheck_plugins.guard.records import Answer, Code, Decision, Question


@dataclass(frozen=True, slots=True)
class Record:
    """One request: numbers, and words of closed sets. `job` is the policy's name; None is not known.

    There is no field that a prompt, an answer, an error's text or a header could get into.
    """

    time: str
    job: str
    status: int
    decision: Decision | None = None
    reason: Code | None = None
    prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    completion_tokens: int | None = None
    retries: int = 0
    chunks: int = 0
    stream: bool = False
    milliseconds: int | None = None


def record(
    job: str,
    question: Question | None,
    answer: Answer | None,
    *,
    status: int = 200,
    reason: Code | None = None,
    stream: bool = False,
    seconds: float | None = None,
) -> Record:
    """The record of a request; without a question it was not counted, without an answer there was none."""
    return Record(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        job=job,
        status=status,
        decision=question.decision if question else None,
        reason=reason,
        prompt_tokens=question.tokens if question else None,
        max_new_tokens=question.cap if question else None,
        completion_tokens=answer.completion_tokens if answer else None,
        retries=answer.retries if answer else 0,
        chunks=answer.chunks if answer else 0,
        stream=stream,
        milliseconds=None if seconds is None else round(1000 * seconds),
    )


def write(path: str | None, one: Record) -> None:
    """Append a record to a file; without one, or where that fails, it goes to standard error."""
    line = json.dumps(asdict(one)) + "\n"
    try:
        if path is not None:
            _append(path, line.encode())
            return
    except OSError as error:
        print(f"ftcheck guard: the log cannot be written: {error.strerror}", file=sys.stderr)
    sys.stderr.write(line)
    sys.stderr.flush()


def _append(path: str, line: bytes) -> None:
    """One write a line, so that several workers do not mix theirs."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)
