"""Guardrail rules: what happens to inputs that are too long, to broken answers, and what is logged?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck import (
    Change,
    Finding,
    GoldSet,
    Inputs,
    Job,
    Measurement,
    ModelConfig,
    Prepared,
    Severity,
    Summary,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.endpoint import Endpoint
from ftcheck.packing.lengths import nearest_rank
from ftcheck_rules.serving.guard_probes import probes
from ftcheck_rules.serving.serving import Lengths, answered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANY_RETRIES = 3
"""More retries than this are worth a warning."""


@dataclass(frozen=True)
class Guardrail:
    """Parameters of `guardrail`."""

    over_limit_percent: float = 1.0
    """Share of real inputs, in percent, that may be longer than the input limit."""
    probe_model: str | None = None
    """The name under which serving.endpoint knows the job; default: the job's own, as exported."""
    probe_seconds: float = 60.0
    """How long one answer of serving.endpoint is waited for."""


@rule("guardrail", family="serving", cases="ftcheck_rules.serving.cases.guardrails")
def guardrail(
    job: Job,
    model: ModelConfig,
    gold: GoldSet | None,
    prepared: Prepared,
    endpoint: Endpoint | None,
    inputs: Inputs,
    params: Guardrail,
) -> Iterator[Yield]:
    """The input limit, what happens above it, the retries and the log are declared, and fit the real inputs.

    Without them a long input is cut by the server without a word or fills its memory, a broken answer
    goes out as it is, and a log keeps what users wrote.

    Inputs are counted on the training rows' prompts, where the loss tells them from the answers, and on
    the gold prompts. Parameter: over_limit_percent (default 1).

    Declared is not done: where serving.endpoint names the guarded proxy (an OpenAI-compatible URL; its key in
    FTCHECK_ENDPOINT_KEY), it is probed. An input of exactly the limit is answered, by the guard and with the
    same count; one token more is handled as over_limit says; a broken answer is asked for again and does not
    go out; an answer ends at the cap; serving.log_path grows, and a planted word is not in it. Where a model
    does not play along, the probe says that it cannot tell. With --offline only this machine is asked.
    Parameters: probe_model (default: the job's name), probe_seconds (default 60).
    """
    lengths, limit = _inputs(gold, prepared), job.serving.max_input_tokens
    yield from _declared(job)
    yield from _retries(job)
    yield Measurement("max_input_tokens", limit, unit="tokens")
    yield from _fits(job, model)
    if lengths:
        yield from _input_lengths(lengths, limit)
    if limit is not None:
        for what, counted in lengths.items():
            yield from _over(job, what, counted, params)
    if endpoint is not None:
        side, schema = inputs.get("serving"), inputs.get("output_schema")
        name = params.probe_model or job.name
        yield from probes(job, side, schema, endpoint, name, params.probe_seconds)
    yield Summary(_in_words(job))


def _in_words(job: Job) -> str:
    side = job.serving
    stated = {
        "input": side.max_input_tokens,
        "output": side.max_new_tokens,
        "over limit": side.over_limit,
        "log": side.log,
    }
    return " · ".join(f"{name} {'not set' if value is None else value}" for name, value in stated.items())


def _inputs(gold: GoldSet | None, prepared: Prepared) -> dict[str, "NDArray[np.int64]"]:
    """Lengths of real prompts, by where they come from."""
    import numpy as np

    found: dict[str, NDArray[np.int64]] = {}
    asked = answered(prepared)
    if asked.any():
        found["training"] = (prepared.length - prepared.answer)[asked].astype(np.int64)
    if gold is not None and gold.items:
        found["gold"] = np.array([len(item.prompt_ids) for item in gold.items], dtype=np.int64)
    return found


def _input_lengths(inputs: Lengths, limit: int | None) -> Iterator[Measurement]:
    import numpy as np

    lengths = np.concatenate(list(inputs.values()))
    yield Measurement("input_p99", nearest_rank(lengths, 99), unit="tokens")
    yield Measurement("input_max", int(lengths.max()), unit="tokens")
    if limit is not None:
        yield Measurement("inputs_over_limit", int((lengths > limit).sum()), unit="inputs")


