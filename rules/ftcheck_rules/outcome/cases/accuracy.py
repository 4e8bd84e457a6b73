"""Must-fail and must-pass inputs of the rules on the answers to gold questions."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftcheck.inputs.baseline import Baseline
from ftcheck.testing import Case, generations, gold, job, output_schema, prepared, run_artifacts, tokenizer

JSON = ('{"team": "print", "urgent": false}', '{"team": "network", "urgent": false}')
VERDICT = {"pattern": r"Verdict: (\w+)"}
REASONED = "The claim is above the limit. Verdict: approve is not possible.\nVerdict: reject"


def asked(
    expected: Sequence[Any], given: Sequence[Any], *, target: float | None = 0.9, **changes: Any
) -> dict[str, Any]:
    """The inputs of `accuracy`: one question an expected answer."""
    made = job(targets={"accuracy": target})
    return {
        "job": made,
        "run_artifacts": run_artifacts(),
        "gold": gold(*((f"question number {n}", one) for n, one in enumerate(expected))),
        "generations": generations(*given),
        "output_schema": None,
        "prepared": prepared([5] * 3),
        "tokenizer": tokenizer(),
        **changes,
    }


def _mapped(right: int, total: int) -> Mapping[str, Any]:
    schema = output_schema({"type": "object"})
    given = [JSON[0]] * right + [JSON[1]] * (total - right)
    return asked([{"urgent": False, "team": "print"}] * total, given, output_schema=schema)


def _judged(text: str) -> Mapping[str, Any]:
    return asked(["Verdict: reject"] * 60, [text] * 60)


def _few() -> Mapping[str, Any]:
    return asked(["yes"] * 20, ["yes"] * 19 + ["no"])


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "order",
            "parameters": {
                "type": "object",
                "properties": {"item": {"enum": ["ink", "paper"]}, "count": {"type": "integer"}},
                "required": ["item"],
            },
        },
    }
]


def calls(*given: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An expected answer that calls functions."""
    return {"tool_calls": [{"function": {"name": name, "arguments": one}} for name, one in given]}


def hermes(*given: str) -> str:
    """An answer with these calls, in the format hermes."""
    return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in given)


INK = calls(("order", {"item": "ink", "count": 2}))
RIGHT = hermes('{"name": "order", "arguments": {"count": 2, "item": "ink"}}')


def called(given: Sequence[Any], wanted: Any = INK, form: str | None = "hermes") -> dict[str, Any]:
    """The inputs of `accuracy`: one question an answer, each to be answered by calls."""
    questions = [(f"question number {n}", wanted) for n in range(len(given))]
    return asked([], given, gold=gold(*questions, tools=TOOLS, call_format=form))


def _compared(base: Sequence[str], tuned: Sequence[str], earlier: float | None = None) -> Mapping[str, Any]:
    made = asked(["yes"] * len(tuned), tuned)
    del made["prepared"], made["tokenizer"]
    before = Baseline("morning.json", earlier, len(tuned)) if earlier is not None else None
    return {**made, "base_generations": generations(*base), "baseline": before}


CASES: tuple[Case, ...] = (
    Case("accuracy", "JSON in another order, 95 of 100", False, lambda: _mapped(95, 100)),
    Case("accuracy", "JSON with a wrong field, 80 of 100", True, lambda: _mapped(80, 100)),
    Case("accuracy", "19 of 20, which may be 76 %", True, _few, {"min_rows": 10}),
    Case("accuracy", "the last verdict is the right one", False, lambda: _judged(REASONED), VERDICT),
    Case("accuracy", "no verdict at all", True, lambda: _judged("I cannot say."), VERDICT),
    Case("accuracy", "calls with their keys in another order", False, lambda: called([RIGHT] * 60)),
    Case("accuracy", "calls in another parser's format", True, lambda: called([RIGHT] * 60, form="mistral")),
    Case("regression", "no better than the base", True, lambda: _compared(["no", "yes"], ["yes", "no"])),
    Case("regression", "better than the base", False, lambda: _compared(["no", "yes"], ["yes", "yes"])),
    Case("regression", "worse than before", True, lambda: _compared(["no"] * 4, ["yes"] * 3 + ["no"], 0.99)),
    Case("regression", "as good as before", False, lambda: _compared(["no"] * 4, ["yes"] * 4, 0.99)),
)
