"""Token rules: do all sides of a job turn the same words into the same ids?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from ftcheck.inputs import Message
from ftcheck.offers import Yield
from ftcheck_rules.probes import CONVERSATIONS, PROBES
from ftcheck_rules.templates import row_switches, training_text

FILE_ENGINES = frozenset({"tgi", "llama.cpp", "ollama"})
"""Engines that go by tokenizer.json (or what they make of it), not by transformers' class."""
SHOWN = 5
"""So many tokens are shown from the first difference on."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """One text on two sides: its ids there. `probe` names a built-in text, `at` a row.

    `same_text` is false where the two sides rendered other words; `problem` says why one could not.
    """

    ids: Sequence[int] = ()
    other: Sequence[int] = ()
    probe: str | None = None
    at: Location | None = None
    same_text: bool = True
    problem: str | None = None

    @property
    def differs(self) -> bool:
        return self.problem is not None or tuple(self.ids) != tuple(self.other)


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

    64 built-in texts, built-in conversations and the sample rows' prompts are rendered and tokenised on
    each side. What transformers makes of the files is also held against what tokenizer.json says by
    itself, on whole rows: a warning, or an error where the server goes by that file. No parameters.
    """
    talks = _talks(sample)
    file = [*_plain(tokenizer.encode, tokenizer.reference), *_whole(tokenizer, talks)]
    served = [
        *_plain(tokenizer.encode, _served_ids(job, tokenizer, serving)),
        *_prompts(job, tokenizer, serving, talks),
    ]
    gold = list(_gold(job, tokenizer, inputs)) if talks else []
    probes = len(PROBES) + sum(talk.probe is not None for talk in talks)
    rows = sum(talk.probe is None for talk in talks)
    unequal = [pair for pair in (*file, *served) if pair.differs]
    yield Measurement("probes", probes, unit="probes")
    yield Measurement("rows_compared", rows, unit="rows")
    yield Measurement(
        "probes_different", len({p.probe for p in unequal if p.probe}), unit="probes", limit="0"
    )
    yield Measurement("rows_different", len({p.at for p in unequal if p.at}), unit="rows", limit="0")
    yield Measurement(
        "rows_different_in_serving", sum(p.differs and p.at is not None for p in served), unit="rows"
    )
    if gold:
        yield Measurement("gold_different", sum(pair.differs for pair in gold), unit="answers", limit="0")
    yield Summary(f"{'other ids somewhere' if unequal else _equal(gold)}, {probes} probes, {rows:,} rows")
    yield from _serving_differs(job, tokenizer, serving, served)
    yield from _gold_differs(job, gold)
    yield from _file_differs(job, tokenizer, serving, file)
    yield from _gold_unread(job, inputs)


def _equal(gold: Sequence[_Pair]) -> str:
    return "train = gold = serve" if gold else "train = serve"


def _talks(sample: Sample) -> list[_Talk]:
    """Built-in conversations and the rows' own; none where the data is plain text that no template renders."""
    if sample.total and not sample.rows:
        return []
    built_in = [_Talk(one.messages, one.prompt, {}, probe=one.name) for one in CONVERSATIONS]
    rows = [
        _Talk(row.messages, row.messages[: row.prompt_turns], row_switches(row), at=row.at)
        for row in sample.rows
    ]
    return [*built_in, *rows]


Encode = Callable[[str], Sequence[int] | None]


def _plain(encode: Encode, other: Encode) -> Iterator[_Pair]:
    """The built-in texts on two sides; nothing where the other side has no ids to give."""
    for probe in PROBES:
        ids, others = encode(probe.text), other(probe.text)
        if ids is not None and others is not None:
            yield _Pair(ids, others, probe=probe.name)


def _whole(tokenizer: Tokenizer, talks: Sequence[_Talk]) -> Iterator[_Pair]:
    """Whole conversations as training renders them: transformers' ids, and those of tokenizer.json."""
    for talk in talks:
        try:
            text = training_text(tokenizer, talk.messages, **talk.switches)
        except InputError:
            continue
        others = tokenizer.reference(text)
        if others is not None:
            yield _Pair(tokenizer.encode(text), others, talk.probe, talk.at)


