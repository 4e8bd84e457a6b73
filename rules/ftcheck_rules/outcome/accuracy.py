"""Accuracy rules: are enough answers to the gold questions right, and more than before?"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftcheck import (
    Finding,
    GoldSet,
    Job,
    Measurement,
    OutputSchema,
    Prepared,
    Severity,
    Skip,
    Stage,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.baseline import Baseline
from ftcheck.inputs.evaluation import GoldItem
from ftcheck.inputs.finished_run import (
    Generation,
    Generations,
    RunArtifacts,
    untrained,
)
from ftcheck.plurals import agreeing, counted
from ftcheck_rules.data.gold import rows_named, unusable, wilson
from ftcheck_rules.data.leakage import Leakage, leaked_questions
from ftcheck_rules.outcome.matching import (
    WHOLE,
    Compared,
    Kind,
    Matching,
    Unusable,
    calls_compared,
    compared,
    kind_of,
)

SHOWN_FIELDS = 5
"""How many fields are named, the worst first; up to `MAX_FIELDS` are measured."""
MAX_FIELDS = 40
SHOWN_PAIRS = 3
WORD = re.compile(r"\w+")
MOST = 1_000_000
"""The largest number of rows that is proposed."""


@dataclass(frozen=True)
class Accuracy(Matching):
    """Parameters of `accuracy`."""

    min_rows: int = 50
    """The fewest gold rows that are enough to measure accuracy."""
    margin: float = 0.05
    """How far the lower end of the 95 % interval may be below targets.accuracy; 0 requires it at or above."""
    max_leaked_share: float = 0.05
    """Share of gold rows that may also be training rows; these are not counted, more are an error."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One gold question with its answer, and whether it is right."""

    item: GoldItem
    answer: Generation
    told: Compared


@rule("accuracy", family="outcome", cases="ftcheck_rules.outcome.cases.accuracy", stage=Stage.AFTER)
def accuracy(
    job: Job,
    run_artifacts: RunArtifacts | None,
    gold: GoldSet | None,
    generations: Generations | None,
    output_schema: OutputSchema | None,
    prepared: Prepared,
    tokenizer: Tokenizer,
    params: Accuracy,
) -> Iterator[Yield]:
    """Enough gold questions are answered correctly to confirm targets.accuracy.

    A falling loss shows that the rows were learned, not that the answers are right; and 19 of 20 is not 95 %:
    the same model may get 15 of the next 20.

    The trained model answers every gold question greedily, in the serving template with
    serving.system_prompt, up to serving.max_new_tokens; serving.endpoint is asked instead where it is set.
    First answers count, without retries; a question without an answer counts as wrong. An expected call is
    right with the same function and the same arguments, keys and parallel calls in any order; calls are read
    as serving.tool_parser reads them, or as the chat template writes them. An error: a share of
    right answers below targets.accuracy; fewer rows than min_rows; or a lower end of Wilson's 95 % interval
    more than margin below the target. Questions that are training rows are not counted, and are an error
    where they exceed max_leaked_share. Parameters: match (default auto), pattern, fields, tolerance,
    ignore_case, min_rows (default 50), margin (default 0.05), max_leaked_share (default 0.05).
    """
    if run_artifacts is None or gold is None or not (gold.items or gold.row_errors):
        yield Skip(
            untrained(job)
            if run_artifacts is None
            else "there are no gold questions: data.gold is not set, or empty"
        )
        return
    yield from unusable(gold)
    if generations is None:
        return
    if generations.problem is not None:
        yield _unanswered(job, generations)
        return
    leaked = {leak.at.row for leak in leaked_questions(prepared, tokenizer, gold, Leakage())}
    judged, wrong_kind = _judged(gold, generations, output_schema, params)
    yield from wrong_kind
    unseen = [one for one in judged if one.item.at.row not in leaked]
    yield from _leaked(job, len(leaked), len(gold.items), params)
    yield from _measured(job, unseen, output_schema, params)
    yield Measurement("leaked_rows", len(leaked), unit="rows", limit="0")


