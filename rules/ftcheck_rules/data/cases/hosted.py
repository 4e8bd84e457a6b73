"""Must-fail and must-pass inputs of the rule on files for hosted services."""

from typing import Any

from ftcheck.testing import Case, inputs, job, rows


def _file(count: int, **made: Any) -> dict[str, Any]:
    one = job(data={"train": "train.jsonl"})
    return {"job": one, "inputs": inputs(one, rows=rows(count, **made))}


CASES = (
    Case("hosted-file", "eight rows", True, lambda: _file(8)),
    Case("hosted-file", "a row that ends with the user", True, lambda: _file(12, remarks={"last-turn": [3]})),
    Case("hosted-file", "twelve rows", False, lambda: _file(12)),
)
