"""Must-fail and must-pass inputs of the rule on how answers end and whether they are valid."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftcheck.inputs.finished_run import Generation
from ftcheck.testing import Case, generations, gold, job, output_schema, run_artifacts

TEAM = {"type": "object", "required": ["team"], "properties": {"team": {"enum": ["print", "network"]}}}
GOOD, BROKEN = '{"team": "print"}', '{"team": "pri'


def answered(given: Sequence[Generation | str], *, retries: int = 1, schema: bool = True) -> dict[str, Any]:
    """The inputs of `valid-output`: one question an answer."""
    return {
        "job": job(serving={"max_new_tokens": 64, "schema_retries": retries}),
        "run_artifacts": run_artifacts(),
        "gold": gold(*((f"question {n}", {"team": "print"}) for n in range(len(given)))),
        "generations": generations(*given),
        "output_schema": output_schema(TEAM) if schema else None,
    }


def _retried(second: str, retries: int = 1) -> Mapping[str, Any]:
    first = Generation(BROKEN, 14, "stop", again=Generation(second, 18, "stop"))
    return answered([GOOD] * 19 + [first], retries=retries)


def _ending(finish: str) -> Mapping[str, Any]:
    return answered([Generation("Verdict: reject", 64, finish)] * 10, schema=False)


CASES: tuple[Case, ...] = (
    Case("valid-output", "a broken answer that a retry mends", False, lambda: _retried(GOOD)),
    Case("valid-output", "a broken answer that stays broken", True, lambda: _retried(BROKEN)),
    Case("valid-output", "a retry would mend it, and none is allowed", True, lambda: _retried(GOOD, 0)),
    Case("valid-output", "answers that never stop", True, lambda: _ending("length")),
    Case("valid-output", "a stop that the server does not know", True, lambda: _ending("template")),
    Case("valid-output", "answers that stop by themselves", False, lambda: _ending("stop")),
)