def _declared(job: Job) -> Iterator[Finding]:
    """The three settings that every guardrail needs, and no user's words in the log."""
    side = job.serving
    asked = {
        "max_input_tokens": (side.max_input_tokens, "the input limit, in tokens of the rendered prompt"),
        "over_limit": (side.over_limit, "rules (fallback), chunk or reject"),
        "log": (side.log, "token-counts"),
    }
    for key, (value, what) in asked.items():
        if value is None:
            change = Change(f"jobs.{job.name}.serving.log", None, "token-counts") if key == "log" else None
            at = job.at(f"serving.{key}")
            yield Finding(f"serving.{key} is not set", at=at, fix=f"set it: {what}", change=change)
    if side.log not in (None, "token-counts"):
        content = side.log == "content"
        yield Finding(
            "the log keeps what users write" if content else "nothing is logged, so nobody sees inputs grow",
            Severity.ERROR if content else Severity.WARNING,
            at=job.at("serving.log"),
            fix=f"log: {side.log} -> token-counts",
            change=Change(f"jobs.{job.name}.serving.log", side.log, "token-counts"),
        )


def _retries(job: Job) -> Iterator[Finding]:
    retries, at = job.serving.schema_retries, job.at("serving.schema_retries")
    key = f"jobs.{job.name}.serving.schema_retries"
    if retries > MANY_RETRIES:
        message = (
            f"{retries} retries: an answer that keeps breaking the schema is paid for {retries + 1} times"
        )
        yield Finding(message, Severity.WARNING, at=at, fix="retry once", change=Change(key, retries, 1))
    elif job.serving.output_schema is None and retries:
        message = f"{retries} retries are set, but no output_schema says what is wrong with an answer"
        yield Finding(message, Severity.INFO, at=at, fix="name serving.output_schema")
    elif job.serving.output_schema is not None and "serving.schema_retries" not in job.places and not retries:
        message = "schema_retries is not set: an answer that breaks the schema is not asked for again"
        yield Finding(message, Severity.INFO, at=at, fix="retry once", change=Change(key, retries, 1))


def _fits(job: Job, model: ModelConfig) -> Iterator[Yield]:
    """Input and output together must fit what the server was started with, and what the model can take."""
    taken, given = job.serving.max_input_tokens, job.serving.max_new_tokens
    windows = {"serving.max_model_len": job.serving.max_model_len, "the model's context": model.context}
    known = {name: window for name, window in windows.items() if window is not None}
    if taken is None or given is None:
        return
    least = min(known, key=lambda name: known[name], default=None)
    bound = f"<= {known[least]}" if least is not None else None
    yield Measurement("context_needed", taken + given, unit="tokens", limit=bound)
    if least is None or taken + given <= known[least]:
        return
    left = known[least] - given
    key = f"jobs.{job.name}.serving.max_input_tokens"
    yield Finding(
        f"{taken} tokens in and {given} out make {taken + given}, {least} is {known[least]}",
        at=job.at("serving.max_input_tokens"),
        fix=f"max_input_tokens: {taken} -> {left}" if left > 0 else "lower serving.max_new_tokens",
        change=Change(key, taken, left) if left > 0 else None,
    )


def _over(job: Job, what: str, lengths: "NDArray[np.int64]", params: Guardrail) -> Iterator[Finding]:
    limit, action = job.serving.max_input_tokens or 0, job.serving.over_limit
    over = int((lengths > limit).sum())
    if 100 * over <= params.over_limit_percent * len(lengths):
        return
    fate = {"reject": "would be refused", "chunk": "would be cut into pieces", "rules": "fall back to rules"}
    yield Finding(
        f"{over:,} of {len(lengths):,} {what} inputs are longer than max_input_tokens {limit} and"
        f" {fate.get(action or '', 'have no rule')}: the longest has {int(lengths.max()):,} tokens",
        Severity.ERROR if action == "reject" else Severity.WARNING,
        at=job.at("serving.max_input_tokens"),
        fix=f"raise the limit to {nearest_rank(lengths, 100 - params.over_limit_percent):,} at least",
    )
