"""Mask rules: is the loss mask of the trainer the intended one?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck import (
    Change,
    Finding,
    InputError,
    Job,
    Measurement,
    Prepared,
    Sample,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.collated import Collated
from ftcheck.inputs.prepared import SampleRow
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, Count
from ftcheck_rules.template.templates import other_prompt, row_switches, training_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOOKED_AT = 200
"""How many rows, evenly spread, are searched for markers."""
ASKED, ANSWERED = "ftcheckasked", "ftcheckanswered"
"""The contents of the built-in conversation, between which the template's own markers stand."""


@rule("collator", family="labels", cases="ftcheck_rules.labels.cases.loss_masks")
def collator(job: Job, collated: Collated | None) -> Iterator[Yield]:
    """The collator keeps the stop token in the loss and the padding out of it.

    transformers' collator for language modelling masks every id that equals the padding token: where padding
    is EOS, no answer's end is in the loss. The loss looks fine, and the model never stops.

    Two rows of different lengths go through the collator named by trainer.collator, and their labels are
    compared with those before. Padding with EOS is not an error in itself: TRL masks by position. Skipped
    where TRL's collator is used and TRL is not installed. No parameters.
    """
    if collated is None:
        yield Skip("trl is not installed on this machine, so its collator cannot be checked")
        return
    if collated.problem is None and not collated.rows:
        yield Skip("no row is left to train on")
        return
    place, name = job.at("trainer.collator"), NAMES[collated.collator]
    if collated.problem is not None:
        fix = "set a separate padding token in the tokenizer, or trainer.collator: trl"
        why = "The run ends at its first batch."
        yield Finding(f"{name} cannot build a batch: {collated.problem}", at=place, fix=fix, why=why)
        return
    if not collated.stops:
        yield Skip("no stop token of the two rows is in the loss: no label to keep (see trained-tokens)")
    yield Measurement("stops", collated.stops, unit="tokens")
    yield Measurement("stops_lost", collated.stops_lost, unit="tokens", limit="0")
    yield Measurement("pads_trained", collated.pads_trained, unit="tokens", limit="0")
    yield Measurement("masked_trained", collated.masked_trained, unit="tokens", limit="0")
    kept = collated.stops - collated.stops_lost
    keep = agreeing(collated.stops, "keeps its label", "keep their labels")
    yield Summary(f"{kept} of {counted(collated.stops, 'stop token')} {keep}")
    yield from _label_faults(job, collated, name)


NAMES = {
    "trl": "TRL's collator",
    "transformers": "transformers' DataCollatorForLanguageModeling",
}


def _label_faults(job: Job, collated: Collated, name: str) -> Iterator[Finding]:
    place = job.at("trainer.collator")
    if collated.stops_lost:
        lose = agreeing(collated.stops_lost, "loses its label", "lose their labels")
        yield Finding(
            f"{collated.stops_lost} of {counted(collated.stops, 'stop token')} in two rows {lose} in {name}:"
            " it masks every id that equals the padding token, and that is a stop token",
            at=place,
            fix="set a separate padding token (a reserved one), or use a collator that masks by position,"
            " such as TRL's",
        )
    if collated.pads_trained:
        are = agreeing(collated.pads_trained, "is", "are")
        yield Finding(
            f"{collated.pads_trained} of {counted(collated.pads, 'padding token')} {are} in the loss after"
            f" {name}",
            at=place,
            fix="use a collator that gives padding the label -100",
            why="The model is trained to write padding.",
        )
    if collated.masked_trained:
        are = agreeing(collated.masked_trained, "is", "are")
        yield Finding(
            f"{counted(collated.masked_trained, 'masked token')} of two rows {are} in the loss after {name}:"
            " it creates the labels from the ids again",
            Severity.WARNING,
            at=place,
            fix="use a collator that keeps labels (TRL's, or DataCollatorForSeq2Seq), or set"
            " completion_only_loss: false if all tokens should be trained",
            why="The mask of the prompts is lost: the model also learns to write the questions.",
        )


@dataclass(frozen=True)
class ResponseMarkers:
    """Parameters of `response-markers`."""

    min_share: float = 0.99
    """Share of the rows in which each marker must be found, 0 to 1."""


