"""Serving rules: is the output cap long enough for the answers, and do the answers match their schema?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import (
    Change,
    Finding,
    GoldSet,
    Job,
    Measurement,
    OutputSchema,
    Prepared,
    Rows,
    Severity,
    Skip,
    Summary,
    rule,
    tables,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.output_schema import problems
from ftcheck.packing.lengths import nearest_rank
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, Count, NotOfRows, Quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 8
"""Proposed caps are multiples of this."""
GENEROUS = 8
"""A cap above this multiple of the longest answer is worth a remark."""
PROBES: tuple[Any, ...] = ({}, [], "", 0, None)
"""A schema that accepts all of these accepts anything."""

"""How many rows of a kind are remembered."""

NOTHING_SAID = "the policy has no `serving` section, so nothing is known of the server"
"""Why a check that needs one is skipped."""

Lengths = Mapping[str, "NDArray[np.int64]"]


@dataclass(frozen=True)
class OutputCap:
    """Parameters of `output-cap`."""

    percentile: float = 99.0
    """The nearest-rank percentile of the answers' lengths that the cap must hold, above 0 and up to 100."""
    headroom_tokens: int = 0
    """Tokens that must be left between that percentile and the cap."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a percentile outside its range."""
        if not 0 < self.percentile <= 100:
            raise ValueError("percentile must be above 0 and at most 100")


@rule("output-cap", family="serving", cases="ftcheck_rules.serving.cases.serving")
def output_cap(job: Job, gold: GoldSet | None, prepared: Prepared, params: OutputCap) -> Iterator[Yield]:
    """serving.max_new_tokens holds the answers with their stop token, and lies within the targets.

    A cap that is too low cuts answers in the middle: JSON is invalid, a verdict is missing, and evaluation
    counts right answers as wrong. Without a cap the server's default applies (16 tokens in some), or the
    model rambles to the end of its context window.

    Measured on the gold answers, and on the training answers where the loss is on answers alone; in tokens
    with the stop token, as nearest-rank percentiles. Above the percentile, a gold answer that is cut is a
    warning, and a training answer `info`. evaluation.max_new_tokens, where it is set, is compared
    with the gold answers. Skipped where the policy has neither that nor a `serving` section. Parameters:
    percentile (default 99), headroom_tokens (default 0).
    """
    cap, answers = job.serving.max_new_tokens, _answers(gold, prepared)
    need = _needed(answers, params)
    yield from _answer_lengths(answers, params, cap)
    if not job.serves:
        yield from _in_evaluation_alone(job, answers, params)
        return
    yield Measurement(
        "cap", cap, unit="tokens", limit=_range(job.targets.max_new_tokens), statistic=NotOfRows()
    )
    if cap is None:
        yield _no_cap(job, need)
    else:
        for what, lengths in answers.items():
            yield from _cut(job, what, lengths, params, need)
        yield from _off_target(job, cap, need)
        yield from _generous(job, cap, answers)
    yield from _cut_in_evaluation(job, answers, params)
    if answers:
        what, lengths = max(answers.items(), key=lambda one: nearest_rank(one[1], 99))
        shown = f"{what} p99 {nearest_rank(lengths, 99):,} · max {int(lengths.max()):,} tokens"
        yield Summary(f"{shown} (max_new_tokens {'is not set' if cap is None else cap})")
    else:
        yield Skip("there are no gold answers, and the loss is not on answers alone: no lengths to compare")


def _in_evaluation_alone(job: Job, answers: Lengths, params: OutputCap) -> Iterator[Yield]:
    """The cap of evaluation, where nothing is said of a server."""
    evaluated = list(_cut_in_evaluation(job, answers, params))
    yield from evaluated
    if evaluated:
        shown = f"gold max {int(answers['gold'].max()):,} tokens"
        yield Summary(f"{shown} (evaluation.max_new_tokens {evaluated[0].value})")  # type: ignore[union-attr]
    else:
        yield Skip(NOTHING_SAID)


def _answers(gold: GoldSet | None, prepared: Prepared) -> dict[str, "NDArray[np.int64]"]:
    """Lengths of answers with their stop token, by source."""
    import numpy as np

    found: dict[str, NDArray[np.int64]] = {}
    if gold is not None and gold.items:
        found["gold"] = np.array([item.answer_tokens for item in gold.items], dtype=np.int64)
    trained = answered(prepared)
    if trained.any():
        found["training"] = prepared.answer[trained].astype(np.int64)
    return found


def answered(prepared: Prepared) -> "NDArray[np.bool_]":
    """Rows with a prompt and an answer that the loss separates."""
    mask: NDArray[np.bool_] = (prepared.answer > 0) & (prepared.answer < prepared.length)
    mask[list(prepared.row_errors)] = False
    return mask if prepared.masked else mask & False


