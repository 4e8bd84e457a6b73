"""Guardrail rules: what happens to inputs that are too long and to invalid answers, and what is logged?"""

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
    Skip,
    Summary,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.endpoint import Endpoint
from ftcheck.packing.lengths import nearest_rank
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import NotOfRows
from ftcheck_rules.serving.guard_probes import probes
from ftcheck_rules.serving.serving import NOTHING_SAID, Lengths, answered
from ftcheck_rules.serving.windows import server_window

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
    """The name of the job's model at serving.endpoint; default: the job's name, as exported."""
    probe_seconds: float = 60.0
    """Timeout for one answer of serving.endpoint, in seconds."""


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
    """The input limit, the action above it, the retries and the log are declared, and fit the real inputs.

    Without them the server silently cuts a long input or runs out of memory, an invalid answer is returned as
    it is, and a log keeps what users wrote.

    Skipped where the policy has no `serving` section. Inputs are measured on the prompts of the training
    rows, where the loss separates them from the answers, and on the gold prompts. Parameter:
    over_limit_percent (default 1).

    Where serving.endpoint names the guarded proxy (an OpenAI-compatible URL; its key in
    FTCHECK_ENDPOINT_KEY), the declared guardrails are also probed: an input of exactly the limit is answered,
    by the guard and with the same token count; one token more is handled as over_limit says; an invalid
    answer is retried and not returned; an answer ends at the cap; serving.log_path grows, and does not
    contain a planted word. Where the model does not produce the needed answer, the probe reports that the
    result is unknown. With --offline only this machine is probed. Parameters: probe_model (default: the job's
    name), probe_seconds (default 60).
    """
    if not job.serves:
        yield Skip(NOTHING_SAID)
        return
    lengths, limit = _inputs(gold, prepared), job.serving.max_input_tokens
    yield from _declared(job)
    yield from _retries(job)
    yield Measurement("max_input_tokens", limit, unit="tokens", statistic=NotOfRows())
    yield from _fits(job, model, lengths, params)
    if lengths:
        yield from _input_lengths(lengths, limit)
    if limit is not None:
        for what, found in lengths.items():
            yield from _over(job, what, found, params)
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
    """Lengths of real prompts, by source."""
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
    """The three settings that every guardrail needs, and no user text in the log."""
    side = job.serving
    asked = {
        "max_input_tokens": (
            side.max_input_tokens,
            "set it to the input limit, in tokens of the rendered prompt",
            "Without a limit, long inputs are cut silently or fill the server's memory.",
        ),
        "over_limit": (
            side.over_limit,
            "set it to one of: rules, chunk, reject",
            "Without it, nobody has decided what happens to inputs above max_input_tokens.",
        ),
        "log": (side.log, "set it to token-counts", "Without it, it is open whether user text is logged."),
    }
    for key, (value, fix, why) in asked.items():
        if value is None:
            change = Change(f"jobs.{job.name}.serving.log", None, "token-counts") if key == "log" else None
            at = job.at(f"serving.{key}")
            yield Finding(f"serving.{key} is not set", at=at, fix=fix, change=change, why=why)
    if side.log not in (None, "token-counts"):
        content = side.log == "content"
        yield Finding(
            f"serving.log is {side.log}: " + ("it keeps user text" if content else "nothing is logged"),
            Severity.ERROR if content else Severity.WARNING,
            at=job.at("serving.log"),
            fix=f"log: {side.log} -> token-counts",
            change=Change(f"jobs.{job.name}.serving.log", side.log, "token-counts"),
            why="Logged user text may be personal data, and outlives the request."
            if content
            else "Without token counts, nobody notices inputs that grow towards the limit.",
        )