@rule(
    "response-markers",
    family="labels",
    cases="ftcheck_rules.labels.cases.loss_masks",
    only=("trainer.response_part", "trainer.instruction_part"),
)
def response_markers(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, params: ResponseMarkers
) -> Iterator[Yield]:
    """The markers by which a command masks the prompts occur in the rows, as tokens.

    Where the answer marker is not found, nothing of the row is in the loss; where the question marker is not
    found, everything after the first answer is. Both happen silently, or with one warning per row.

    Searches for the ids of trainer.response_part and trainer.instruction_part in up to 200 rows, evenly
    spread, as unsloth's train_on_responses_only does: for the exact ids of the marker, and with different
    whitespace around it (its force_match=False). Skipped where no marker is set. Parameter: min_share
    (default 0.99).
    """
    stated = {
        "response_part": job.trainer.response_part,
        "instruction_part": job.trainer.instruction_part,
    }
    if not any(stated.values()):
        yield Skip("trainer.response_part and trainer.instruction_part are not set")
        return
    chosen = _spread(prepared)
    if not chosen:
        yield Skip("no row is left to train on")
        return
    spans = {row: (start, stop) for row, start, stop in prepared.fed_spans(job.training).tolist()}
    rows = [_numbers(prepared.tokens.ids(row)[slice(*spans[row])].tolist()) for row in chosen]
    said = []
    for key, marker in stated.items():
        if marker:
            exact, loose = _found(tokenizer, marker, rows)
            yield Measurement(f"{key}_found", round(exact / len(rows), 6), limit=f">= {params.min_share:g}")
            said.append(f"{key} in {exact:,} of {counted(len(rows), 'row')}")
            if exact / len(rows) < params.min_share:
                yield _unfound(job, tokenizer, key, marker, rows, exact, loose, params)
    whole = int(prepared.used.sum())
    drawn = f", drawn from {whole:,}" if len(rows) < whole else ""
    yield Summary(", ".join(said) + drawn)


