"""Reads the JSON report of a load test: GuideLLM, AIPerf, or `vllm bench serve --save-result`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs import bounded
from ftcheck.inputs.load_test import Load, LoadReport
from ftcheck.inputs.loader import loader
from ftcheck.inputs.run_folder import mapping, number
from ftcheck.paths import near
from ftcheck.settings import Job

MAX_BYTES = 1 << 30
"""GuideLLM writes every request into its report; a larger file is not read."""
THOUSAND = 1000.0
MILLISECONDS = {"ms": 1.0, "s": THOUSAND, "sec": THOUSAND, "us": 1e-3, "ns": 1e-6}
VLLM = "vllm bench serve --save-result --percentile-metrics ttft,tpot,e2el --metric-percentiles 95,99"


@loader("load_report")
def load_report(job: Job) -> LoadReport | None:
    """The load test that `serving.load_report` names; None if it names none.

    Raises `InputError` for a file that is not there, or that none of the three programs wrote.
    """
    if job.serving.load_report is None:
        return None
    path = Path(job.serving.load_report)
    data = _read(job, path)
    shown = near(str(path))
    if isinstance(data.get("benchmarks"), list):
        loads = tuple(_guidellm(data["benchmarks"]))
        return LoadReport(shown, "GuideLLM", loads, "guidellm benchmark --output-path benchmarks.json")
    if isinstance(data.get("request_throughput"), Mapping):
        return LoadReport(shown, "AIPerf", (_aiperf(data),), "aiperf profile: profile_export_aiperf.json")
    if number(data.get("request_throughput")) is not None and "completed" in data:
        return LoadReport(shown, "vllm bench serve", (_vllm(data),), VLLM)
    raise _failure(job, f"{path}: not a report of GuideLLM, AIPerf or `vllm bench serve --save-result`")


def _read(job: Job, path: Path) -> Mapping[str, Any]:
    try:
        data = bounded.read_json(path, MAX_BYTES)
    except OSError as error:
        raise _failure(job, f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _failure(job, f"{path}: not readable JSON") from error
    if not isinstance(data, dict):
        raise _failure(job, f"{path}: must contain a JSON object")
    return data


def _guidellm(benchmarks: list[Any]) -> Iterator[Load]:
    """Latency in seconds, in `metrics`, for the requests that succeeded."""
    for place, one in enumerate(benchmarks, start=1):
        metrics = mapping(mapping(one).get("metrics"))
        totals = mapping(metrics.get("request_totals"))
        strategy = mapping(mapping(mapping(one).get("config") or mapping(one).get("args")).get("strategy"))
        latency = number(mapping(_good(metrics, "request_latency").get("percentiles")).get("p95"))
        yield Load(
            name=f"{strategy.get('type_') or 'level'} {place}",
            completed=_count(totals.get("successful")),
            failed=_count(totals.get("errored")),
            requests_per_second=number(_good(metrics, "requests_per_second").get("mean")),
            p95_latency_ms=None if latency is None else latency * THOUSAND,
            output_tokens=number(_good(metrics, "output_token_count").get("mean")),
        )


def _good(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return mapping(mapping(metrics.get(name)).get("successful"))


def _aiperf(data: Mapping[str, Any]) -> Load:
    """Each metric is an object with its unit; counts are in `avg`."""
    latency = mapping(data.get("request_latency"))
    p95, scale = number(latency.get("p95")), MILLISECONDS.get(str(latency.get("unit", "ms")))
    return Load(
        name="all",
        completed=_count(mapping(data.get("request_count")).get("avg")),
        failed=_count(mapping(data.get("error_request_count")).get("avg")),
        requests_per_second=number(mapping(data.get("request_throughput")).get("avg")),
        p95_latency_ms=None if p95 is None or scale is None else p95 * scale,
        output_tokens=number(mapping(data.get("output_sequence_length")).get("avg")),
    )


def _vllm(data: Mapping[str, Any]) -> Load:
    """Flat keys; older versions do not say `failed`, but how many prompts there were."""
    completed = _count(data.get("completed"))
    failed = data.get("failed")
    tokens = number(data.get("total_output_tokens"))
    return Load(
        name="all",
        completed=completed,
        failed=_count(failed) if failed is not None else max(_count(data.get("num_prompts")) - completed, 0),
        requests_per_second=number(data.get("request_throughput")),
        p95_latency_ms=number(data.get("p95_e2el_ms")),
        output_tokens=tokens / completed if tokens is not None and completed else None,
    )


def _count(value: Any) -> int:
    return int(number(value) or 0)


def _failure(job: Job, why: str) -> InputError:
    place = job.at("serving.load_report")
    message = f"serving.load_report of job {job.name}: {why}"
    return InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])
