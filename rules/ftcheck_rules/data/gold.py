"""Gold set rules: are there enough questions to tell a good model from a lucky one?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from ftcheck import (
    Finding,
    GoldSet,
    Job,
    Measurement,
    Prepared,
    Severity,
    Skip,
    Summary,
    rule,
)
from ftcheck.dedup import fingerprints
from ftcheck.extension.rules import Yield
from ftcheck.inputs.evaluation import GoldItem
from ftcheck.plurals import agreeing, counted

Z = 1.96
"""Standard deviations of a 95 % interval."""
SUPPOSED = 0.9
"""The accuracy that intervals are computed for where targets.accuracy is not set."""
NO_EVAL = "no"
SHOWN_ROWS = 10
"""Rows that one finding names."""


@dataclass(frozen=True)
class Gold:
    """Parameters of `gold-set`."""

    min_items: int = 50
    """The fewest gold questions that are enough."""
    min_eval_rows: int = 30
    """The fewest rows of data.eval that are enough where they decide which checkpoint is kept."""
    max_duplicate_share: float = 0.02
    """Share of gold questions that may be duplicates of an earlier one."""


@rule("gold-set", family="data", cases="ftcheck_rules.data.cases.gold")
def gold_set(job: Job, gold: GoldSet | None, prepared_eval: Prepared | None, params: Gold) -> Iterator[Yield]:
    """The gold set and the evaluation rows are large enough for what they have to measure.

    With five questions, one lucky answer is worth 20 points: a worse model passes, a better one fails, and
    chance decides which checkpoint is kept.

    The interval is Wilson's at 95 %, at targets.accuracy (at 0.9 if that is not set). A target that even a
    perfect score could not confirm is `info`. Duplicate questions count once. Gold rows that cannot be used
    are an error. Evaluation rows matter where load_best_model_at_end keeps the best checkpoint by them.
    Parameters: min_items (default 50), min_eval_rows (default 30), max_duplicate_share (default 0.02).
    """
    chooses = _chooses(job)
    if gold is None and (prepared_eval is None or not chooses):
        yield Skip("data.gold is not set, and data.eval does not decide which checkpoint is kept")
        return
    if gold is not None:
        yield from _gold(job, gold, params)
    if prepared_eval is not None and chooses:
        yield from _evaluation(job, prepared_eval, params)


def _chooses(job: Job) -> bool:
    """Whether evaluation during training decides which checkpoint is kept."""
    best = bool(job.training.extra.get("load_best_model_at_end")) or job.training.save_strategy == "best"
    return job.training.eval_strategy != NO_EVAL and best


def _gold(job: Job, gold: GoldSet, params: Gold) -> Iterator[Yield]:
    items = gold.items
    asked = [fingerprints.fingerprint(fingerprints.whole(item.messages)) for item in items]
    repeated = [item for number, item in enumerate(items) if asked[number] in asked[:number]]
    count = len(items) - len(repeated)
    target = job.targets.accuracy
    low, high = wilson(SUPPOSED if target is None else target, count)
    yield Measurement("gold_items", len(items), unit="items", limit=f">= {params.min_items}")
    yield Measurement("gold_duplicates", len(repeated), unit="items", limit="0")
    yield Measurement("interval_low", round(low, 4))
    yield Measurement("interval_high", round(high, 4))
    shown = SUPPOSED if target is None else target
    said = counted(count, "gold question")
    yield Summary(f"{said}: the 95 % interval of a {shown:.0%} score is {low:.1%} to {high:.1%}")
    yield from unusable(gold)
    if count < params.min_items:
        yield _few(job, count, params)
    elif target is not None and target < 1 and wilson(1.0, count)[0] < target:
        message = (
            f"{counted(count, 'gold question')} cannot confirm targets.accuracy {target:g}: even if every"
            f" answer is right, the 95 % interval starts at {wilson(1.0, count)[0]:.1%}"
        )
        fix = f"use at least {counted(_needed(target), 'gold question')}"
        yield Finding(message, Severity.INFO, at=job.at("data.gold"), fix=fix)
    if repeated:
        share = len(repeated) / len(items)
        severity = Severity.WARNING if share > params.max_duplicate_share else Severity.INFO
        are = agreeing(len(repeated), "is a duplicate", "are duplicates")
        message = f"{len(repeated):,} of {len(items):,} gold questions {are} of an earlier one"
        yield Finding(
            message,
            severity,
            at=repeated[0].at,
            fix="remove the duplicates",
            why="A question that is asked twice counts twice in every score.",
        )


def _few(job: Job, count: int, params: Gold) -> Finding:
    supposed = SUPPOSED if job.targets.accuracy is None else job.targets.accuracy
    low, high = wilson(supposed, count)
    message = (
        f"{counted(count, 'gold question')} {agreeing(count, 'is', 'are')} too few to measure"
        f" {supposed:.0%}: the 95 % interval of such a score is {low:.0%} to {high:.0%}"
    )
    return Finding(
        message,
        Severity.WARNING,
        at=job.at("data.gold"),
        fix=f"use at least {max(params.min_items, _needed(job.targets.accuracy)):,} gold questions",
    )


def _evaluation(job: Job, tests: Prepared, params: Gold) -> Iterator[Yield]:
    rows = int(tests.used.sum())
    yield Measurement("eval_rows", rows, unit="rows", limit=f">= {params.min_eval_rows}")
    if rows < params.min_eval_rows:
        message = (
            f"{counted(rows, 'evaluation row')} {agreeing(rows, 'decides', 'decide')} which checkpoint is"
            f" kept; at least {params.min_eval_rows} are needed"
        )
        fix = f"use at least {params.min_eval_rows} rows in data.eval, or keep the last checkpoint"
        why = "With so few rows, chance decides which checkpoint is kept."
        yield Finding(message, Severity.WARNING, at=job.at("data.eval"), fix=fix, why=why)


def unusable(gold: GoldSet) -> Iterator[Finding]:
    """Gold rows that cannot be used: left out silently, they would make the rest look complete."""
    if gold.row_errors:
        at, first = gold.row_errors[0]
        count, total = len(gold.row_errors), len(gold.row_errors) + len(gold.items)
        message = f"{count:,} of {total:,} gold rows cannot be used; the first: {first.message}"
        fix = first.fix or "fix these rows, or name their keys under data.gold"
        why = "A score over the other rows alone looks complete."
        yield Finding(message, at=at, fix=fix, why=why, content=first.content)


def rows_named(items: Sequence[GoldItem]) -> str:
    """`rows 3, 17 and 5 more`: gold questions by their numbers, so that no content is shown."""
    named = ", ".join(str(item.at.row) for item in items[:SHOWN_ROWS])
    more = len(items) - SHOWN_ROWS
    return f"{agreeing(len(items), 'row', 'rows')} {named}" + (f" and {more:,} more" if more > 0 else "")


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share that was observed in `count` trials."""
    if count == 0:
        return 0.0, 1.0
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z * sqrt(share * (1 - share) / count + Z * Z / (4 * count * count)) / (1 + Z * Z / count)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _needed(target: float | None) -> int:
    """The fewest questions for which a perfect score would confirm the target."""
    if target is None or not 0 < target < 1:
        return 0
    return ceil(Z * Z * target / (1 - target))
