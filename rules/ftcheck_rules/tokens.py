"""Token rules: do all sides of a job turn the same words into the same ids?"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ftcheck import (
    Finding,
    GoldSet,
    InputError,
    Inputs,
    Job,
    Location,
    Measurement,
    Sample,
    ServingSide,
    Severity,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.inputs import Message, SampleRow
from ftcheck.offers import Yield
from ftcheck_rules.probes import CONVERSATIONS, PROBES, Pair, counts, first_difference
from ftcheck_rules.templates import row_switches, training_text

FILE_ENGINES = frozenset({"tgi", "llama.cpp", "ollama"})
"""Engines that go by tokenizer.json (or what they make of it), not by transformers' class."""

TOKEN_BUDGET = 200_000
"""Sample rows are compared up to so many tokens, the shortest first: a few seconds at most."""

Encode = Callable[[str], Sequence[int] | None]


@dataclass(frozen=True, slots=True)
class _Talk:
    """A conversation to compare: a built-in one, or a sample row's."""

    messages: Sequence[Message]
    prompt: Sequence[Message]
    switches: Mapping[str, Any]
    probe: str | None = None
    at: Location | None = None


@rule("tokenizer-parity")
def tokenizer_parity(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, sample: Sample, inputs: Inputs
) -> Iterator[Yield]:
    """Training, serving and the gold set turn the same conversation into the same token ids.

    The tuned model sees a prompt at serving that it never saw in training: it answers like the model it
    was before, and no error says so. Most often the server has another template or another tokenizer.

    64 built-in texts, some conversations and the sample rows' prompts are rendered and tokenised on each
    side. What transformers makes of the files is also held against what tokenizer.json says by itself,
    on whole rows: a warning, or an error where the server goes by that file. Long sample rows are left out
    once 200,000 tokens are compared. No parameters.
    """
    talks = _talks(sample)
    encode = _served_ids(job, tokenizer, serving)
    file = [*_plain(tokenizer.encode, tokenizer.reference), *_whole(tokenizer, talks)]
    served = [*_plain(tokenizer.encode, encode), *_prompts(tokenizer, serving, encode, talks)]
    gold = list(_gold(job, tokenizer, inputs)) if talks else []
    yield from _measured(talks, file, served, gold)
    yield from _serving_differs(job, tokenizer, serving, served)
    yield from _gold_differs(job, tokenizer, serving, gold)
    yield from _file_differs(job, tokenizer, serving, file)
    if talks and job.data.gold is not None and not gold:
        message = "the gold set was not compared: it does not open, or holds nothing"
        yield Finding(message, Severity.INFO, at=job.at("data.gold"))


def _measured(
    talks: Sequence[_Talk], file: Sequence[Pair], served: Sequence[Pair], gold: Sequence[Pair]
) -> Iterator[Measurement | Summary]:
    """A probe or a row is different if any side has other ids than training."""
    probes = len(PROBES) + sum(talk.probe is not None for talk in talks)
    rows = sum(talk.probe is None for talk in talks)
    unequal = [pair for pair in (*file, *served) if pair.differs]
    yield Measurement("probes", probes, unit="probes")
    yield Measurement("rows_compared", rows, unit="rows")
    yield Measurement("probes_different", len({p.probe for p in unequal if p.probe}), "probes", limit="0")
    yield Measurement("rows_different", len({p.at for p in unequal if p.at}), "rows", limit="0")
    yield Measurement("served_rows_different", sum(p.differs and p.at is not None for p in served), "rows")
    if gold:
        yield Measurement("gold_different", sum(pair.differs for pair in gold), "questions", limit="0")
    sides = "train = gold = serve" if gold else "train = serve"
    equal = not unequal and not any(pair.differs for pair in gold)
    yield Summary(f"{sides if equal else 'not the same ids everywhere'}, {probes} probes, {rows:,} rows")