def _answer_lengths(answers: Lengths, params: OutputCap, cap: int | None) -> Iterator[Measurement]:
    limit = f"<= {cap - params.headroom_tokens}" if cap is not None else None
    gold = NotOfRows()
    for what, prefix in (("gold", "gold"), ("training", "answers")):
        lengths = answers.get(what)
        if lengths is None:
            continue
        for one in sorted({99.0, params.percentile}):
            bound = limit if one == params.percentile else None
            rank, of_rows = nearest_rank(lengths, one), Quantile(lengths, one) if what == "training" else gold
            yield Measurement(f"{prefix}_p{one:g}", rank, unit="tokens", limit=bound, statistic=of_rows)
        longest = AtLeast() if what == "training" else gold
        yield Measurement(f"{prefix}_max", int(lengths.max()), unit="tokens", statistic=longest)


def _needed(answers: Lengths, params: OutputCap) -> int | None:
    """The cap that holds the longest gold answer and the percentile of the training answers."""
    longest = [int(answers["gold"].max())] if "gold" in answers else []
    usual = [nearest_rank(lengths, params.percentile) for lengths in answers.values()]
    return max(longest + usual) + params.headroom_tokens if usual else None


def _proposed(job: Job, need: int | None) -> int | None:
    """A cap that holds what is needed and meets the target; None where there is none."""
    if need is None:
        return None
    low, high = job.targets.max_new_tokens or (need, need + STEP)
    wanted = min(max(-(-need // STEP) * STEP, low), high)
    return wanted if wanted >= need else None


def _change(job: Job, new: int | None) -> Change | None:
    old = job.serving.max_new_tokens
    return None if new is None else Change(f"jobs.{job.name}.serving.max_new_tokens", old, new)


def _remedy(job: Job, need: int | None) -> str:
    new = _proposed(job, need)
    if new is not None:
        old = job.serving.max_new_tokens
        return f"max_new_tokens: {new}" if old is None else f"max_new_tokens: {old} -> {new}"
    if need is None:
        return "set serving.max_new_tokens; a gold set shows how much is needed"
    return f"shorten the answers, or raise targets.max_new_tokens: {need:,} tokens are needed"


def _no_cap(job: Job, need: int | None) -> Finding:
    change = _change(job, _proposed(job, need))
    at = job.at("serving.max_new_tokens")
    default = tables.load("serving_engines")["output_defaults"].get(job.serving.engine or "")
    message = "serving.max_new_tokens is not set" + (f": {default}" if default else "")
    why = "The server's own default cuts answers, or the model rambles to the end of its context window."
    return Finding(message, at=at, fix=_remedy(job, need), change=change, why=why)


def _cut_in_evaluation(job: Job, answers: Lengths, params: OutputCap) -> Iterator[Yield]:
    """Gold answers that evaluation stops before their end, though the server would not."""
    cap, lengths = job.evaluation.max_new_tokens if job.evaluation is not None else None, answers.get("gold")
    if cap is None or lengths is None:
        return
    yield Measurement("evaluation_cap", cap, unit="tokens")
    value, over = nearest_rank(lengths, params.percentile), int((lengths > cap).sum())
    if value <= cap:
        return
    enough = max(-(-int(lengths.max()) // STEP) * STEP, job.serving.max_new_tokens or 0)
    yield Finding(
        f"p{params.percentile:g} of the gold answers is {value:,} tokens, evaluation.max_new_tokens is {cap}:"
        f" {over:,} of {counted(len(lengths), 'answer')} {agreeing(over, 'is', 'are')} cut",
        at=job.at("evaluation.max_new_tokens"),
        fix=f"evaluation.max_new_tokens: {cap} -> {enough}",
        change=Change(f"jobs.{job.name}.evaluation.max_new_tokens", cap, enough),
        why="Right answers count as wrong, although the server would return them in full.",
    )


def _cut(
    job: Job, what: str, lengths: "NDArray[np.int64]", params: OutputCap, need: int | None
) -> Iterator[Finding]:
    cap = job.serving.max_new_tokens or 0
    value, longest = nearest_rank(lengths, params.percentile), int(lengths.max())
    place, change = job.at("serving.max_new_tokens"), _change(job, _proposed(job, need))
    over = int((lengths > cap).sum())
    answers = counted(len(lengths), f"{what} answer")
    longer = agreeing(over, "is longer and would be cut", "are longer and would be cut")
    cut = f"{over:,} of {answers} {longer}" if over else "none is cut"
    if value + params.headroom_tokens > cap:
        room = f" (headroom_tokens {params.headroom_tokens})" if params.headroom_tokens else ""
        message = (
            f"p{params.percentile:g} of the {what} answers is {value:,} tokens{room},"
            f" max_new_tokens is {cap}: {cut}"
        )
        yield Finding(message, at=place, fix=_remedy(job, need), change=change)
    elif over:
        message = f"max_new_tokens is {cap}: {cut}; the longest has {counted(longest, 'token')}"
        fixable = change if change is not None and change.new >= longest else None
        fix = f"set max_new_tokens to {longest} to cut none"
        severity = Severity.WARNING if what == "gold" else Severity.INFO
        yield Finding(message, severity, at=place, fix=fix, change=fixable)


def _off_target(job: Job, cap: int, need: int | None) -> Iterator[Finding]:
    low, high = job.targets.max_new_tokens or (cap, cap)
    if low <= cap <= high:
        return
    nearest = min(max(cap, low), high)
    new = nearest if need is None or nearest >= need else _proposed(job, need)
    yield Finding(
        f"max_new_tokens {cap} is outside targets.max_new_tokens, {low} to {high}",
        at=job.at("serving.max_new_tokens"),
        fix=f"max_new_tokens: {cap} -> {new}" if new is not None else _remedy(job, need),
        change=_change(job, new),
        why="Latency and cost grow with the longest answers that the cap allows."
        if cap > high
        else "Answers may be cut that the targets allow for.",
    )


def _generous(job: Job, cap: int, answers: Lengths) -> Iterator[Finding]:
    longest = max((int(lengths.max()) for lengths in answers.values()), default=None)
    if longest is not None and cap > GENEROUS * longest:
        message = (
            f"max_new_tokens {cap} is {cap // longest} times the longest answer ({counted(longest, 'token')})"
        )
        fix = "lower max_new_tokens: it ends a rambling answer sooner, and bounds the latency"
        yield Finding(message, Severity.INFO, at=job.at("serving.max_new_tokens"), fix=fix)


def _range(target: tuple[int, int] | None) -> str | None:
    return None if target is None else f"{target[0]} to {target[1]}"


@rule("output-schema", family="serving", cases="ftcheck_rules.serving.cases.serving")
def output_schema(
    job: Job, output_schema: OutputSchema | None, gold: GoldSet | None, rows: Rows
) -> Iterator[Yield]:
    """Every gold answer satisfies the output schema, and training answers in JSON are complete.

    A gold answer that violates the schema would be rejected by the guardrail: evaluation asks for something
    that serving does not return. Without a system prompt nothing tells the model which form is expected.

    An answer that is a text must be JSON. Training answers are not compared with the schema; where most rows
    end in a JSON answer, one that starts like JSON but is not valid is a warning. No parameters.
    """
    whole, broken_rows = (rows.remarks.get(code, ()) for code in ("json-answer", "broken-json"))
    if output_schema is None and not _in_json(whole, broken_rows, rows):
        yield Skip("serving.output_schema is not set")
        return
    if _in_json(whole, broken_rows, rows):
        yield Measurement("training_json_broken", len(broken_rows), unit="rows", limit="0", statistic=Count())
        yield from _broken_answers(broken_rows, rows)
    if output_schema is None:
        are = agreeing(len(broken_rows), "is", "are")
        yield Summary(f"{counted(len(broken_rows), 'training answer')} {are} invalid JSON")
        return
    items = [item for item in gold.items if not item.calls] if gold is not None else []
    broken = [(item, wrong) for item in items if (wrong := problems(item.expected, output_schema))]
    right, of_gold = len(items) - len(broken), NotOfRows()
    yield Measurement("gold_items", len(items), unit="items", statistic=of_gold)
    yield Measurement("gold_valid", right, unit="items", limit=str(len(items)), statistic=of_gold)
    for item, wrong in broken:
        message = f"this gold answer violates the schema: {'; '.join(wrong[:3])}"
        yield Finding(message, at=item.at, fix="fix the answer, or the schema", content=f"id: {item.id}")
    if not any(output_schema.errors(probe) for probe in PROBES):
        message = f"the schema {output_schema.path} accepts any value"
        fix = "set type, properties and required in the schema"
        why = "A schema that accepts everything checks nothing."
        yield Finding(message, Severity.WARNING, at=job.at("serving.output_schema"), fix=fix, why=why)
    if job.serving.system_prompt is None and not _instructed(rows):
        yield Finding(
            "serving.output_schema is set, but neither serving nor training has a system prompt that asks for"
            " this form",
            Severity.ERROR if job.states("serving.system_prompt") else Severity.INFO,
            at=job.at("serving.system_prompt"),
            fix="describe the form of the answer in a strict system prompt, in training and in serving",
            why="Nothing tells the model which form is expected.",
        )
    if not items:
        yield Skip("there are no gold answers to compare with the schema")
    satisfy = agreeing(len(items), "satisfies", "satisfy")
    valid = f"{len(items) - len(broken):,} of {counted(len(items), 'gold answer')} {satisfy} the schema"
    also = agreeing(len(broken_rows), "is", "are")
    told = f"; {counted(len(broken_rows), 'training answer')} {also} invalid JSON"
    yield Summary(valid + (told if broken_rows and _in_json(whole, broken_rows, rows) else ""))


def _in_json(whole: Sequence[int], broken: Sequence[int], rows: Rows) -> bool:
    """Whether the training data answers in JSON: most rows do, and what starts like JSON mostly is."""
    return len(whole) > 9 * len(broken) and len(whole) >= len(rows) // 2 and len(whole) > 0


def _broken_answers(broken: Sequence[int], rows: Rows) -> Iterator[Finding]:
    message = "the answer starts like JSON, but is not valid JSON"
    fix, why = "fix the answer, or remove the row", "The model learns to write JSON that breaks off."
    for row in broken:
        yield Finding(message, Severity.WARNING, at=rows.at(row), fix=fix, why=why)


def _instructed(rows: Rows) -> bool:
    """Whether any training row has a system prompt."""
    return bool((rows.system >= 0).any())
