"""Must-fail and must-pass inputs of the rule on the size of the test sets."""

from typing import Any

from ftcheck.testing import Case, gold, job


def _gold(count: int) -> dict[str, Any]:
    items = gold(*((f"question {number}", "answer") for number in range(count)))
    return {"job": job(targets={"accuracy": 0.95}), "gold": items, "prepared_eval": None}


CASES = (
    Case("gold-set", "five questions for 95 %", True, lambda: _gold(5)),
    Case("gold-set", "a hundred questions for 95 %", False, lambda: _gold(100)),
)
