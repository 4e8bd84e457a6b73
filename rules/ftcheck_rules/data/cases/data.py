"""Must-fail and must-pass inputs of the data rules."""

from typing import Any

from ftcheck.inputs.prepared import RowError
from ftcheck.testing import Case, inputs, job, rows

TRAIN = {"train": "train.jsonl"}


def _readable(**opened: Any) -> dict[str, Any]:
    made = job(data=TRAIN)
    return {"job": made, "inputs": inputs(made, **opened)}


def _missing() -> dict[str, Any]:
    made = job(data=TRAIN)
    return {"job": made, "inputs": inputs(made, broken={"rows": "no such file: train.jsonl"})}


def _broken_row() -> dict[str, Any]:
    return _readable(rows=rows(3, row_errors={1: RowError("json", "not JSON: expecting value", column=7)}))


def _misfit() -> dict[str, Any]:
    return {
        "job": job(data=TRAIN),
        "rows": rows(3, row_errors={2: RowError("schema", "'messages' is empty")}),
    }


def _remarked(code: str, **training: Any) -> dict[str, Any]:
    return {"job": job(data=TRAIN, training=training), "rows": rows(3, remarks={code: [1]})}


CASES = (
    Case("data-readable", "a file that is not there", True, _missing),
    Case("data-readable", "a file without rows", True, lambda: _readable(rows=rows(0))),
    Case("data-readable", "a row that is no JSON", True, _broken_row),
    Case("data-readable", "three whole rows", False, lambda: _readable(rows=rows(3))),
    Case("data-schema", "a row that does not fit its layout", True, _misfit),
    Case("data-schema", "a role that nobody knows", True, lambda: _remarked("role")),
    Case("data-schema", "content that is null", True, lambda: _remarked("null-content")),
    Case("data-schema", "an empty answer", True, lambda: _remarked("empty-answer")),
    Case("data-schema", "no answer", True, lambda: _remarked("no-answer", assistant_only_loss=True)),
    Case("data-schema", "rows as they should be", False, lambda: {"job": job(data=TRAIN), "rows": rows(3)}),
)
