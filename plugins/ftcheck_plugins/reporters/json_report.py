"""`-o json`: the report as `ftcheck.report/1` (its JSON Schema lies in ftcheck/tables/report.schema.json)."""

import math
from collections.abc import Mapping, Set
from enum import Enum
from numbers import Integral, Real
from typing import Any

from ftcheck.extension.reporters import Reporter
from ftcheck.report.record import Report, to_dict
from ftcheck.report.redact import redact_json


def render(report: Report) -> str:
    """The report as JSON: redacted, valid UTF-8, and read back by `ftcheck.report.record.from_dict`."""
    import json

    text = json.dumps(redact_json(_plain(to_dict(report))), indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def _plain(value: Any) -> Any:
    """What JSON can hold: a date, a path or a numpy number in a parameter must not cost the report."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Set):
        return sorted(_plain(one) for one in value)
    return _plain_number(value) if isinstance(value, Real) else str(value)


def _plain_number(value: Real) -> int | float | str:
    """JSON has no NaN and no infinity: they are written as text."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else str(float(value))


REPORTER = Reporter(name="json", render=render, suffix=".json")
