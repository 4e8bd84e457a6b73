import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.finished.load_test import load_report

from ftcheck import InputError
from ftcheck.inputs.load_test import Load, LoadReport
from ftcheck.testing import job

GUIDELLM = {
    "benchmarks": [
        {
            "config": {"strategy": {"type_": "constant", "rate": 10}},
            "metrics": {
                "request_totals": {"successful": 300, "incomplete": 2, "errored": 1, "total": 303},
                "requests_per_second": {"successful": {"mean": 9.9, "percentiles": {"p95": 12}}},
                "request_latency": {"successful": {"mean": 0.1, "percentiles": {"p95": 0.18, "p99": 0.3}}},
                "output_token_count": {"successful": {"mean": 28.5}},
            },
        }
    ]
}
AIPERF = {
    "schema_version": "1.0",
    "request_throughput": {"unit": "requests/sec", "avg": 41.5},
    "request_latency": {"unit": "ms", "avg": 90.0, "p50": 80.0, "p95": 150.5, "p99": 210.0},
    "request_count": {"unit": "requests", "avg": 1000.0},
    "error_request_count": {"unit": "requests", "avg": 3.0},
    "output_sequence_length": {"unit": "tokens", "avg": 27.0},
}
VLLM = {
    "model_id": "mapper",
    "num_prompts": 500,
    "completed": 498,
    "total_output_tokens": 12450,
    "request_throughput": 88.25,
    "p95_e2el_ms": 190.0,
    "p99_e2el_ms": 260.0,
}


def read(folder: Path, data: Any) -> LoadReport | None:
    path = folder / "load.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    found: LoadReport | None = load_report.open(job(serving={"load_report": str(path)}))
    return found


@pytest.mark.parametrize(
    ("data", "program", "load"),
    [
        (GUIDELLM, "GuideLLM", Load("constant 1", 300, 1, 9.9, 180.0, 28.5)),
        (AIPERF, "AIPerf", Load("all", 1000, 3, 41.5, 150.5, 27.0)),
        (VLLM, "vllm bench serve", Load("all", 498, 2, 88.25, 190.0, 25.0)),
    ],
)
def test_the_three_programs_reports_are_told_apart_and_read(
    tmp_path: Path, data: Any, program: str, load: Load
) -> None:
    found = read(tmp_path, data)
    assert found is not None
    assert (found.program, found.loads) == (program, (load,))


def test_what_a_report_does_not_say_is_not_made_up(tmp_path: Path) -> None:
    found = read(tmp_path, {key: value for key, value in VLLM.items() if key != "p95_e2el_ms"})
    assert found is not None
    assert found.loads[0].p95_latency_ms is None
    assert "--percentile-metrics" in found.hint


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "not readable JSON"), ("[]", "JSON object"), ('{"a": 1}', "not a report of GuideLLM")],
)
def test_a_file_of_another_kind_is_an_error_that_names_it(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        read(tmp_path, text)
    assert caught.value.problems[0].yaml_path == "jobs.job.serving.load_report"


def test_a_job_without_load_test_has_none() -> None:
    assert load_report.open(job()) is None
