"""Must-fail and must-pass inputs of the rule on the load test."""

from collections.abc import Mapping
from typing import Any

from ftcheck.inputs.load_test import Load, LoadReport
from ftcheck.testing import Case, job


def levels_of(*loads: Load) -> dict[str, Any]:
    """The inputs of `serving-target`: 100 requests a second within 200 ms are asked for."""
    return {
        "job": job(targets={"requests_per_second": 100.0, "p95_latency_ms": 200.0}),
        "load_report": LoadReport("load.json", "GuideLLM", loads, "guidellm benchmark"),
        "generations": None,
    }


def _at(rate: float, latency: float | None, failed: int = 0) -> Mapping[str, Any]:
    return levels_of(Load("constant 1", 1000, failed, rate, latency, 30.0))


CASES: tuple[Case, ...] = (
    Case("serving-target", "the rate within the latency", False, lambda: _at(120, 150)),
    Case("serving-target", "too slow at that rate", True, lambda: _at(120, 350)),
    Case("serving-target", "fast, but for few", True, lambda: _at(20, 50)),
    Case("serving-target", "every fifth request failed", True, lambda: _at(120, 150, 250)),
    Case("serving-target", "no percentile in the report", True, lambda: _at(120, None)),
    Case(
        "serving-target",
        "fast at low load and slow at the one that is asked for",
        True,
        lambda: levels_of(Load("constant 1", 500, 0, 10, 50), Load("constant 2", 900, 0, 110, 700)),
    ),
)
