"""How long the rows are, where their trained tokens stand, and which `max_length` follows from it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ftcheck.inputs.prepared import Prepared
from ftcheck.packing.lengths import Histogram, TrainedPositions
from ftcheck.planning.records import Cost, Lengths, Outlier, Recommended
from ftcheck.settings import Job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 64
"""Recommended lengths are multiples of this."""
MIN_KEPT = 0.99
"""Share of the trained tokens that a recommended length keeps."""
LOOKED_AT = 200_000
"""Of more rows with masks than this, so many are drawn to tell where their trained tokens stand."""
SHOWN = 5
"""So many of the longest rows are named."""


def lengths(prepared: Prepared, job: Job, percentile: float = 95.0) -> Lengths:
    """The lengths of the rows, by the columns of the preparation; masks are read, rows are not.

    `percentile` is what max_length must hold (0 to 100). Raises `ValueError` where there is no row.
    """
    rows = measured(prepared)
    total = Histogram.of(row_lengths(prepared, rows))
    prompt, completion = _parts(prepared, rows)
    at_end = keeps_end(job)
    trained = positions(prepared, rows, from_end=at_end)
    unpacked = recommended(job, total, trained, percentile)
    packed = for_packing(job, total, unpacked)
    wanted = {job.training.max_length, unpacked.length, unpacked.needed, packed.length}
    known = sorted(length for length in wanted if length)
    costs = tuple(cost(prepared, rows, length, from_end=at_end) for length in known)
    return Lengths(
        total=total,
        prompt=prompt,
        completion=completion,
        trained=trained,
        percentile=percentile,
        packed=packed,
        unpacked=unpacked,
        costs=costs,
        outliers=tuple(_longest(prepared, rows)),
    )


def measured(prepared: Prepared) -> "NDArray[np.int64]":
    """The rows that are measured, by index: fed ones, and those that truncation alone keeps from it."""
    import numpy as np

    cut: NDArray[np.bool_] = ~prepared.used & (prepared.trained_lost > 0) & ~prepared.outlier
    cut[list(prepared.row_errors)] = False
    return (prepared.used | cut).nonzero()[0]


def row_lengths(prepared: Prepared, rows: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """Tokens of every sequence before truncation and after outliers (a chunked row has several)."""
    import numpy as np

    unfed = rows[~prepared.used[rows]]
    return np.concatenate([prepared.lengths(), prepared.length[unfed].astype(np.int64)])


def _parts(prepared: Prepared, rows: "NDArray[np.int64]") -> tuple[Histogram | None, Histogram | None]:
    """Prompt (all before the last answer) and completion (the last stretch in the loss)."""
    if not prepared.masked:
        return None, None
    answers = prepared.answer[rows]
    return Histogram.of(prepared.length[rows] - answers), Histogram.of(answers)


def keeps_end(job: Job) -> bool:
    """Whether truncation takes tokens off the beginning: not where TRL packs."""
    return job.training.truncation_mode == "keep_end" and not job.training.packing


def positions(prepared: Prepared, rows: "NDArray[np.int64]", *, from_end: bool = False) -> TrainedPositions:
    """Where the trained tokens of these rows stand, by their masks; of very many rows, of a drawn part.

    Counted from the end of the row that truncation leaves (`from_end`: keep_end).
    """
    import numpy as np

    trained = (prepared.trained[rows] + prepared.trained_lost[rows]).astype(np.int64)
    if not prepared.masked:
        lengths = Histogram.of(prepared.length[rows])
        longer = lengths.sequences - np.cumsum(lengths.counts)
        return TrainedPositions(longer[: lengths.longest].astype(np.int64), lengths.tokens)
    drawn = rows
    if len(rows) > LOOKED_AT:
        drawn = np.sort(np.random.default_rng(0).choice(rows, LOOKED_AT, replace=False))
    longest = int(prepared.length[rows].max(initial=0))
    counts = np.zeros(longest, dtype=np.int64)
    for row in drawn.tolist():
        mask = prepared.tokens.mask(row)
        counts[: len(mask)] += mask[::-1] if from_end else mask
    total = int(trained.sum())
    if len(drawn) == len(rows):
        return TrainedPositions(counts, total)
    scaled = np.round(counts * (total / max(1, int(counts.sum())))).astype(np.int64)
    return TrainedPositions(scaled, total, exact=False)


def cost(prepared: Prepared, rows: "NDArray[np.int64]", length: int, *, from_end: bool = False) -> Cost:
    """What dropping, truncating or chunking the rows above `length` tokens would cost in trained tokens."""
    trained = prepared.trained[rows].astype("int64") + prepared.trained_lost[rows]
    over = rows[prepared.length[rows] > length]
    dropped = int((prepared.trained[over].astype("int64") + prepared.trained_lost[over]).sum())
    part = slice(-length, None) if from_end else slice(length)
    kept = [int(prepared.tokens.mask(row)[part].sum()) for row in over.tolist()]
    pieces = -(-prepared.length[over].astype("int64") // length)
    return Cost(
        length=length,
        rows=len(over),
        dropped=dropped,
        truncated=dropped - sum(kept),
        untrained=sum(1 for one in kept if not one),
        pieces=int(pieces.sum()) if prepared.rows.format == "text" else None,
        trained=int(trained.sum()),
    )


def recommended(job: Job, total: Histogram, trained: TrainedPositions, percentile: float) -> Recommended:
    """The smallest multiple of 64, within targets.max_length, that keeps 99 % of the trained tokens and
    holds the percentile of the lengths.
    """
    if not total.sequences:
        raise ValueError("there are no rows to measure")
    held = total.percentile(percentile)
    needed = next(length for length in _multiples(total.longest) if _keeps(length, held, trained))
    said = f"p{percentile:g} {held:,} and {100 * MIN_KEPT:.0f} % of the trained tokens"
    stated = job.training.max_length
    if job.targets.max_length is None:
        return Recommended(needed, needed, f"the smallest multiple of {STEP} that holds {said}", stated)
    low, high = job.targets.max_length
    if needed > high and not _keeps(high, held, trained):
        return Recommended(
            None, needed, f"no length up to {high:,} holds {said}; {needed:,} would be enough", stated
        )
    length = min(max(needed, low), high)
    why = f"the smallest within targets.max_length that holds {said}"
    enough = why if length == needed else f"{why}; {needed:,} would be enough"
    return Recommended(length, needed, enough, stated)


def _keeps(length: int, held: int, trained: TrainedPositions) -> bool:
    return length >= held and trained.kept(length) >= MIN_KEPT


def _multiples(longest: int) -> Iterable[int]:
    return range(STEP, max(STEP, -(-longest // STEP) * STEP) + 1, STEP)


def for_packing(job: Job, total: Histogram, unpacked: Recommended) -> Recommended:
    """The block length: the stated one where it holds what must be held, else the recommended one.

    With packing a longer block costs no padding, so there is no reason to go below the stated length.
    """
    stated, least = job.training.max_length, unpacked.needed
    if stated is not None and stated >= least and _in_range(job, stated):
        return Recommended(stated, least, "blocks of this length hold the longest rows", stated)
    return Recommended(unpacked.length, least, unpacked.why, stated)


def _in_range(job: Job, length: int) -> bool:
    target = job.targets.max_length
    return target is None or target[0] <= length <= target[1]


def _longest(prepared: Prepared, rows: "NDArray[np.int64]") -> Iterator[Outlier]:
    """The longest rows, the longest first; rows of one length in data order."""
    import numpy as np

    order = np.argsort(-prepared.length[rows].astype(np.int64), kind="stable")[:SHOWN]
    for row in rows[order].tolist():
        lost = int(prepared.trained_lost[row])
        yield Outlier(prepared.at(row), int(prepared.length[row]), int(prepared.trained[row]) + lost, lost)
