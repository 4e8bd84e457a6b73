"""Reasoning, from the row to the loss to serving: is it rendered, closed, trained, and asked for?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftcheck import (
    Exclude,
    Finding,
    InputError,
    Inputs,
    Job,
    Measurement,
    Prepared,
    Sample,
    ServingSide,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs import thinking
from ftcheck.inputs.prepared import SampleRow
from ftcheck.inputs.row_texts import ReadRow, RowTexts
from ftcheck.inputs.tokenizer import Message
from ftcheck.packing.lengths import nearest_rank
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import Count
from ftcheck_rules.template.renderings import SEEN, Talk, prompt_as_sent, prompt_as_trained
from ftcheck_rules.template.templates import row_switches, training_text

FEW = 20
"""How many rows are read, or their tokens shown, to tell what holds for all of a kind."""
LINES = 10
"""How many lines a finding names."""
MEASURED = 500
"""How many rows with reasoning are measured in tokens: of more, every nth."""
PROMPT_MARKS = ("/think", "/no_think", "/nothink", "detailed thinking o")
"""Words in a prompt that switch thinking (Qwen3, SmolLM3, GLM, Nemotron)."""


@dataclass(frozen=True)
class Reasoning:
    """Parameters of `reasoning`."""

    max_lost_share: float = 0.01
    """Share of the rows with reasoning whose reasoning may be lost before that is an error, 0 to 1."""
    max_open_share: float = 0.01
    """Share of the rows with reasoning that may never close a block before that is an error, 0 to 1."""
    min_mixed_share: float = 0.02
    """Rows with reasoning and rows without are a mixture if both have this share, 0 to 1."""


@rule("reasoning", family="template", cases="ftcheck_rules.template.cases.reasoning")
def reasoning(
    job: Job,
    tokenizer: Tokenizer,
    serving: ServingSide,
    prepared: Prepared,
    sample: Sample,
    inputs: Inputs,
    params: Reasoning,
) -> Iterator[Yield]:
    """Reasoning in the rows is rendered, closed and in the loss, and serving asks for it as it was trained.

    A template that does not read the key under which reasoning stands drops it without a word, and the model
    learns to answer without thinking. A block that is never closed teaches to think without an end. A prompt
    that opens a block which no row has, or a cap below the length of the reasoning, shows only in serving.

    Every row is looked at as it is rendered: the reasoning of each answer (under a key, in tags such as
    <think>, as a content part) must be found again. Lost reasoning is an error, that of earlier turns a
    warning: these answers are trained without it. A prompt that ends in a thinking block must be the start of
    the rows; another mode is fine where a tenth of the rows has it. Rows with and without reasoning need
    something that tells them apart (an empty block, a template switch, the system prompt, `/no_think`). The
    reasoning is measured in tokens, up to 500 rows, against serving.max_new_tokens. What differs between the
    templates of training and serving is left to `template-parity`. Parameters: max_lost_share (default 0.01),
    max_open_share (default 0.01), min_mixed_share (default 0.02).
    """
    if prepared.rows.textless is not None:
        yield Skip(prepared.rows.textless)
        return
    thought = _rows(prepared, "thought")
    known = {*thought, *_rows(prepared, "thought-open")}
    lost = _rows(prepared, "thought-lost")
    yield Measurement("rows_with_reasoning", len(thought), unit="rows", statistic=Count())
    yield Measurement("rows_lost", len(lost), unit="rows", limit="0", statistic=Count())
    opened = len(_rows(prepared, "thought-open"))
    yield Measurement("rows_open", opened, unit="rows", limit="0", statistic=Count())
    if lost:
        yield _lost(tokenizer, prepared, inputs, lost, len(thought), params)
    yield from _open(prepared, inputs, len(known), params)
    columns = list(_columns(prepared, inputs)) if not thought else []
    yield from columns
    yield from _twice(prepared)
    yield from _past(job, tokenizer, prepared, inputs)
    told = len(lost) > SEEN * len(thought)
    prompts = [] if told else _prompts(tokenizer, serving, sample)
    yield from _opened(job, tokenizer, serving, prompts)
    if not told:
        yield from _untrained(tokenizer, prepared, sample, thought)
        yield from _mixed(tokenizer, prepared, inputs, thought, params)
        yield from _long(job, tokenizer, serving, prepared, inputs, thought)
    if not known and not columns and not any(one.block for one in prompts):
        yield Skip("no row has reasoning, and no prompt opens a thinking block")
        return
    total = len(prepared) - len(prepared.row_errors)
    have = agreeing(len(thought), "has", "have")
    kept = f" · rendered in {len(thought) - len(lost):,} of them" if lost else ""
    yield Summary(f"{len(thought):,} of {counted(total, 'row')} {have} reasoning{kept}")


def _rows(prepared: Prepared, code: str) -> Sequence[int]:
    """The rows of a remark, those that could be prepared."""
    found = prepared.rows.remarks.get(code, ())
    if not prepared.row_errors:
        return found
    return tuple(row for row in found if row not in prepared.row_errors)


def _read(inputs: Inputs, rows: Sequence[int]) -> list[ReadRow]:
    """Some rows again. Raises `InputError` where they changed since."""
    if not rows:
        return []
    texts: RowTexts = inputs.get("row_texts")
    return texts.read(rows)


def _also(rows: Sequence[int], prepared: Prepared) -> str:
    """The lines of some rows after the first, which the finding points to."""
    if len(rows) < 2:
        return ""
    lines = ", ".join(str(prepared.at(row).line) for row in rows[1:LINES])
    more = ", …" if len(rows) > LINES else ""
    return f" (also {agreeing(len(rows) - 1, 'line', 'lines')} {lines}{more})"


def _spread(rows: Sequence[int], most: int) -> list[int]:
    """At most so many of the rows, evenly spread."""
    return list(rows[:: max(1, -(-len(rows) // most))])


# --- rendered and closed ---------------------------------------------------------------------------------


def _lost(
    tokenizer: Tokenizer,
    prepared: Prepared,
    inputs: Inputs,
    lost: Sequence[int],
    total: int,
    params: Reasoning,
) -> Finding:
    gone = set(lost)
    places = [name for name in _places(prepared) if gone & set(_rows(prepared, f"thought-in:{name}"))]
    few = len(lost) <= params.max_lost_share * total
    return Finding(
        f"the template leaves out the reasoning of {len(lost):,} of {counted(total, 'row')} that"
        f" {agreeing(total, 'has', 'have')} any: it does not render {_listed(places)}"
        f"{_also(lost, prepared)}",
        Severity.WARNING if few else Severity.ERROR,
        at=prepared.at(lost[0]),
        fix=_remedy(tokenizer, _read(inputs, lost[:1]), places),
        why="Reasoning that is not rendered is not learned: the model is trained to answer at once.",
    )


def _places(prepared: Prepared) -> list[str]:
    """The keys, tags and parts under which the rows have reasoning."""
    start = "thought-in:"
    return sorted(code[len(start) :] for code in prepared.rows.remarks if code.startswith(start))


def _listed(places: Sequence[str]) -> str:
    tags = {tag.open: f"what stands between {tag.open} and {tag.close}" for tag in thinking.TAGS}
    return " or ".join(tags.get(one, one) for one in places) or "it"


def _remedy(tokenizer: Tokenizer, read: Sequence[ReadRow], places: Sequence[str]) -> str:
    """What makes the template render the reasoning of this row: tried one after the other."""
    for row in read:
        for switches in _switches(tokenizer, thinking.SWITCHES, row.template_kwargs):
            for where, messages in _variants(row.messages):
                if _renders(tokenizer, row, messages, switches):
                    return _way(where, switches, places)
    known = [one for one in places if one in thinking.KEYS]
    drop = f", or remove the key {' and '.join(known)} where it is not to be learned" if known else ""
    return f"set model.chat_template to a copy of the template that renders reasoning{drop}"


def _switches(
    tokenizer: Tokenizer, named: Mapping[str, bool], own: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """A row's own template switches, and with one more that the template knows."""
    yield {}
    template = tokenizer.training_template or tokenizer.chat_template or ""
    for name, value in named.items():
        if name in template and own.get(name) is not value:
            yield {name: value}