def _talks(sample: Sample) -> list[_Talk]:
    """Built-in conversations and the rows' own; none for plain text, which no template renders."""
    if sample.total and not sample.rows:
        return []
    built_in = [_Talk(one.messages, one.prompt, {}, probe=one.name) for one in CONVERSATIONS]
    rows = [
        _Talk(row.messages, row.messages[: row.prompt_turns], row_switches(row), at=row.at)
        for row in _within_budget(sample)
    ]
    return [*built_in, *rows]


def _within_budget(sample: Sample) -> list[SampleRow]:
    """The shortest sample rows, as many as the budget allows, in data order; at least one."""
    shortest = sorted(sample.rows, key=lambda row: len(row.ids))
    spent = list(accumulate(len(row.ids) for row in shortest))
    chosen = shortest[: max(1, bisect_right(spent, TOKEN_BUDGET))]
    return sorted(chosen, key=lambda row: row.index)


def _plain(encode: Encode, other: Encode) -> Iterator[Pair]:
    """The built-in texts on two sides; nothing where the other side has no ids to give."""
    for probe in PROBES:
        ids, others = encode(probe.text), other(probe.text)
        if ids is not None and others is not None:
            yield Pair(ids, others, probe=probe.name)


def _whole(tokenizer: Tokenizer, talks: Sequence[_Talk]) -> Iterator[Pair]:
    """Whole conversations as training renders them: transformers' ids, and those of tokenizer.json."""
    for talk in talks:
        try:
            text = training_text(tokenizer, talk.messages, **talk.switches)
        except InputError:
            continue
        others = tokenizer.reference(text)
        if others is not None:
            yield Pair(tokenizer.encode(text), others, talk.probe, talk.at)


def _served_ids(job: Job, tokenizer: Tokenizer, serving: ServingSide) -> Encode:
    """How the server tokenises: by tokenizer.json alone where its engine does, if it has files of its own."""
    side = serving.tokenizer

    def by_file(text: str) -> Sequence[int]:
        found = side.reference(text)
        return side.encode(text) if found is None else found

    return by_file if job.serving.engine in FILE_ENGINES and side is not tokenizer else side.encode


def _prompts(
    tokenizer: Tokenizer, serving: ServingSide, encode: Encode, talks: Sequence[_Talk]
) -> Iterator[Pair]:
    """Each prompt as training renders it, and as the server will: its own switches, the row's tools.

    Where TRL swaps in a template of its own, rows are rendered with that, as training does, and the
    built-in conversations with the template that the job names.
    """
    for talk in talks:
        ours = _rendered(_as_sent if talk.probe else training_text, tokenizer, talk.prompt, talk.switches)
        tools = {key: value for key, value in talk.switches.items() if key == "tools"}
        theirs = _rendered(_as_sent, serving.tokenizer, talk.prompt, {**tools, **serving.switches})
        if ours.text is not None and theirs.text is not None:
            same = ours.text == theirs.text
            equal = same and serving.tokenizer is tokenizer
            ids, others = ((), ()) if equal else (tokenizer.encode(ours.text), encode(theirs.text) or ())
            yield Pair(ids, others, talk.probe, talk.at, same_text=same)
        elif ours.text is not None:
            problem = f"serving cannot render it: {theirs.problem}"
            yield Pair(probe=talk.probe, at=talk.at, same_text=False, problem=problem)
        elif theirs.text is not None:
            problem = f"training cannot render it: {ours.problem}"
            yield Pair(probe=talk.probe, at=talk.at, same_text=False, problem=problem)


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A conversation as text, or why it could not be rendered."""

    text: str | None
    problem: str = ""


def _rendered(
    render: Callable[..., str], tokenizer: Tokenizer, messages: Sequence[Message], switches: Mapping[str, Any]
) -> _Rendered:
    try:
        return _Rendered(render(tokenizer, messages, prompt=True, **switches))
    except InputError as error:
        return _Rendered(None, str(error))


def _as_sent(tokenizer: Tokenizer, messages: Sequence[Message], **switches: Any) -> str:
    return tokenizer.render(messages, **switches)


def _gold(job: Job, tokenizer: Tokenizer, inputs: Inputs) -> Iterator[Pair]:
    """The gold set's prompts: as training renders them, and as the gold set holds them."""
    for item in _gold_set(job, inputs).items:
        ours = _rendered(training_text, tokenizer, item.messages, {})
        if ours.text is None:
            yield Pair(at=item.at, same_text=False, problem=ours.problem)
        else:
            ids = tokenizer.encode(ours.text)
            yield Pair(ids, item.prompt_ids, at=item.at, same_text=ours.text == item.prompt)


