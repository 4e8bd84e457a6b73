"""Output rules: do answers stop by themselves, within the cap, and satisfy the output schema?"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import (
    Finding,
    GoldSet,
    Job,
    Measurement,
    OutputSchema,
    Severity,
    Skip,
    Stage,
    Summary,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs import tool_parsers
from ftcheck.inputs.evaluation import GoldItem
from ftcheck.inputs.finished_run import (
    Generation,
    Generations,
    RunArtifacts,
    untrained,
)
from ftcheck.inputs.output_schema import problems
from ftcheck.inputs.tool_parsers import FunctionCall, Unreadable
from ftcheck.packing.lengths import nearest_rank
from ftcheck.plurals import agreeing, counted
from ftcheck_rules.data.gold import rows_named
from ftcheck_rules.outcome.matching import Unusable, calls_in

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
    """Share of answers that must satisfy the schema at the first attempt: each retry costs another answer."""
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
    """Answers stop by themselves within the cap, and satisfy the output schema.

    A model that never learned its stop token generates up to the cap, and is paid for by the token; JSON that
    is cut or violates the schema is an error in every program that reads it.

    Checks the answers to the gold questions. With serving.output_schema they must parse and satisfy it: at
    the first attempt (valid_at_retry_0), and after one retry with the guard's stricter prompt
    (valid_at_retry_1), which counts where serving.schema_retries is 1 or more. An error: fewer valid answers
    than min_valid; more than max_cut_share cut at the cap; empty answers; answers longer than the cap;
    answers that end with a token that only the chat template uses, so that a server would not stop. A
    warning: fewer valid answers at the first attempt than min_valid_first. Answers with tool calls satisfy
    the tools instead: each call names a tool of the question, and its arguments satisfy that tool's schema;
    fewer than min_valid of them is an error (calls_valid). Parameters: min_valid (default 0.99),
    min_valid_first (default 0.9), max_cut_share (default 0.01).
    """
    if run_artifacts is None or gold is None or generations is None:
        yield Skip(untrained(job) if run_artifacts is None else "there are no gold questions to answer")
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
    texts = [pair for pair in pairs if not pair[0].calls]
    if output_schema is not None and texts:
        first, after = _valid(texts, output_schema)
        said.append(f"{first:.1%} valid at the first attempt, {after:.1%} after a retry")
        yield from _of_schema(job, texts, output_schema, (first, after), params)
    if gold.call_format is not None or any(answer.calls is not None for _, answer in pairs):
        checked = [(pair, _wrong_calls(gold.call_format, *pair)) for pair in pairs]
        said += yield from _of_calls(job, [one for one in checked if one[1] is not None], params)
    yield from _lengths(job, pairs)
    cut = [pair for pair in pairs if pair[1].finish == "length"]
    said.append(f"{len(cut):,} of {counted(len(pairs), 'answer')} cut at {generations.cap:,} tokens")
    yield Summary(" · ".join(said))
    yield from _cut(job, pairs, cut, generations.cap, params)
    yield from _ends(job, pairs, generations.cap)


def _wrong_calls(form: str | None, item: GoldItem, answer: Generation) -> list[str] | None:
    """What is wrong with an answer's calls, in words without content; None where it has and needs none."""
    if not item.calls and not item.tools:
        return None
    try:
        calls = calls_in(form, item, answer)
    except Unreadable as error:
        return [str(error)] if item.calls else None
    except Unusable:
        return None
    if not calls:
        return ["no tool is called"] if item.calls else None
    return [wrong for call in calls for wrong in _wrong_call(item, call)]


def _wrong_call(item: GoldItem, call: FunctionCall) -> Iterator[str]:
    if item.tools is None:
        return
    schema = tool_parsers.schema_of(item.tools, call.name)
    if schema is None:
        yield "a call names a function that is not among the tools"
    elif not isinstance(call.arguments, Mapping):
        yield "the arguments are not an object"
    elif not _satisfies(dict(schema), call.arguments):
        yield "the arguments violate the tool's schema"