def _variants(messages: Sequence[Message]) -> Iterator[tuple[str, list[Message]]]:
    """The messages as they are, and with their reasoning in other places."""
    yield "", list(messages)
    for key in thinking.KEYS[:3]:
        yield key, [_moved(one, key) for one in messages]
    for tag in thinking.TAGS:
        yield tag.open, [_in_tags(one, tag) for one in messages]


def _bare(message: Message) -> dict[str, Any]:
    """A message without its reasoning."""
    made = {key: value for key, value in message.items() if key not in thinking.KEYS}
    if isinstance(content := made.get("content"), str) and any(True for _ in thinking.of_text(content)):
        made["content"] = thinking.without(content)
    return made


def _moved(message: Message, key: str) -> Message:
    found = thinking.of_message(message) if message["role"] == "assistant" else []
    return {**_bare(message), key: found[0].text} if found else message


def _in_tags(message: Message, tag: thinking.Tag) -> Message:
    found = thinking.of_message(message) if message["role"] == "assistant" else []
    if not found:
        return message
    bare = _bare(message)
    content = bare.get("content")
    answer = content if isinstance(content, str) else ""
    return {**bare, "content": f"{tag.open}\n{found[0].text}\n{tag.close}\n\n{answer}"}


def _last_thoughts(messages: Sequence[Message]) -> list[thinking.Thought]:
    """The reasoning of the last answer that has any."""
    found = [thinking.of_message(one) for one in messages if one["role"] == "assistant"]
    return next((one for one in reversed(found) if one), [])