def _served_ids(job: Job, tokenizer: Tokenizer, serving: ServingSide) -> Encode:
    """How the server tokenises: by tokenizer.json alone where its engine does, if it has files of its own."""
    side = serving.tokenizer

    def by_file(text: str) -> Sequence[int]:
        found = side.reference(text)
        return side.encode(text) if found is None else found

    return by_file if job.serving.engine in FILE_ENGINES and side is not tokenizer else side.encode


def _prompts(job: Job, tokenizer: Tokenizer, serving: ServingSide, talks: Sequence[_Talk]) -> Iterator[_Pair]:
    """Each prompt as training renders it, and as the server will."""
    encode = _served_ids(job, tokenizer, serving)
    for talk in talks:
        tools = {key: value for key, value in talk.switches.items() if key == "tools"}
        text, problem = _try(lambda t=talk: training_text(tokenizer, t.prompt, prompt=True, **t.switches))
        sent, refusal = _try(
            lambda t=talk, k=tools: serving.tokenizer.render(
                t.prompt, prompt=True, **{**k, **serving.switches}
            )
        )
        if text is None or sent is None:
            if text is not None or sent is not None:
                why = (
                    f"training cannot render it: {problem}"
                    if text is None
                    else f"serving cannot render it: {refusal}"
                )
                yield _Pair(probe=talk.probe, at=talk.at, same_text=False, problem=why)
            continue
        ids = tokenizer.encode(text)
        others = ids if text == sent and serving.tokenizer is tokenizer else encode(sent)
        yield _Pair(ids, others or (), talk.probe, talk.at, same_text=text == sent)


def _try(render: Callable[[], str]) -> tuple[str | None, str]:
    """What was rendered, or None and why not."""
    try:
        return render(), ""
    except InputError as error:
        return None, str(error)


def _gold(job: Job, tokenizer: Tokenizer, inputs: Inputs) -> Iterator[_Pair]:
    """The gold set's prompts, as training renders them and as the gold set holds them."""
    for item in _gold_set(job, inputs).items:
        text, problem = _try(lambda one=item: training_text(tokenizer, one.messages, prompt=True))
        if text is None:
            yield _Pair(at=item.at, same_text=False, problem=problem)
        else:
            yield _Pair(tokenizer.encode(text), item.prompt_ids, at=item.at, same_text=text == item.prompt)


def _gold_set(job: Job, inputs: Inputs) -> GoldSet:
    """The gold set; an empty one where the job names none or it does not open."""
    empty = GoldSet(path="", items=())
    if job.data.gold is None:
        return empty
    try:
        found: GoldSet | None = inputs.get("gold")
    except InputError:
        return empty
    return found or empty


def _gold_unread(job: Job, inputs: Inputs) -> Iterator[Finding]:
    if job.data.gold is not None and not _gold_set(job, inputs).items:
        message = "the gold set was not compared: it does not open, or holds nothing"
        yield Finding(message, Severity.INFO, at=job.at("data.gold"))


def _serving_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[_Pair]
) -> Iterator[Finding]:
    """One finding for other words (a template), one for other ids of the same words (a tokenizer)."""
    for same_text in (False, True):
        found = [pair for pair in pairs if pair.differs and pair.same_text == same_text]
        if not found:
            continue
        what = (
            "serving turns the same words into other ids"
            if same_text
            else "serving renders prompts otherwise"
        )
        shown = _first(found, "serve", tokenizer, serving.tokenizer)
        place = _place(job, serving, tokenizer_first=same_text)
        fix = (
            f"serve the tokenizer of training: {tokenizer.path}"
            if same_text
            else "serve with the training template: it is saved beside the adapter as chat_template.jinja;"
            " send the same chat_template_kwargs as in training"
        )
        yield Finding(f"{what} than training on {_counts(found, pairs)}; {shown}", at=place, fix=fix)


