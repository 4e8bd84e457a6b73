"""Must-fail and must-pass inputs of the overlap rules."""

from typing import Any

from ftcheck.dedup.fingerprints import fingerprint
from ftcheck.inputs.benchmarks import Benchmarks, Question
from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.prepared import Rows
from ftcheck.records import Location
from ftcheck.testing import Case, gold, inputs, job, prepared, rows, tokenizer

QUESTIONS = ("where is my parcel now", "how do I reset the password", "who do I call about the bill")


def _asked(*questions: str) -> Rows:
    prints = [fingerprint(question) for question in questions]
    return rows(len(questions), asked=prints)


def _duplicates(said: list[int]) -> dict[str, Any]:
    made = prepared([5] * len(said), of=rows(len(said), said=said))
    return {"job": job(), "prepared": made, "inputs": inputs()}


def _leakage(items: GoldSet | None, **more: Any) -> dict[str, Any]:
    opened = {"prepared_eval": None, "benchmarks": None, "tokenizer": tokenizer(), **more}
    return {"job": job(), "prepared": prepared([5] * 3, of=_asked(*QUESTIONS)), "gold": items, **opened}


def _benchmark(text: str) -> Benchmarks:
    return Benchmarks(("test.jsonl",), (Question(text, Location("test.jsonl", 1)),))


def _evaluation(question: str) -> dict[str, Any]:
    tests = prepared([5], of=_asked(question))
    return _leakage(None, prepared_eval=tests)


CASES = (
    Case("duplicates", "two rows that say the same", True, lambda: _duplicates([1, 2, 3, 1])),
    Case("duplicates", "rows that all say something else", False, lambda: _duplicates([1, 2, 3, 4])),
    Case("leakage", "a gold question in the rows", True, lambda: _leakage(gold((QUESTIONS[1], "x")))),
    Case(
        "leakage",
        "a benchmark question in the rows",
        True,
        lambda: _leakage(None, benchmarks=_benchmark("WHERE is my parcel, now?")),
    ),
    Case("leakage", "an evaluation row in the rows", True, lambda: _evaluation(QUESTIONS[2])),
    Case(
        "leakage", "questions that no row asks", False, lambda: _leakage(gold(("is it open on Sunday", "x")))
    ),
)