def _retries(job: Job) -> Iterator[Finding]:
    retries, at = job.serving.schema_retries, job.at("serving.schema_retries")
    key = f"jobs.{job.name}.serving.schema_retries"
    if retries > MANY_RETRIES:
        message = f"serving.schema_retries is {retries}, more than {MANY_RETRIES}"
        why = f"An answer that keeps violating the schema is generated, and paid for, {retries + 1} times."
        fix, change = "set schema_retries: 1", Change(key, retries, 1)
        yield Finding(message, Severity.WARNING, at=at, fix=fix, change=change, why=why)
    elif job.serving.output_schema is None and retries:
        message = f"serving.schema_retries is {retries}, but serving.output_schema is not set"
        yield Finding(message, Severity.INFO, at=at, fix="set serving.output_schema")
    elif job.serving.output_schema is not None and "serving.schema_retries" not in job.places and not retries:
        message = "serving.schema_retries is not set: an answer that violates the schema is not retried"
        change = Change(key, retries, 1)
        yield Finding(message, Severity.INFO, at=at, fix="set schema_retries: 1", change=change)


def _fits(job: Job, model: ModelConfig, lengths: Lengths, params: Guardrail) -> Iterator[Yield]:
    """Input and output together must fit the server's context, and the model's.

    A lower limit is only proposed where the real inputs fit it: else the next finding would reject it.
    """
    taken, given = job.serving.max_input_tokens, job.serving.max_new_tokens
    server = server_window(job)
    known = {server.name: server.tokens} if server is not None else {}
    if model.context is not None:
        known["the model's context window"] = model.context
    if taken is None or given is None:
        return
    least = min(known, key=lambda name: known[name], default=None)
    bound = f"<= {known[least]}" if least is not None else None
    yield Measurement("context_needed", taken + given, unit="tokens", limit=bound, statistic=NotOfRows())
    if least is None or taken + given <= known[least]:
        return
    left = known[least] - given
    key = f"jobs.{job.name}.serving.max_input_tokens"
    by_default = server is not None and least == server.name and job.serving.max_model_len is None
    fix = f"max_input_tokens: {taken} -> {left}" if left > 0 else "lower serving.max_new_tokens"
    holds = not any(_too_many_over(found, left, params) for found in lengths.values())
    if server is not None and by_default:
        fix = server.remedy(taken + given)
    elif left > 0 and not holds:
        fix = f"lower serving.max_new_tokens, or use a larger context: real inputs exceed {left:,} tokens"
    yield Finding(
        f"max_input_tokens {taken} + max_new_tokens {given} = {taken + given} tokens, but {least} is"
        f" {known[least]:,}",
        at=job.at("serving.max_input_tokens"),
        fix=fix,
        change=Change(key, taken, left) if left > 0 and not by_default and holds else None,
        why="The server rejects long inputs, or cuts their answers.",
    )


def _too_many_over(lengths: "NDArray[np.int64]", limit: int, params: Guardrail) -> bool:
    return bool(100 * int((lengths > limit).sum()) > params.over_limit_percent * len(lengths))


def _over(job: Job, what: str, lengths: "NDArray[np.int64]", params: Guardrail) -> Iterator[Finding]:
    limit, action = job.serving.max_input_tokens or 0, job.serving.over_limit
    over = int((lengths > limit).sum())
    if not _too_many_over(lengths, limit, params):
        return
    fate = {"reject": "rejected", "chunk": "split into chunks", "rules": "answered by the rules"}
    would = f"; {agreeing(over, 'it', 'they')} would be {fate[action]}" if action in fate else ""
    longer = agreeing(over, "exceeds", "exceed")
    yield Finding(
        f"{over:,} of {counted(len(lengths), f'{what} input')} {longer} max_input_tokens {limit}{would};"
        f" the longest has {counted(int(lengths.max()), 'token')}",
        Severity.ERROR if action == "reject" else Severity.WARNING,
        at=job.at("serving.max_input_tokens"),
        fix=f"raise max_input_tokens to {nearest_rank(lengths, 100 - params.over_limit_percent):,} or more",
        why="The limit is too low for the inputs that the job really gets.",
    )
