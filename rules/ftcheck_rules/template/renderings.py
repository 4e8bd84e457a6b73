"""Conversations that parity rules render for several sides: the built-in ones, and those of sample rows."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ftcheck import GoldSet, InputError, Inputs, Job, Location, Sample, ServingSide, Tokenizer
from ftcheck.inputs import thinking
from ftcheck.inputs.prepared import SampleRow
from ftcheck.inputs.probe_texts import CONVERSATIONS, Pair
from ftcheck.inputs.tokenizer import Message
from ftcheck_rules.template.templates import row_switches, training_text

SEEN = 0.1
"""A mode of thinking that this share of the rows has is one that the model is trained in."""
TOKEN_BUDGET = 200_000
"""Sample rows are compared up to this many tokens, the shortest first: a few seconds at most."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation to compare: a built-in one, or a sample row's."""

    messages: Sequence[Message]
    prompt: Sequence[Message]
    switches: Mapping[str, Any]
    probe: str | None = None
    at: Location | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, or why it could not be rendered."""

    text: str | None
    problem: str = ""


def talks(sample: Sample) -> list[Talk]:
    """Built-in conversations and the rows' own; none for plain text, which no template renders."""
    if sample.total and not sample.rows:
        return []
    built_in = [Talk(one.messages, one.prompt, {}, probe=one.name) for one in CONVERSATIONS]
    rows = [
        Talk(row.messages, row.messages[: row.prompt_turns], row_switches(row), at=row.at)
        for row in _within_budget(sample)
    ]
    return [*built_in, *rows]


def _within_budget(sample: Sample) -> list[SampleRow]:
    """The shortest sample rows, as many as the budget allows, in data order; at least one."""
    shortest = sorted(sample.rows, key=lambda row: len(row.ids))
    spent = list(accumulate(len(row.ids) for row in shortest))
    chosen = shortest[: max(1, bisect_right(spent, TOKEN_BUDGET))]
    return sorted(chosen, key=lambda row: row.index)


def prompt_as_trained(tokenizer: Tokenizer, talk: Talk) -> Rendered:
    """A talk's prompt as training renders it.

    Where TRL swaps in a template of its own, rows are rendered with that, as training does, and the
    built-in conversations with the template that the job names.
    """
    try:
        if talk.probe is not None:
            return Rendered(tokenizer.render(talk.prompt, prompt=True, **talk.switches))
        return Rendered(training_text(tokenizer, talk.prompt, prompt=True, **talk.switches))
    except InputError as error:
        return Rendered(None, str(error))


def whole_as_trained(tokenizer: Tokenizer, talk: Talk) -> str | None:
    """A talk with its answer as training renders it; None where the template refuses it."""
    try:
        if talk.probe is not None:
            return tokenizer.render(talk.messages, **talk.switches)
        return training_text(tokenizer, talk.messages, **talk.switches)
    except InputError:
        return None


def prompt_as_sent(side: ServingSide, talk: Talk) -> Rendered:
    """A talk's prompt as a server (or evaluation) renders it: its own switches, the row's tools."""
    tools = {key: value for key, value in talk.switches.items() if key == "tools"}
    try:
        return Rendered(side.tokenizer.render(talk.prompt, prompt=True, **{**tools, **side.switches}))
    except InputError as error:
        return Rendered(None, str(error))


def other_words(
    tokenizer: Tokenizer, side: ServingSide, found: Sequence[Talk], who: str = "serving"
) -> Iterator[Pair]:
    """Each prompt as training and as another side renders it; equal where the text is the same.

    A prompt that is the beginning of the row itself (an empty thinking block that the template puts into
    rows too) counts as the same; so does one that differs in a thinking block alone, where a tenth of the
    rows begin with such a block. Only different texts are tokenised. Nothing where neither side can render.
    """
    sides = [(talk, prompt_as_trained(tokenizer, talk), prompt_as_sent(side, talk)) for talk in found]
    begins = [_begins(tokenizer, talk, ours, theirs) for talk, ours, theirs in sides]
    trained = _trained_modes(sides, begins)
    for (talk, ours, theirs), is_start in zip(sides, begins, strict=True):
        if ours.text is not None and theirs.text is not None:
            if is_start or (thinking.block_at_end(theirs.text) in trained and _but_thinking(ours, theirs)):
                yield Pair(probe=talk.probe, at=talk.at)
            else:
                ids, others = tokenizer.encode(ours.text), side.tokenizer.encode(theirs.text)
                yield Pair(ids, others, talk.probe, talk.at)
        elif ours.text is not None:
            yield Pair(probe=talk.probe, at=talk.at, problem=_failed(who, theirs))
        elif theirs.text is not None:
            yield Pair(probe=talk.probe, at=talk.at, problem=_failed("training", ours))


def _begins(tokenizer: Tokenizer, talk: Talk, ours: Rendered, theirs: Rendered) -> bool:
    """Whether a prompt is the one of training, or the beginning of the row as it is trained."""
    if ours.text is None or theirs.text is None:
        return False
    if ours.text == theirs.text:
        return True
    opened = theirs.text.startswith(ours.text) or _but_thinking(ours, theirs)
    return opened and (whole_as_trained(tokenizer, talk) or "").startswith(theirs.text)


def _but_thinking(ours: Rendered, theirs: Rendered) -> bool:
    return thinking.without(ours.text or "") == thinking.without(theirs.text or "")


def _trained_modes(
    sides: Sequence[tuple[Talk, Rendered, Rendered]], begins: Sequence[bool]
) -> frozenset[str | None]:
    """The thinking blocks that prompts end in and that a tenth of the rows begin with."""
    rows = [
        (thinking.block_at_end(theirs.text), is_start)
        for (talk, _, theirs), is_start in zip(sides, begins, strict=True)
        if talk.probe is None and theirs.text is not None
    ]
    kinds = {kind for kind, is_start in rows if kind is not None and is_start}
    return frozenset(kind for kind in kinds if sum(one == (kind, True) for one in rows) >= SEEN * len(rows))


def _failed(who: str, rendered: Rendered) -> str:
    return f"{who} cannot render it; the template's own message: {rendered.problem}"


def gold_set(job: Job, inputs: Inputs) -> GoldSet:
    """The gold set; an empty one where none is set or it cannot be read (other rules report that)."""
    empty = GoldSet(path="", items=())
    if job.data.gold is None:
        return empty
    try:
        found: GoldSet | None = inputs.get("gold")
    except InputError:
        return empty
    return found or empty