def _unanswered(job: Job, generations: Generations) -> Yield:
    if generations.source == "nobody":
        return Skip(generations.problem or "no question was answered")
    key = "serving.endpoint" if generations.source == "serving.endpoint" else "model.name"
    fix = (
        "start the server, and set serving.endpoint to its URL with /v1"
        if key == "serving.endpoint"
        else None
    )
    why = "Without answers, nothing shows that the model has learned anything."
    return Finding(generations.problem or "no question was answered", at=job.at(key), fix=fix, why=why)


def _judged(
    gold: GoldSet, generations: Generations, schema: OutputSchema | None, params: Matching
) -> tuple[list[Judged], list[Finding]]:
    """Every question with its answer; and a finding for expected answers that cannot be compared."""
    kind = kind_of(params, gold, schema)
    judged, unusable = [], []
    for item, answer in zip(gold.items, generations.items, strict=True):
        try:
            judged.append(Judged(item, answer, _told(kind, params, gold, item, answer)))
        except Unusable as error:
            unusable.append((item, error))
    if not unusable:
        return judged, []
    item, why = unusable[0]
    message = f"{counted(len(unusable), 'expected answer')} cannot be compared"
    message += f": the first {why}" if item.calls else f" with match: {kind}; the first {why}"
    fix = "set the check's parameter match to another value, or fix these rows"
    if item.calls:
        fix = "set serving.tool_parser to the parser that the server reads calls with"
    return judged, [Finding(message, at=item.at, fix=fix)]


def _told(kind: Kind, params: Matching, gold: GoldSet, item: GoldItem, answer: Generation) -> Compared:
    if item.calls:
        told = calls_compared(gold.call_format, item, answer)
    else:
        told = compared(kind, params, item, answer.text)
    return told if answer.trouble is None else Compared(False, answer.trouble)


def _leaked(job: Job, leaked: int, total: int, params: Accuracy) -> Iterator[Finding]:
    if leaked:
        much = leaked > params.max_leaked_share * total
        are = agreeing(leaked, "is in the training rows and is", "are in the training rows and are")
        message = f"{leaked:,} of {counted(total, 'gold question')} {are} not counted"
        severity = Severity.ERROR if much else Severity.INFO
        fix = "remove the rows from the training data, or the questions from the gold set"
        why = "The model has memorised these answers: they say nothing about new questions."
        yield Finding(message, severity, at=job.at("data.gold"), fix=fix, why=why)


def _measured(
    job: Job, judged: Sequence[Judged], schema: OutputSchema | None, params: Accuracy
) -> Iterator[Yield]:
    count, target = len(judged), job.targets.accuracy
    right = sum(one.told.right for one in judged)
    share = right / count if count else 0.0
    low, high = wilson(share, count)
    limit = None if target is None else f">= {target:g}"
    yield Measurement("accuracy", round(share, 4), limit=limit)
    yield Measurement("accuracy_low", round(low, 4), limit=_least(target, params))
    yield Measurement("accuracy_high", round(high, 4))
    yield Measurement("n", count, unit="rows", limit=f">= {params.min_rows}")
    yield Measurement("unanswered", sum(one.answer.trouble is not None for one in judged), unit="rows")
    yield Measurement("unread", sum(one.told.unread is not None for one in judged), unit="rows")
    fields = _by_field(judged)
    for name in list(fields)[:MAX_FIELDS]:
        yield Measurement(f"accuracy.{name}", round(fields[name], 4))
    total = counted(count, "answer")
    yield Summary(f"{right:,} of {total} right: {share:.1%} (95 % interval {low:.1%} to {high:.1%})")
    yield from _silent(job, judged)
    missed = _missed(job, right, count, params)
    if missed is not None:
        yield missed
        yield from _worst_fields(job, judged, fields, schema)
        yield from _mistaken(job, judged, params)
        yield from _wrong_rows(judged)