def _renders(
    tokenizer: Tokenizer, row: ReadRow, messages: Sequence[Message], switches: Mapping[str, Any]
) -> bool:
    """Whether the last answer's reasoning is in the text of these messages."""
    tools = {} if row.tools is None else {"tools": row.tools}
    try:
        text = training_text(tokenizer, messages, **{**tools, **row.template_kwargs, **switches})
    except InputError:
        return False
    found = _last_thoughts(row.messages)
    return bool(found) and all(one.text in text for one in found)


def _way(where: str, switches: Mapping[str, Any], places: Sequence[str]) -> str:
    tags = {tag.open: tag for tag in thinking.TAGS}
    steps = []
    if where in tags:
        tag = tags[where]
        steps.append(
            "write the reasoning into the content, before the answer:"
            f" {tag.open}\\n...\\n{tag.close}\\n\\n..."
        )
    elif where:
        named = " and ".join(one for one in places if one in thinking.KEYS)
        steps.append(
            f"rename the key {named} to {where}, which the template reads"
            if named
            else f"move the reasoning out of the content, to the message's key {where}"
        )
    if switches:
        [(name, value)] = switches.items()
        steps.append(
            f'set "chat_template_kwargs": {{"{name}": {str(value).lower()}}} in the rows, and the same in'
            " serving.chat_template_kwargs"
        )
    return "; ".join(steps) or "render the rows with the template of training again"


def _open(prepared: Prepared, inputs: Inputs, total: int, params: Reasoning) -> Iterator[Yield]:
    rows = _rows(prepared, "thought-open")
    if not rows:
        return
    tag = next((one for row in _read(inputs, rows[:1]) if (one := _open_tag(row)) is not None), None)
    name, close = (tag.open, tag.close) if tag is not None else ("<think>", "</think>")
    few = len(rows) <= params.max_open_share * total
    yield Finding(
        f"{len(rows):,} of {counted(total, 'row')} with reasoning {agreeing(len(rows), 'opens', 'open')}"
        f" {name} and never {agreeing(len(rows), 'closes', 'close')} it{_also(rows, prepared)}",
        Severity.WARNING if few else Severity.ERROR,
        at=prepared.at(rows[0]),
        fix=f"remove these rows, or write the rest of the reasoning, {close} and the answer: they look like"
        " generations that were cut at a token limit",
        why="The model learns to think and to stop without an answer.",
    )
    yield Exclude(rows, prepared.rows.at)


def _open_tag(row: ReadRow) -> thinking.Tag | None:
    contents = [one.get("content") for one in row.messages if one["role"] == "assistant"]
    texts = [one for one in (*contents, *row.data.values()) if isinstance(one, str)]
    return next((tag for text in reversed(texts) if (tag := thinking.open_tag(text)) is not None), None)


