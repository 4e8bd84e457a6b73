"""Must-fail and must-pass inputs of the rule on Arrow's nulls."""

from dataclasses import replace
from typing import Any

from ftcheck.inputs.arrow_nulls import NullTokens
from ftcheck.testing import Case, inputs, job, prepared, rows

FOUND = NullTokens(
    rows=3, first=0, looked=3, other=3, first_other=0, tokens=40, trained=15, keys=("room", "number")
)


def _read(found: NullTokens | None, *, suffix: str = ".parquet", **data: Any) -> dict[str, Any]:
    of = replace(rows(3), files=(f"train{suffix}",))
    return {
        "job": job(data=data),
        "prepared": prepared([9] * 3, trained=[4] * 3, of=of),
        "inputs": inputs(arrow_nulls=found),
    }


CASES = (
    Case("arrow-nulls", "nulls of other rows' keys in the loss", True, lambda: _read(FOUND)),
    Case(
        "arrow-nulls",
        "nulls in the tool definitions alone",
        True,
        lambda: _read(replace(FOUND, trained=0)),
    ),
    Case("arrow-nulls", "no null that the template writes", False, lambda: _read(None)),
    Case("arrow-nulls", "nulls that are dropped", False, lambda: _read(None, drop_nulls=True)),
)
