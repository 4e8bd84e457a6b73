"""What a load test of a served job measured: the record that rules ask for as `load_report`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """One level of load: requests that were answered, and `failed` ones.

    `name` says which level it is (`constant 2`). Requests a second as they were answered; the 95th
    percentile of the time from sending a request to its last token, in milliseconds; mean tokens of an
    answer. None: not told.
    """

    name: str
    completed: int
    failed: int = 0
    requests_per_second: float | None = None
    p95_latency_ms: float | None = None
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A load test's report: the program that wrote it, its levels of load in order, and why one says too
    little.

    `hint` is how the program is to be called so that it says all that is asked of it.
    """

    path: str
    program: str
    loads: tuple[Load, ...]
    hint: str = ""