def _columns(prepared: Prepared, inputs: Inputs) -> Iterator[Finding]:
    """Reasoning in a column of its own, of rows that have none in their messages."""
    named = [
        (name, one.rows, one.first)
        for one in prepared.rows.key_sets
        for name in one.keys.names
        if name in thinking.KEYS and one.first not in prepared.row_errors
    ]
    for column in sorted({name for name, _, _ in named}):
        sets = [one for one in named if one[0] == column]
        read = _read(inputs, [sets[0][2]])
        if read and _beside(read[0], column):
            count = sum(rows for _, rows, _ in sets)
            yield Finding(
                f"the column {column} of {counted(count, 'row')} is not trained: no trainer reads it, and the"
                " answers have no reasoning",
                Severity.WARNING,
                at=prepared.at(sets[0][2]),
                fix="write it into the answer (the key reasoning_content of the assistant's message, or"
                " <think>...</think> before a completion), or remove the column",
                why="The model is trained to answer without the reasoning that the data set has.",
            )


def _beside(row: ReadRow, column: str) -> bool:
    """Whether a column holds words that stand nowhere else in the row."""
    value = row.data.get(column)
    if not isinstance(value, str) or len(value.split()) < 3:
        return False
    return not any(value.strip() in str(other) for key, other in row.data.items() if key != column)


def _twice(prepared: Prepared) -> Iterator[Finding]:
    rows = _rows(prepared, "thought-twice")
    if rows:
        yield Finding(
            f"{counted(len(rows), 'row')} {agreeing(len(rows), 'has', 'have')} the same reasoning under a key"
            f" and in the content, and the template writes both{_also(rows, prepared)}",
            Severity.WARNING,
            at=prepared.at(rows[0]),
            fix="remove it from the content, or remove the key",
            why="The model learns to think everything twice.",
        )


def _past(job: Job, tokenizer: Tokenizer, prepared: Prepared, inputs: Inputs) -> Iterator[Finding]:
    """Reasoning of earlier answers that are in the loss; what stands in a prompt is as the template means."""
    codes = ["thought-lost-past"]
    if job.training.completion_only_loss is False and not job.training.assistant_only_loss:
        codes.append("thought-lost-prompt")
    rows = sorted({row for code in codes for row in _rows(prepared, code)})
    if not rows:
        return
    switch = _history_switch(tokenizer, _read(inputs, rows[:1]))
    yield Finding(
        "the template leaves out the reasoning of earlier turns, and these answers are trained without it,"
        f" in {counted(len(rows), 'row')}{_also(rows, prepared)}",
        Severity.WARNING,
        at=prepared.at(rows[0]),
        fix=(f"{switch}, or " if switch else "")
        + "make a row of each assistant turn: what came before as its prompt, the answer as its completion",
        why="The model is trained to think in the last turn and to answer at once in all others.",
    )


def _history_switch(tokenizer: Tokenizer, read: Sequence[ReadRow]) -> str | None:
    for row in read:
        for switches in _switches(tokenizer, thinking.HISTORY_SWITCHES, row.template_kwargs):
            if switches and _renders_all(tokenizer, row, switches):
                return _way("", switches, ())
    return None


def _renders_all(tokenizer: Tokenizer, row: ReadRow, switches: Mapping[str, Any]) -> bool:
    tools = {} if row.tools is None else {"tools": row.tools}
    try:
        text = training_text(tokenizer, row.messages, **{**tools, **row.template_kwargs, **switches})
    except InputError:
        return False
    return all(
        thought.text in text
        for one in row.messages
        if one["role"] == "assistant"
        for thought in thinking.of_message(one)
    )


# --- asked for as trained --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A sample row's prompt as it is served: the block that it ends in, and whether the row begins so."""

    row: SampleRow
    block: str | None
    begins: bool
    same: bool


def _prompts(tokenizer: Tokenizer, serving: ServingSide, sample: Sample) -> list[_Prompt]:
    """`same`: but for thinking blocks, the row begins with its prompt, and training renders that alike."""
    made = []
    for row in sample.rows:
        if not 0 < row.prompt_turns < len(row.messages):
            continue
        talk = Talk(row.messages, row.messages[: row.prompt_turns], row_switches(row), at=row.at)
        ours, theirs = prompt_as_trained(tokenizer, talk), prompt_as_sent(serving, talk)
        if theirs.text is None:
            continue
        try:
            text = training_text(tokenizer, row.messages, **row_switches(row))
        except InputError:
            continue
        begins = text.startswith(theirs.text)
        same = ours.text == theirs.text and not begins and thinking.same_but_thinking(theirs.text, text)
        made.append(_Prompt(row, thinking.block_at_end(theirs.text), begins, same))
    return made