def _satisfies(schema: dict[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether arguments satisfy a tool's schema; a schema that is none refuses nothing."""
    from jsonschema.exceptions import SchemaError, UnknownType
    from jsonschema.validators import validator_for

    try:
        checker = validator_for(schema)
        checker.check_schema(schema)
        return bool(checker(schema).is_valid(arguments))
    except (SchemaError, UnknownType):
        return True


def _of_calls(
    job: Job, checked: Sequence[tuple[Pair, list[str] | None]], params: ValidOutput
) -> Generator[Yield, None, list[str]]:
    """Answers that call tools, or should, held against the tools of their questions."""
    if not checked:
        return []
    broken = [(pair, wrong) for pair, wrong in checked if wrong]
    share = 1 - len(broken) / len(checked)
    yield Measurement("calls_valid", round(share, 4), limit=f">= {params.min_valid:g}")
    if share < params.min_valid:
        whys = Counter(why for _, wrong in broken for why in dict.fromkeys(wrong))
        named = "; ".join(f"{why}: {count:,}" for why, count in whys.most_common(3))
        message = f"{share:.1%} of the answers that must call a tool, or do, are valid calls, below"
        message += f" {params.min_valid:.1%} ({named}; {_rows([pair for pair, _ in broken])})"
        fix = "train longer, on rows whose calls all satisfy the tools' schemas; see tool-parser"
        why = "A call that cannot be read, or breaks the tool's schema, runs no tool."
        yield Finding(message, at=job.at("serving"), fix=fix, why=why)
    return [f"{share:.1%} valid calls"]


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
        said = "after one retry" if retried else "(serving.schema_retries is 0)"
        message = f"{served:.1%} of the answers satisfy the schema {said}, below {params.min_valid:.1%}"
        fix = "train longer, on rows whose answers all satisfy the schema, or use constrained decoding"
        why = "Programs that read the answers fail on those that violate the schema."
        yield Finding(f"{message} ({_rows(broken)})", at=at, fix=fix, why=why)
    elif first < least_first:
        message = f"{first:.1%} of the answers satisfy the schema at the first attempt,"
        message += f" below {least_first:.1%}"
        fix = "train longer, on rows whose answers all satisfy the schema"
        why = "Each retry costs the time and the tokens of another answer."
        yield Finding(f"{message} ({_rows(broken)})", Severity.WARNING, at=at, fix=fix, why=why)
    if served < params.min_valid or first < least_first:
        for item, answer in broken:
            why = "; ".join(problems(answer.text, schema)[:3])
            yield Finding(f"row {item.at.row}: {why}", Severity.INFO, at=item.at, content=answer.text or None)


def _lengths(job: Job, pairs: Sequence[Pair]) -> Iterator[Measurement]:
    import numpy as np

    tokens = np.array([answer.tokens for _, answer in pairs if answer.tokens is not None], dtype=np.int64)
    if len(tokens):
        cap = job.serving.max_new_tokens
        limit = None if cap is None else f"<= {cap}"
        yield Measurement("tokens_p50", nearest_rank(tokens, 50), unit="tokens")
        yield Measurement("tokens_p99", nearest_rank(tokens, 99), unit="tokens", limit=limit)
        yield Measurement("tokens_max", int(tokens.max()), unit="tokens", limit=limit)


def _cut(
    job: Job, pairs: Sequence[Pair], cut: Sequence[Pair], cap: int, params: ValidOutput
) -> Iterator[Yield]:
    share = len(cut) / len(pairs)
    yield Measurement("cut_share", round(share, 4), limit=f"<= {params.max_cut_share:g}")
    if cut:
        severity = Severity.ERROR if share > params.max_cut_share else Severity.INFO
        do = agreeing(len(cut), "does", "do")
        message = f"{len(cut):,} of {counted(len(pairs), 'answer')} {do} not stop within {cap:,} tokens"
        fix = "check that the stop token is in the loss (trained-tokens); else raise serving.max_new_tokens"
        why = "Answers that do not stop are cut at the cap, and paid for by the token."
        at = job.at("serving.max_new_tokens")
        yield Finding(f"{message} ({_rows(cut)})", severity, at=at, fix=fix, why=why)


def _ends(job: Job, pairs: Sequence[Pair], cap: int) -> Iterator[Finding]:
    for wrong, said, fix, why in _WRONG:
        found = [pair for pair in pairs if wrong(pair[1], cap)]
        if found:
            total = counted(len(pairs), "answer")
            message = f"{len(found):,} of {total} {agreeing(len(found), *said)} ({_rows(found)})"
            yield Finding(message, at=job.at("serving"), fix=fix, why=why)


def _empty(answer: Generation, cap: int) -> bool:
    return not answer.text.strip() and not answer.calls


def _over(answer: Generation, cap: int) -> bool:
    return answer.tokens is not None and answer.tokens > cap


def _foreign(answer: Generation, cap: int) -> bool:
    return answer.finish == "template"


_WRONG: "tuple[tuple[Callable[[Generation, int], bool], tuple[str, str], str, str], ...]" = (
    (
        _empty,
        ("is empty", "are empty"),
        "check that the answers are in the loss (trained-tokens)",
        "The model has learned to answer with nothing.",
    ),
    (
        _over,
        ("is longer than the cap", "are longer than the cap"),
        "check why the server ignores max_tokens",
        "A server that ignores the cap bounds neither latency nor cost.",
    ),
    (
        _foreign,
        (
            "ends with a token that ends turns in the chat template only",
            "end with a token that ends turns in the chat template only",
        ),
        "add that token to eos_token_id in generation_config.json, or to serving.stop",
        "A server does not stop at that token, and generates up to the cap.",
    ),
)


def _rows(pairs: Sequence[Pair]) -> str:
    return rows_named([item for item, _ in pairs])
