"""Reads the test sets of data.benchmarks: the question of each row, whatever the set calls it."""

from collections.abc import Mapping
from typing import Any

from ftcheck.dedup import fingerprints
from ftcheck.errors import InputError
from ftcheck.inputs.benchmarks import Benchmarks, Question
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.records import Location
from ftcheck.settings import Job
from ftcheck_plugins.reading import files, row_formats
from ftcheck_plugins.reading.row_formats import Example

KEYS = ("question", "problem", "query", "input", "prompt", "goal", "ctx", "sentence", "instruction", "text")
"""Where well-known sets keep the question: GSM8K and MMLU, MATH, HumanEval, PIQA, HellaSwag, WinoGrande …"""
MAX_QUESTIONS = 200_000


@loader("benchmarks")
def benchmarks(job: Job, run: Run) -> Benchmarks | None:
    """The questions of the test sets that the job names; None if it names none.

    Raises `InputError` for files that are not there, or that hold no question at all.
    """
    stated = job.data.benchmarks
    if stated is None:
        return None
    place = job.at("data.benchmarks")
    source = files.find(stated, place, f"data.benchmarks of job {job.label}")
    questions: list[Question] = []
    unread: list[Location] = []
    for number, raw in enumerate(files.stream(source, offline=run.offline), start=1):
        at = Location(source.files[raw.file], raw.line, 1, row=number, record=raw.record.hex())
        text = _question(raw.data) if raw.data is not None else None
        if text is None:
            unread.append(at)
        elif len(questions) == MAX_QUESTIONS:
            raise InputError(f"data.benchmarks of job {job.label}: more than {MAX_QUESTIONS:,} questions")
        else:
            questions.append(Question(text, at))
    if not questions:
        keys = ", ".join(KEYS)
        raise InputError(f"data.benchmarks of job {job.label}: no row has a question (keys: {keys})")
    return Benchmarks(source.files, tuple(questions), tuple(unread))


def _question(row: Mapping[str, Any]) -> str | None:
    """The question of a row: of a layout that training knows, else under a key that test sets use."""
    layout = row_formats.detect(row, "text")
    made = row_formats.example(row, layout, "text") if layout not in (None, "text") else None
    if isinstance(made, Example):
        return row_formats.gist(made).question or None
    texts = (row[key] for key in KEYS if key in row)
    return next((text for text in texts if isinstance(text, str) and fingerprints.normalised(text)), None)
