"""Output rules: do answers end by themselves, within the cap, and as JSON that the schema allows?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck import Finding, GoldSet, Job, Measurement, OutputSchema, Severity, Skip, Stage, Summary, rule
from ftcheck.extension.rules import Yield
from ftcheck.inputs.evaluation import GoldItem
from ftcheck.inputs.finished_run import (
    Generation,
    Generations,
    RunArtifacts,
    untrained,
)
from ftcheck.inputs.output_schema import problems
from ftcheck.packing.lengths import nearest_rank
from ftcheck_rules.data.gold import rows_named

if TYPE_CHECKING:
    from collections.abc import Callable

Pair = tuple[GoldItem, Generation]


@dataclass(frozen=True)
class ValidOutput:
    """Parameters of `valid-output`."""

    min_valid: float = 0.99
    """Share of answers that must satisfy the schema, after one retry where serving.schema_retries allows
    one."""
    min_valid_first: float = 0.9
    """Share of answers that must satisfy it at the first attempt: each retry costs a whole answer."""
    max_cut_share: float = 0.01
    """Share of answers that may be cut at serving.max_new_tokens."""


@rule("valid-output", family="outcome", cases="ftcheck_rules.outcome.cases.valid_output", stage=Stage.AFTER)
def valid_output(
    job: Job,
    run_artifacts: RunArtifacts | None,
    gold: GoldSet | None,
    generations: Generations | None,
    output_schema: OutputSchema | None,
    params: ValidOutput,
) -> Iterator[Yield]:
    """Answers stop by themselves within the cap, and are JSON that the output schema allows.

    A model that never learned its stop token talks until the cap and is paid for by the token; JSON that is
    cut or off the schema is an error at every program behind it.

    Looks at the gold answers. With serving.output_schema they must parse and satisfy it: at the first attempt
    (valid_at_retry_0), and after one retry with the guard's stricter prompt (valid_at_retry_1), which counts
    where serving.schema_retries is 1 or more. An error: fewer valid ones than min_valid; more than
    max_cut_share cut at the cap; empty answers; answers longer than the cap; answers that end at a token
    which only the chat template knows, so that a server would go on. A warning: fewer valid ones at the
    first attempt than min_valid_first. Parameters: min_valid (default 0.99), min_valid_first (default 0.9),
    max_cut_share (default 0.01).
    """
    if run_artifacts is None or gold is None or generations is None:
        yield Skip(untrained(job) if run_artifacts is None else "no gold questions to answer")
        return
    if generations.problem is not None:
        yield Skip(generations.problem)
        return
    pairs = [pair for pair in zip(gold.items, generations.items, strict=True) if pair[1].trouble is None]
    if not pairs:
        yield Skip("no question was answered")
        return
    yield Measurement("answers", len(pairs), unit="answers")
    said = []
    if output_schema is not None:
        first, after = _valid(pairs, output_schema)
        said.append(f"{first:.1%} valid at once, {after:.1%} after a retry")
        yield from _of_schema(job, pairs, output_schema, (first, after), params)
    yield from _lengths(job, pairs)
    cut = [pair for pair in pairs if pair[1].finish == "length"]
    said.append(f"{len(cut):,} of {len(pairs):,} cut at {generations.cap:,} tokens")
    yield Summary(" · ".join(said))
    yield from _cut(job, pairs, cut, generations.cap, params)
    yield from _ends(job, pairs, generations.cap)


def _valid(pairs: Sequence[Pair], schema: OutputSchema) -> tuple[float, float]:
    """Shares of valid answers at the first attempt, and after one retry."""
    first = [not problems(answer.text, schema) for _, answer in pairs]
    after = [
        good or (answer.again is not None and _good(answer.again, schema))
        for good, (_, answer) in zip(first, pairs, strict=True)
    ]
    return sum(first) / len(pairs), sum(after) / len(pairs)


def _good(answer: Generation, schema: OutputSchema) -> bool:
    return answer.trouble is None and not problems(answer.text, schema)


def _of_schema(
    job: Job,
    pairs: Sequence[Pair],
    schema: OutputSchema,
    shares: tuple[float, float],
    params: ValidOutput,
) -> Iterator[Yield]:
    first, after = shares
    retried = job.serving.schema_retries > 0
    least_first = params.min_valid_first if retried else params.min_valid
    yield Measurement("valid_at_retry_0", round(first, 4), limit=f">= {least_first:g}")
    limit = f">= {params.min_valid:g}" if retried else None
    yield Measurement("valid_at_retry_1", round(after, 4), limit=limit)
    broken = [pair for pair in pairs if problems(pair[1].text, schema)]
    at, served = job.at("serving.output_schema"), after if retried else first
    if served < params.min_valid:
        said = "after one retry" if retried else "and serving.schema_retries allows no retry"
        message = f"{served:.1%} of the answers satisfy the schema {said}, not {params.min_valid:.1%}"
        fix = "train longer, on rows whose answers all satisfy it (output-schema), or decode under the schema"
        yield Finding(f"{message} ({_rows(broken)})", at=at, fix=fix)
    elif first < least_first:
        message = f"{first:.1%} of the answers satisfy the schema at once, not {least_first:.1%}"
        yield Finding(
            f"{message} ({_rows(broken)})", Severity.WARNING, at=at, fix="each other one costs a retry"
        )
    if served < params.min_valid or first < least_first:
        for item, answer in broken:
            why = "; ".join(problems(answer.text, schema)[:3])
            yield Finding(f"row {item.at.row}: {why}", Severity.INFO, at=item.at, content=answer.text or None)


def _lengths(job: Job, pairs: Sequence[Pair]) -> Iterator[Measurement]:
    import numpy as np

    counted = np.array([answer.tokens for _, answer in pairs if answer.tokens is not None], dtype=np.int64)
    if len(counted):
        cap = job.serving.max_new_tokens
        limit = None if cap is None else f"<= {cap}"
        yield Measurement("tokens_p50", nearest_rank(counted, 50), unit="tokens")
        yield Measurement("tokens_p99", nearest_rank(counted, 99), unit="tokens", limit=limit)
        yield Measurement("tokens_max", int(counted.max()), unit="tokens", limit=limit)


def _cut(
    job: Job, pairs: Sequence[Pair], cut: Sequence[Pair], cap: int, params: ValidOutput
) -> Iterator[Yield]:
    share = len(cut) / len(pairs)
    yield Measurement("cut_share", round(share, 4), limit=f"<= {params.max_cut_share:g}")
    if cut:
        severity = Severity.ERROR if share > params.max_cut_share else Severity.INFO
        message = f"{len(cut):,} of {len(pairs):,} answers do not stop within {cap:,} tokens ({_rows(cut)})"
        fix = "is the stop token in the loss (special-tokens)? else raise serving.max_new_tokens"
        yield Finding(message, severity, at=job.at("serving.max_new_tokens"), fix=fix)


def _ends(job: Job, pairs: Sequence[Pair], cap: int) -> Iterator[Finding]:
    for wrong, message, fix in _WRONG:
        found = [pair for pair in pairs if wrong(pair[1], cap)]
        if found:
            said = f"{len(found):,} of {len(pairs):,} answers {message} ({_rows(found)})"
            yield Finding(said, at=job.at("serving"), fix=fix)


def _empty(answer: Generation, cap: int) -> bool:
    return not answer.text.strip()


def _over(answer: Generation, cap: int) -> bool:
    return answer.tokens is not None and answer.tokens > cap


def _foreign(answer: Generation, cap: int) -> bool:
    return answer.finish == "template"


_WRONG: "tuple[tuple[Callable[[Generation, int], bool], str, str], ...]" = (
    (_empty, "are empty", "are the answers in the loss (trained-tokens)?"),
    (_over, "are longer than the cap", "the server does not keep to max_tokens"),
    (
        _foreign,
        "end at a token that only the chat template ends a turn with: a server goes on",
        "add that token to eos_token_id in generation_config.json, or to serving.stop",
    ),
)


def _rows(pairs: Sequence[Pair]) -> str:
    return rows_named([item for item, _ in pairs])