def _gold_set(job: Job, inputs: Inputs) -> GoldSet:
    """The gold set; an empty one where the job names none or it does not open (`gold-set` says why)."""
    empty = GoldSet(path="", items=())
    if job.data.gold is None:
        return empty
    try:
        found: GoldSet | None = inputs.get("gold")
    except InputError:
        return empty
    return found or empty


def _serving_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    """One finding for other words (a template), one for other ids of the same words (a tokenizer)."""
    words = "serving renders prompts otherwise than training"
    ids = "serving turns the same words into other ids than training"
    for same_text, what, fix in (
        (False, words, _template_remedy(tokenizer, serving)),
        (True, ids, f"serve the tokenizer that training has: {tokenizer.path}"),
    ):
        found = [pair for pair in pairs if not pair.differs or pair.same_text == same_text]
        if any(pair.differs for pair in found):
            shown = first_difference(found, "serve", tokenizer, serving.tokenizer)
            place = _place(job, serving, tokenizer_first=same_text)
            yield Finding(f"{what} on {counts(found)}; {shown}", at=place, fix=fix)


def _template_remedy(tokenizer: Tokenizer, serving: ServingSide) -> str:
    if serving.tokenizer is tokenizer and tokenizer.training_template != tokenizer.chat_template:
        return (
            "training applies TRL's own version of the template, which has markers: name that version in"
            " model.chat_template, so that it is saved and served too"
        )
    return (
        "serve with the training template: it is saved beside the adapter as chat_template.jinja;"
        " send the switches (chat_template_kwargs) that training has"
    )


def _place(job: Job, serving: ServingSide, *, tokenizer_first: bool) -> Location:
    """The serving setting that most likely makes the difference."""
    stated = {
        "chat_template": job.serving.chat_template is not None,
        "chat_template_kwargs": bool(serving.switches),
        "tokenizer": job.serving.tokenizer is not None,
    }
    order = sorted(stated, reverse=tokenizer_first)
    return job.at("serving." + next((key for key in order if stated[key]), order[0]))


def _gold_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    if any(pair.differs for pair in pairs):
        shown = first_difference(pairs, "gold", tokenizer, serving.tokenizer)
        count = sum(pair.differs for pair in pairs)
        yield Finding(
            f"{count} of {len(pairs)} gold prompts have other ids than training gives them; {shown}",
            at=job.at("data.gold"),
            fix="ask the gold questions as training renders them: same template, tokenizer and switches",
        )


def _file_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    if not any(pair.differs for pair in pairs):
        return
    by_file = job.serving.engine in FILE_ENGINES and serving.tokenizer is tokenizer
    who = f" ({job.serving.engine} goes by tokenizer.json)" if by_file else ""
    shown = first_difference(pairs, "json", tokenizer, tokenizer)
    key = "model.tokenizer" if job.model.tokenizer else "model.name"
    what = f"transformers ({tokenizer.class_name}) gives other ids than tokenizer.json"
    yield Finding(
        f"{what} on {counts(pairs)}{who}; {shown}",
        Severity.ERROR if by_file else Severity.WARNING,
        at=job.at("serving.engine" if by_file else key),
        fix="put the model's config.json beside the tokenizer files if it is missing: without it transformers"
        " takes another class; else serve the tokenizer that training saves, whose tokenizer.json agrees",
    )