def _place(job: Job, serving: ServingSide, *, tokenizer_first: bool) -> Location:
    """The serving setting that most likely makes the difference."""
    side = job.serving
    order = (
        ("tokenizer", "chat_template")
        if tokenizer_first
        else ("chat_template", "chat_template_kwargs", "tokenizer")
    )
    stated = {
        "tokenizer": side.tokenizer is not None,
        "chat_template": side.chat_template is not None,
        "chat_template_kwargs": bool(serving.switches),
    }
    return job.at("serving." + next((key for key in order if stated[key]), order[0]))


def _gold_differs(job: Job, pairs: Sequence[_Pair]) -> Iterator[Finding]:
    found = [pair for pair in pairs if pair.differs]
    if found:
        message = f"{len(found)} of {len(pairs)} gold prompts have other ids than training gives them; {_first(found)}"
        fix = "ask the gold questions as training renders them: same system prompt, template and tokenizer"
        yield Finding(message, at=job.at("data.gold"), fix=fix)


def _file_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[_Pair]
) -> Iterator[Finding]:
    found = [pair for pair in pairs if pair.differs]
    if not found:
        return
    by_file = job.serving.engine in FILE_ENGINES and serving.tokenizer is tokenizer
    who = f", and {job.serving.engine} goes by tokenizer.json" if by_file else ""
    said = f"transformers ({tokenizer.class_name}) and tokenizer.json disagree: other ids on {_counts(found, pairs)}"
    yield Finding(
        f"{said}{who}; {_first(found, 'json', tokenizer, tokenizer)}",
        Severity.ERROR if by_file else Severity.WARNING,
        at=job.at(
            "serving.engine" if by_file else "model.tokenizer" if job.model.tokenizer else "model.name"
        ),
        fix="put the model's config.json beside the tokenizer files, so that transformers takes the right class;"
        " then train, evaluate and serve with that folder",
    )


def _counts(found: Sequence[_Pair], pairs: Sequence[_Pair]) -> str:
    """`137 of 250 rows and 3 of 8 conversations, the same on 64 plain probes`."""
    plain = {probe.name for probe in PROBES}
    kinds = (
        ("rendered rows", lambda pair: pair.probe is None),
        ("rendered probes", lambda pair: pair.probe is not None and pair.probe not in plain),
        ("plain probes", lambda pair: pair.probe in plain),
    )
    other, same = [], []
    for name, is_one in kinds:
        count, total = sum(map(is_one, found)), sum(map(is_one, pairs))
        if count:
            other.append(f"{count} of {total} {name}")
        elif total:
            same.append(f"{total} {name}")
    return " and ".join(other) + (f", the same on {' and '.join(same)}" if same else "")


def _first(
    found: Sequence[_Pair], side: str = "", train: Tokenizer | None = None, other: Tokenizer | None = None
) -> str:
    """The first difference: shown for a built-in text; a row is only named, its words are nobody's business."""
    pair = next((pair for pair in found if pair.probe is not None), found[0])
    if pair.problem is not None:
        return f'probe "{pair.probe}": {pair.problem}' if pair.probe else f"one side cannot render {pair.at}"
    position = _position(pair)
    if pair.probe is None or train is None or other is None:
        return f"the first: {pair.at}, from token {position + 1} of {len(pair.ids)} and {len(pair.other)} on"
    width = max(len("train"), len(side))
    lines = (
        f"  {'train':<{width}}  {_tokens(pair.ids, position, train)}",
        f"  {side:<{width}}  {_tokens(pair.other, position, other)}",
    )
    return "\n".join((f'probe "{pair.probe}", token {position + 1}', *lines))


def _position(pair: _Pair) -> int:
    matching = enumerate(zip(pair.ids, pair.other, strict=False))
    return next((n for n, (one, two) in matching if one != two), min(len(pair.ids), len(pair.other)))


def _tokens(ids: Sequence[int], start: int, tokenizer: Tokenizer) -> str:
    """Some tokens as text and as ids."""
    part = list(ids[start : start + SHOWN])
    if not part:
        return "(ends here)"
    shown = " ".join(tokenizer.show([one]).replace("\n", "↵").replace("\t", "⇥") for one in part)
    return f"{shown}  {part}"