def _opened(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, prompts: Sequence[_Prompt]
) -> Iterator[Finding | Measurement]:
    """Prompts that end in a thinking block, where the rows go on otherwise."""
    other = [one for one in prompts if one.same and one.block is not None]
    if any(one.block for one in prompts):
        yield Measurement("prompts_with_a_block_of_their_own", len(other), "sample rows", limit="0")
    if not other:
        return
    trained = sum(one.begins and one.block is not None for one in prompts)
    seen = trained >= SEEN * len(prompts)
    switch = _closing_switch(tokenizer, serving, other[0].row)
    what = "opens a thinking block" if other[0].block == "open" else "has an empty thinking block"
    yield Finding(
        f"the prompt that is served {what} at its end, and {len(other):,} of"
        f" {counted(len(prompts), 'sample row')} {agreeing(len(other), 'goes', 'go')} on otherwise"
        + (f"; {trained:,} {agreeing(trained, 'begins', 'begin')} so" if trained else ""),
        Severity.INFO if seen else Severity.ERROR,
        at=other[0].row.at,
        fix=None
        if seen
        else switch
        or "train on rows that begin as the prompt does, or set model.chat_template to a copy of the template"
        " whose prompt ends as the rows go on",
        why=None
        if seen
        else "The model is asked in a mode that it was not trained in: its first tokens, and the form of its"
        " answers, are off.",
    )


def _closing_switch(tokenizer: Tokenizer, serving: ServingSide, row: SampleRow) -> str | None:
    """A template switch with which the prompt is the start of the row."""
    template = tokenizer.chat_template or ""
    asked = row.messages[: row.prompt_turns]
    try:
        text = training_text(tokenizer, row.messages, **row_switches(row))
    except InputError:
        return None
    for name, on in thinking.SWITCHES.items():
        for value in (not on, on) if name in template else ():
            try:
                made = serving.tokenizer.render(asked, prompt=True, **{**row_switches(row), name: value})
            except InputError:
                continue
            if text.startswith(made):
                return f"set serving.chat_template_kwargs: {{{name}: {str(value).lower()}}}, as the rows are"
    return None


def _untrained(
    tokenizer: Tokenizer, prepared: Prepared, sample: Sample, thought: Sequence[int]
) -> Iterator[Finding]:
    """Reasoning that is rendered and masked, though the answer behind it is in the loss."""
    if not prepared.masked:
        return
    known = set(thought)
    looked = [row for row in sample.rows if row.index in known and prepared.trained[row.index]][:FEW]
    out = [row for row in looked if not _in_loss(tokenizer, prepared, row)]
    if out and 2 * len(out) > len(looked):
        yield Finding(
            f"the reasoning is rendered but not in the loss, in {len(out):,} of"
            f" {counted(len(looked), 'sample row')} with reasoning",
            Severity.WARNING,
            at=out[0].at,
            fix="begin the template's {% generation %} block before the thinking block, or put the reasoning"
            " into the completion",
            why="The model learns to answer after reasoning that it never learns to write.",
        )


def _in_loss(tokenizer: Tokenizer, prepared: Prepared, row: SampleRow) -> bool:
    found = _last_thoughts(row.messages)
    ids, mask = prepared.tokens.ids(row.index), prepared.tokens.mask(row.index)
    words = " ".join(tokenizer.show(ids[mask].tolist()).split())
    inner = [" ".join(one.text.split())[8:48] for one in found]
    return not found or any(one in words for one in inner)


def _mixed(
    tokenizer: Tokenizer, prepared: Prepared, inputs: Inputs, thought: Sequence[int], params: Reasoning
) -> Iterator[Finding]:
    """Rows with reasoning beside rows without."""
    known = {*thought, *_rows(prepared, "thought-open")}
    others = [n for n in range(len(prepared)) if n not in known and n not in prepared.row_errors]
    total = len(known) + len(others)
    if not known or not others:
        return
    share = min(len(known), len(others)) / total
    told = _told_apart(prepared, inputs, known, others)
    loud = told is None and share >= params.min_mixed_share
    template = tokenizer.training_template or ""
    name = next((one for one in thinking.SWITCHES if one in template), None)
    switch = f'"chat_template_kwargs": {{"{name}": false}}' if name else "a system prompt of their own"
    yield Finding(
        f"{len(known):,} of {counted(total, 'row')} {agreeing(len(known), 'has', 'have')} reasoning and"
        f" {len(others):,} {agreeing(len(others), 'has', 'have')} none"
        + (f"; {told} tells them apart" if told else ", and nothing in their prompts tells them apart"),
        Severity.WARNING if loud else Severity.INFO,
        at=prepared.at(others[0] if len(others) <= len(known) else min(known)),
        fix=f"give rows without reasoning {switch}, give all rows reasoning, or remove it from all"
        if loud
        else None,
        why="Whether the tuned model thinks is left to chance." if loud else None,
    )