def _spread(prepared: Prepared) -> list[int]:
    used = prepared.used.nonzero()[0]
    step = max(1, -(-len(used) // LOOKED_AT))
    return [int(row) for row in used[::step]]


def _numbers(ids: Sequence[int]) -> str:
    """Ids as text in which a run of ids is a run of characters."""
    return "," + "".join(f"{one}," for one in ids)


def _found(tokenizer: Tokenizer, marker: str, rows: Sequence[str]) -> tuple[int, int]:
    """In how many rows the marker's exact ids occur, and in how many their core does."""
    exact, core = _numbers(tokenizer.encode(marker)), _numbers(_core(tokenizer, marker))
    loose = len(core) > 1
    return sum(exact in row for row in rows), sum(loose and core in row for row in rows)


def _core(tokenizer: Tokenizer, marker: str) -> list[int]:
    """The longest run of ids that the marker keeps whatever whitespace surrounds it."""
    words = marker.strip()
    if not words:
        return []
    variants = [
        tokenizer.encode("\n" * left + words + "\n" * right) for left in range(3) for right in range(3)
    ]
    first = min(variants, key=len)
    texts = [_numbers(ids) for ids in variants]
    for size in range(len(first), 0, -1):
        for start in range(len(first) - size + 1):
            run = first[start : start + size]
            if all(_numbers(run) in text for text in texts):
                return run
    return []


WHAT_FOLLOWS = {
    "response_part": "nothing of the other rows is in the loss",
    "instruction_part": "everything after the first answer is in the loss, including questions",
}


def _unfound(
    job: Job,
    tokenizer: Tokenizer,
    key: str,
    marker: str,
    rows: Sequence[str],
    exact: int,
    loose: int,
    params: ResponseMarkers,
) -> Finding:
    place, count = job.at(f"trainer.{key}"), len(rows)
    message = f"trainer.{key} occurs in {exact:,} of {counted(count, 'row')}: {WHAT_FOLLOWS[key]}"
    severity = Severity.ERROR
    if loose / count >= params.min_share:
        severity = Severity.WARNING
        message += f"; with different whitespace around it, it occurs in {loose:,}"
    written = _written(tokenizer, key)
    if written is None or _found(tokenizer, written, rows)[0] / count < params.min_share:
        part = "answer" if key == "response_part" else "question"
        fix = f"set it to the text before each {part} of the rows, up to and including the last line break"
        return Finding(message, severity, at=place, fix=fix)
    change = Change(f"jobs.{job.name}.trainer.{key}", marker, written, safe=False)
    fix = f"set trainer.{key} to what the template writes: {written!r}"
    return Finding(message, severity, at=place, fix=fix, change=change)


def _written(tokenizer: Tokenizer, key: str) -> str | None:
    """What the template writes before the answers (or questions) of a built-in conversation."""
    asked, answered = {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}
    try:
        text = training_text(tokenizer, [asked, answered, asked, answered])
    except InputError:
        return None
    before, after = (ASKED, ANSWERED) if key == "response_part" else (ANSWERED, ASKED)
    between = text.partition(before)[2].partition(after)[0]
    for stop in sorted(tokenizer.stop_ids):
        between = between.rpartition(tokenizer.show([stop]))[2]
    return between if between.strip() else None


@dataclass(frozen=True)
class PromptBoundary:
    """Parameters of `prompt-boundary`."""

    max_share: float = 0.01
    """Share of the rows whose prompt may have different tokens alone than with the answer, 0 to 1."""


@rule("prompt-boundary", family="labels", cases="ftcheck_rules.labels.cases.loss_masks")
def prompt_boundary(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, sample: Sample, params: PromptBoundary
) -> Iterator[Yield]:
    """Each row starts with the tokens of its prompt alone.

    Where the tokenizer merges across the boundary, the loss starts too early, within the prompt; and a server
    that sends the prompt alone sends tokens that no row has.

    Compares the ids of the prompt with those of prompt and completion, row by row, as TRL does to find the
    start of the completion; for whole conversations, those of the sample rows. Conversations whose prompt
    differs as text are left to `chat-template`. Skipped for plain text, and where the whole row is in the
    loss. Parameter: max_share (default 0.01).
    """
    if prepared.rows.textless is not None:
        yield Skip(prepared.rows.textless)
        return
    if prepared.rows.format not in ("prompt-completion", "alpaca"):
        yield from _of_conversations(tokenizer, sample, params)
        return
    if job.training.completion_only_loss is False:
        yield Skip("the whole row is in the loss (completion_only_loss: false)")
        return
    good = _good(prepared)
    count = int(good.sum())
    if not count:
        yield Skip("no row could be prepared")
        return
    off = good & (prepared.boundary > 0)
    rows, most = int(off.sum()), int(prepared.boundary.max())
    allowed = f"<= {int(params.max_share * count)}"
    yield Measurement("rows_off", rows, unit="rows", limit=allowed, statistic=Count(limit_of_drawn=True))
    yield Measurement("tokens_off", most, unit="tokens", statistic=AtLeast())
    yield Summary(_in_words(count - rows, count))
    if rows:
        yield _shifted(prepared, off, count, params, any(other_prompt(tokenizer, row) for row in sample.rows))


def _in_words(same: int, total: int) -> str:
    have = agreeing(total, "has", "have")
    return f"{same:,} of {counted(total, 'prompt')} {have} the same tokens alone as in the row"


def _good(prepared: Prepared) -> "NDArray[np.bool_]":
    import numpy as np

    good = np.ones(len(prepared), dtype=bool)
    good[list(prepared.row_errors)] = False
    return good


def _of_conversations(tokenizer: Tokenizer, sample: Sample, params: PromptBoundary) -> Iterator[Yield]:
    """Rows that are one conversation: the prompt before the last answer, rendered and tokenised alone."""
    rows = [row for row in sample.rows if 0 < row.prompt_turns < len(row.messages)]
    if not rows:
        yield Skip("no row has a prompt that is separate from its answer")
        return
    off = [row for row in rows if _is_off(tokenizer, row)]
    allowed = int(params.max_share * len(rows))
    yield Measurement("rows_off", len(off), unit="sample rows", limit=f"<= {allowed}")
    yield Summary(_in_words(len(rows) - len(off), len(rows)))
    if off:
        yield Finding(
            f"in {len(off):,} of {counted(len(rows), 'sample row')} the prompt alone has different tokens"
            " than in the row",
            Severity.INFO if len(off) <= allowed else Severity.WARNING,
            at=off[0].at,
            fix="end the template's generation prompt with a line break or a special token",
            why="A server that sends the prompt alone sends tokens that no training row has.",
        )


def _is_off(tokenizer: Tokenizer, row: SampleRow) -> bool:
    if other_prompt(tokenizer, row):
        return False
    try:
        text = training_text(tokenizer, row.messages[: row.prompt_turns], prompt=True, **row_switches(row))
    except InputError:
        return False
    ids = tokenizer.encode(text)
    return row.ids[: len(ids)] != tuple(ids)


def _shifted(
    prepared: Prepared, off: "NDArray[np.bool_]", count: int, params: PromptBoundary, said: bool
) -> Finding:
    """`said`: `chat-template` reports that the prompts of these rows differ as text."""
    rows = int(off.sum())
    few, most = int(prepared.boundary[off].min()), int(prepared.boundary[off].max())
    tokens = counted(most, "token") if few == most else f"{few} to {most} tokens"
    message = (
        f"in {rows:,} of {counted(count, 'row')} the prompt alone has different tokens than in the row:"
        f" its last {tokens} {agreeing(most, 'changes', 'change')}, and what replaces them is in the loss"
    )
    quiet = said or rows <= params.max_share * count
    fix = (
        "see the check `chat-template`"
        if said
        else "end the prompt with a line break or a special token, and start the completion with a word"
    )
    severity = Severity.INFO if quiet else Severity.WARNING
    return Finding(message, severity, at=prepared.at(int(off.argmax())), fix=fix)