def _least(target: float | None, params: Accuracy) -> str | None:
    return None if target is None else f">= {max(target - params.margin, 0):g}"


def _by_field(judged: Sequence[Judged]) -> dict[str, float]:
    """The accuracy of each field of an expected JSON object, the worst first."""
    seen: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for one in judged:
        seen.update(list(one.told.fields))
        right.update(name for name, good in one.told.fields.items() if good)
    shares = {name: right[name] / seen[name] for name in seen}
    return dict(sorted(shares.items(), key=lambda pair: (pair[1], pair[0])))


def _silent(job: Job, judged: Sequence[Judged]) -> Iterator[Finding]:
    """Questions that got no answer."""
    why = Counter(one.answer.trouble for one in judged if one.answer.trouble is not None)
    if why:
        reasons = "; ".join(f"{said}: {count:,}" for said, count in why.most_common(3))
        message = f"{why.total():,} of {counted(len(judged), 'question')} got no answer ({reasons})"
        message += ", and count as wrong" if why.total() > 1 else ", and counts as wrong"
        fix = "check the server's log; a slow server needs fewer concurrent requests, or more replicas"
        yield Finding(
            message, at=job.at("serving.endpoint"), fix=fix, why="The accuracy is not the model's own."
        )


def _missed(job: Job, right: int, count: int, params: Accuracy) -> Finding | None:
    """Why the accuracy does not pass; None if it does."""
    target, at = job.targets.accuracy, job.at("targets.accuracy")
    if not count:
        fix = "use gold questions that are not in the training rows"
        return Finding("no gold question is left to count", at=job.at("data.gold"), fix=fix)
    share = right / count
    low, _ = wilson(share, count)
    if target is None:
        message = f"targets.accuracy is not set: {share:.1%} cannot be judged"
        return Finding(message, Severity.WARNING, at=job.at("targets"), fix="set targets.accuracy")
    are = agreeing(right, "is", "are")
    said = f"{right:,} of {counted(count, 'gold answer')} {are} right, {share:.1%}"
    if share < target:
        short = -(-round(target * count * 1_000_000) // 1_000_000) - right
        more = f"{max(short, 1):,} more would reach it"
        fix = "see the fields and rows below; train on more rows of their kind, or longer"
        why = "The model gives more wrong answers than the target allows."
        return Finding(f"{said}, below targets.accuracy {target:g} ({more})", at=at, fix=fix, why=why)
    fix, why = _have(share, target, params), "With so few rows the result may be luck."
    if count < params.min_rows:
        message = f"{said}, but {counted(count, 'row')} {agreeing(count, 'is', 'are')} fewer than min_rows"
        message += f" {params.min_rows:,}"
        return Finding(message, at=job.at("data.gold"), fix=fix, why=why)
    if low < target - params.margin:
        message = (
            f"{said}, but the 95 % interval starts at {low:.1%}, below targets.accuracy {target:g} less the"
            f" margin {params.margin:g}"
        )
        return Finding(message, at=job.at("data.gold"), fix=fix, why=why)
    return None


def _have(share: float, target: float, params: Accuracy) -> str:
    rows = needed(share, target - params.margin)
    if rows is None:
        return "raise the accuracy, or the margin: at this share no number of rows confirms the target"
    needed_rows = counted(max(rows, params.min_rows), "gold row")
    return f"use at least {needed_rows}: at the same share of right answers they would confirm the target"


def needed(share: float, least: float) -> int | None:
    """The fewest rows of which `share` right puts the interval's lower end at `least`; None if none do."""
    if share <= least or wilson(share, MOST)[0] < least:
        return None
    low, high = 0, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wilson(share, middle)[0] >= least else (middle, high)
    return high


def _worst_fields(
    job: Job, judged: Sequence[Judged], fields: Mapping[str, float], schema: OutputSchema | None
) -> Iterator[Finding]:
    """The worst fields. Values are shown where the policy's schema lists them: any other may be content."""
    for name in [one for one, share in fields.items() if share < 1][:SHOWN_FIELDS]:
        wrong = [one for one in judged if not one.told.fields.get(name, True)]
        total = counted(len(judged), "answer")
        message = f"field '{name}' is wrong in {len(wrong):,} of {total} ({_rows(wrong)})"
        listed = _listed(schema, name)
        pairs = [one.told.confused[name] for one in wrong if name in one.told.confused]
        said = _said([pair for pair in pairs if all(value in listed for value in pair)])
        yield Finding(message + said, Severity.INFO, at=job.at("data.gold"))


def _listed(schema: OutputSchema | None, name: str) -> list[Any]:
    """The values that the schema lists for a field."""
    known = schema.schema.get("properties") if schema is not None else None
    about = known.get(name) if isinstance(known, Mapping) else None
    listed = about.get("enum") if isinstance(about, Mapping) else None
    return listed if isinstance(listed, list) else []


def _mistaken(job: Job, judged: Sequence[Judged], params: Accuracy) -> Iterator[Finding]:
    """Confused verdicts, where the pattern itself names both."""
    named = set(WORD.findall(params.pattern or ""))
    pairs = [one.told.confused[WHOLE] for one in judged if WHOLE in one.told.confused]
    known = [pair for pair in pairs if named.issuperset(pair)]
    if known:
        yield Finding(f"confused values{_said(known)}", Severity.INFO, at=job.at("data.gold"))


def _said(pairs: Sequence[tuple[Any, Any]]) -> str:
    """The most frequent mistakes: `: 12 times 'normal' instead of 'high'`."""
    counts = Counter((str(given), str(wanted)) for wanted, given in pairs).most_common(SHOWN_PAIRS)
    told = [f"{counted(count, 'time')} '{given}' instead of '{wanted}'" for (given, wanted), count in counts]
    return f": {', '.join(told)}" if told else ""


def _rows(judged: Sequence[Judged]) -> str:
    return rows_named([one.item for one in judged])


def _wrong_rows(judged: Sequence[Judged]) -> Iterator[Finding]:
    """Each wrong answer at its gold row; what was answered only where --show-content asks for it."""
    for one in judged:
        if not one.told.right:
            said = f"row {one.item.at.row}: {_wrong(one.told)}"
            yield Finding(said, Severity.INFO, at=one.item.at, content=one.answer.text or None)


def _wrong(told: Compared) -> str:
    fields = [name for name, good in told.fields.items() if not good]
    if told.unread is not None:
        return told.unread
    return f"wrong fields: {', '.join(fields[:SHOWN_FIELDS])}" if fields else "not the expected answer"


# --- against the base model and the run before -------------------------------------------------------------


@dataclass(frozen=True)
class Regression(Matching):
    """Parameters of `regression`."""

    min_gain: float = 0.0
    """How much more accurate the trained model must be than the base model, as a share of the gold rows."""
    max_drop: float = 0.02
    """How much less accurate it may be than the run of `baseline`, as a share of the gold rows."""


@rule("regression", family="outcome", cases="ftcheck_rules.outcome.cases.accuracy", stage=Stage.AFTER)
def regression(
    job: Job,
    run_artifacts: RunArtifacts | None,
    gold: GoldSet | None,
    generations: Generations | None,
    base_generations: Generations | None,
    baseline: Baseline | None,
    output_schema: OutputSchema | None,
    params: Regression,
) -> Iterator[Yield]:
    """The trained model answers more gold questions correctly than its base, and hardly fewer than before.

    A run that made the model worse, or changed nothing, costs as much as a good one and looks the same; and a
    new adapter that replaces a better one is a regression that nobody asked for.

    Base and trained model answer the same questions in the same way. It is an error if the gain is below
    min_gain, a warning if there is none. Where the policy sets `baseline`, the JSON report of an earlier
    run's stage after, an accuracy lower than there by more than max_drop is an error; a baseline with other
    gold questions is not compared, which is a warning. Parameters: min_gain (default 0), max_drop (default
    0.02), and how answers are compared, as for accuracy: match, pattern, fields, tolerance, ignore_case.
    """
    if run_artifacts is None or gold is None or generations is None:
        yield Skip(untrained(job) if run_artifacts is None else "there are no gold questions")
        return
    if generations.problem is not None:
        yield Skip(generations.problem)
        return
    tuned, _ = _judged(gold, generations, output_schema, params)
    if not tuned:
        yield Skip("no expected answer can be compared")
        return
    share = _share(tuned)
    yield Measurement("accuracy", round(share, 4))
    said = []
    if base_generations is not None and base_generations.problem is None:
        base, _ = _judged(gold, base_generations, output_schema, params)
        yield from _against_base(job, tuned, base, params)
        said.append(f"base {_share(base):.1%}")
    if baseline is not None:
        yield from _against_earlier(job, share, baseline, params)
        said.append(f"before {baseline.accuracy:.1%}" if baseline.accuracy is not None else "before unknown")
    if not said:
        why = base_generations.problem if base_generations is not None else None
        yield Skip(f"{why or 'the base model was not evaluated'}, and baseline is not set")
        return
    yield Summary(f"{' · '.join(said)} · now {share:.1%}")


def _share(judged: Sequence[Judged]) -> float:
    return sum(one.told.right for one in judged) / len(judged)


def _against_base(
    job: Job, tuned: Sequence[Judged], base: Sequence[Judged], params: Regression
) -> Iterator[Yield]:
    before, gain = _share(base), _share(tuned) - _share(base)
    lost = [new for new, old in zip(tuned, base, strict=True) if old.told.right and not new.told.right]
    yield Measurement("base_accuracy", round(before, 4))
    yield Measurement("gain", round(gain, 4), limit=f">= {params.min_gain:g}")
    yield Measurement("lost", len(lost), unit="rows")
    if gain < params.min_gain or gain <= 0:
        severity = Severity.ERROR if gain < params.min_gain else Severity.WARNING
        message = f"{_share(tuned):.1%} of the answers are right after training, {before:.1%} with the base"
        message += " model alone"
        fix = (
            "see loss-convergence and adapter-loads: check that the adapter is trained, and is the right one"
        )
        why = "The training made the model worse, or changed nothing."
        yield Finding(message, severity, at=job.at("targets.accuracy"), fix=fix, why=why)
    if lost:
        count = counted(len(lost), "question")
        message = f"{count} that the base model answers right {agreeing(len(lost), 'is', 'are')} wrong now"
        yield Finding(f"{message} ({_rows(lost)})", Severity.INFO, at=job.at("data.gold"))


def _against_earlier(job: Job, share: float, baseline: Baseline, params: Regression) -> Iterator[Yield]:
    at, earlier = job.at("baseline"), baseline.accuracy
    if earlier is None or not baseline.same_gold:
        why = "contains no accuracy of this job" if earlier is None else "is based on other gold questions"
        message = f"the baseline {baseline.path} {why}, so it cannot be compared"
        fix = "run the checks of stage after for that run again"
        yield Finding(message, Severity.WARNING, at=at, fix=fix)
        return
    yield Measurement("earlier_accuracy", earlier)
    yield Measurement("drop", round(earlier - share, 4), limit=f"<= {params.max_drop:g}")
    if earlier - share > params.max_drop:
        message = f"{share:.1%} of the answers are right, in the baseline it was {earlier:.1%}"
        why = "The new adapter would replace a better one."
        yield Finding(message, at=at, fix="keep the earlier adapter, or find out what changed", why=why)
