"""Texts of serving.stop that occur inside answers: the server would end those answers there."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftcheck import Finding, GoldSet, Job, Location, Measurement, Prepared, Sample, Severity, Tokenizer
from ftcheck.extension.rules import Yield
from ftcheck.plurals import agreeing, counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_ROWS = 20_000
"""Training rows whose answers are searched, evenly spread."""


def inside_answers(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, sample: Sample, gold: GoldSet | None
) -> Iterator[Yield]:
    """A finding for each stop text that stands inside a gold or training answer; nothing without any."""
    stops = [one for one in job.serving.stop if one]
    if not stops:
        return
    items = [(item.answer, item.at) for item in gold.items] if gold is not None else []
    rows, searched, total = _answers(tokenizer, prepared, sample)
    yield Measurement("answers_searched_for_stop", len(items) + len(rows), unit="answers")
    for stop in stops:
        for what, texts, looked_at, all_of_them in (
            ("gold answer", items, len(items), len(items)),
            ("training row", rows, searched, total),
        ):
            cut = [at for text, at in texts if _inside(stop, text)]
            if cut:
                yield _finding(job, stop, what, cut, looked_at, all_of_them)


def _inside(stop: str, text: str) -> bool:
    """Whether the stop stands in the text with more than whitespace after it."""
    return bool(text.partition(stop)[2].strip())


def _answers(
    tokenizer: Tokenizer, prepared: Prepared, sample: Sample
) -> tuple[list[tuple[str, Location]], int, int]:
    """The answers of training rows, each a text with its place; how many rows they are of, and of all."""
    if not prepared.masked:
        found = [
            (turn["content"], row.at)
            for row in sample.rows
            for turn in row.messages
            if turn["role"] == "assistant" and isinstance(turn.get("content"), str)
        ]
        return found, len(sample.rows), sample.total
    used = prepared.used.nonzero()[0]
    step = max(1, -(-len(used) // MOST_ROWS))
    chosen = [int(row) for row in used[::step]]
    texts = [
        (tokenizer.plain(part.tolist()), prepared.at(row)) for row in chosen for part in _runs(prepared, row)
    ]
    return texts, len(chosen), len(used)


def _runs(prepared: Prepared, row: int) -> "list[NDArray[np.int32]]":
    """The ids of a row's answers: its runs of tokens in the loss."""
    import numpy as np

    ids, places = prepared.tokens.ids(row), prepared.tokens.mask(row).nonzero()[0]
    return [ids[run] for run in np.split(places, (np.diff(places) > 1).nonzero()[0] + 1) if len(run)]


def _finding(job: Job, stop: str, what: str, cut: list[Location], searched: int, total: int) -> Finding:
    count = len({(at.path, at.line) for at in cut})
    answers = counted(searched, what) + (f" searched, {total:,} in all," if searched < total else "")
    contain = agreeing(count, "contains", "contain")
    return Finding(
        f"serving.stop {stop!r} occurs inside answers: {count:,} of {answers} {contain} it, first {cut[0]}",
        Severity.ERROR if what == "gold answer" or count > 0.01 * searched else Severity.WARNING,
        at=job.at("serving.stop"),
        fix="remove it from serving.stop: the trained stop token ends the answers",
        why="The server ends the answer at that text, in the middle.",
    )