def _told_apart(prepared: Prepared, inputs: Inputs, known: set[int], others: Sequence[int]) -> str | None:
    """What tells rows without reasoning from those with it, before the answer begins or at its start."""
    if len(set(others) & set(_rows(prepared, "thought-marked"))) >= 0.99 * len(others):
        return "an empty thinking block in the others"
    switched = set(_rows(prepared, "thought-switch"))
    if switched and (switched >= set(others) or switched >= known):
        return "a template switch of the rows"
    system = prepared.rows.system
    if not {int(system[row]) for row in known} & {int(system[row]) for row in others}:
        return "the system prompt"
    read = _read(inputs, [*_spread(others, FEW), *_spread(sorted(known), FEW)])
    marked = [any(mark in _asked(one) for mark in PROMPT_MARKS) for one in read]
    half = len(_spread(others, FEW))
    return "a mark in the prompt" if marked and (all(marked[:half]) or all(marked[half:])) else None


def _asked(row: ReadRow) -> str:
    return "\n".join(str(one.get("content")) for one in row.messages if one["role"] in ("system", "user"))


def _long(
    job: Job,
    tokenizer: Tokenizer,
    serving: ServingSide,
    prepared: Prepared,
    inputs: Inputs,
    thought: Sequence[int],
) -> Iterator[Finding | Measurement]:
    """Tokens of reasoning, against the cap of serving."""
    import numpy as np

    cap = job.serving.max_new_tokens
    if not thought or cap is None or _asked_without(serving):
        return
    looked = _spread(thought, MEASURED)
    long = [row for row in looked if int(prepared.length[row]) > cap]
    measured = _measured(tokenizer, inputs, _spread(looked, FEW))
    if measured:
        usual = nearest_rank(np.array(measured), 50)
        yield Measurement("reasoning_p50", usual, unit="tokens", limit=f"< {cap}")
    lengths = _measured(tokenizer, inputs, long)
    over = [(row, length) for row, length in zip(long, lengths, strict=True) if length >= cap]
    yield Measurement("reasoning_over_cap", len(over), unit="rows", limit="0")
    if over:
        longest = max(length for _, length in over)
        few = len(over) <= 0.01 * len(looked)
        yield Finding(
            f"the reasoning alone has {cap:,} tokens or more, which is all that max_new_tokens allows, in"
            f" {len(over):,} of {counted(len(looked), 'row')} with reasoning; the longest has {longest:,}",
            Severity.INFO if few else Severity.WARNING,
            at=job.at("serving.max_new_tokens"),
            fix=f"raise serving.max_new_tokens above {longest:,}, by the length of an answer, or shorten the"
            " reasoning",
            why="The server stops these generations while the model still thinks: there is no answer.",
        )


def _asked_without(serving: ServingSide) -> bool:
    """Whether requests switch thinking off."""
    stated = [
        serving.switches[name] is on for name, on in thinking.SWITCHES.items() if name in serving.switches
    ]
    return bool(stated) and not any(stated)


def _measured(tokenizer: Tokenizer, inputs: Inputs, rows: Sequence[int]) -> list[int]:
    """Tokens of the last answer's reasoning in each of these rows."""
    return [sum(len(tokenizer.encode(one.text)) for one in _thoughts_of(row)) for row in _read(inputs, rows)]


def _thoughts_of(row: ReadRow) -> list[thinking.Thought]:
    if row.messages:
        return _last_thoughts(row.messages)
    texts = [one for key in ("completion", "text") if isinstance(one := row.data.get(key), str)]
    return [one for text in texts for one in thinking.of_text(text)]
