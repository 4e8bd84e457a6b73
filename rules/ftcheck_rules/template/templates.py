"""Template rules: does the chat template render every row in full, with the markers that the loss needs?"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from ftcheck.inputs import thinking
from ftcheck.inputs.prepared import RowError, SampleRow
from ftcheck.inputs.tokenizer import Message
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import Count, NotOfRows
from ftcheck.templates import has_markers

PLACES = 20
"""How many rows are named for each message that a template raises."""
WORDS = 200
"""How many characters of a template's own message are repeated."""

DEFECTS = {
    "system": (
        Severity.ERROR,
        "the template drops the system message",
        "merge the system message into the first user message, in training and in serving,"
        " or use a template that keeps it",
        "The instructions are silently lost: the model does not learn to follow them.",
    ),
    "user": (
        Severity.ERROR,
        "the template drops a user message",
        "use a template that keeps user messages",
        "The model learns to answer questions that it does not see.",
    ),
    "assistant": (
        Severity.ERROR,
        "the template drops an assistant message",
        "use a template that keeps assistant messages",
        "The model does not learn these answers.",
    ),
    "prompt": (
        Severity.WARNING,
        "the prompt that a server sends differs from the start of the row in training",
        "use a template that renders a prompt alone as it does with the answer after it",
        "The model is prompted with text that differs from its training rows.",
    ),
}
"""What a template can do to a row without raising: severity, message, fix, why."""


def training_text(
    tokenizer: Tokenizer, messages: Sequence[Message], *, prompt: bool = False, **switches: Any
) -> str:
    """A conversation as training renders it: with the template that training applies. Raises `InputError`."""
    if tokenizer.training_template not in (None, tokenizer.chat_template):
        switches = {"chat_template": tokenizer.training_template, **switches}
    return tokenizer.render(messages, prompt=prompt, **switches)


def row_switches(row: SampleRow) -> dict[str, Any]:
    """What a row itself passes to the template: its tools, and its own template_kwargs."""
    tools = {} if row.tools is None else {"tools": row.tools}
    return {**tools, **row.template_kwargs}


@rule("chat-template", family="template", cases="ftcheck_rules.template.cases.templates")
def chat_template(job: Job, tokenizer: Tokenizer, prepared: Prepared, sample: Sample) -> Iterator[Yield]:
    """The chat template renders every row, drops nothing, and has the markers that the loss needs.

    A template that raises ends the run in the middle of preparation. One that drops the system message
    raises nothing, and the model learns from rows that nobody wrote.

    Every row is rendered as in training; assistant_only_loss needs {% generation %} markers. In the sample
    rows, each message must be found again in the rendered text, and the text must start with the prompt that
    a server would send. What the template does with built-in conversations is only measured; what becomes of
    tool calls is told by `tool-calls`, of reasoning by `reasoning`. Skipped for plain text. No parameters.
    """
    if prepared.rows.textless is not None:
        yield Skip(prepared.rows.textless)
        return
    failed = {row: one for row, one in prepared.row_errors.items() if one.code == "template"}
    conversational = bool((prepared.rows.turns > 0).any())
    if not conversational and not failed:
        yield Skip("no row is a conversation, so no chat template is applied")
        return
    markers = has_markers(tokenizer.training_template or "")
    yield Measurement("rows_failed", len(failed), unit="rows", limit="0", statistic=Count())
    needed = "true" if job.training.assistant_only_loss else None
    yield Measurement("markers", markers, limit=needed, statistic=NotOfRows())
    general = _general(job, tokenizer, conversational, markers, failed)
    yield from [general] if general else _raised(failed, prepared)
    defects = _defects(tokenizer, sample)
    for name, found in (
        ("rows_losing_words", _losing(defects)),
        ("rows_with_another_prompt", defects["prompt"]),
    ):
        yield Measurement(name, len(found), unit="sample rows", limit="0")
    for code, (severity, what, fix, why) in DEFECTS.items():
        if rows := defects[code]:
            message = f"{what} in {len(rows):,} of {counted(len(sample.rows), 'sample row')}"
            yield Finding(message, severity, at=rows[0].at, fix=fix, why=why)
    yield from _printed(tokenizer, prepared, sample)
    yield from _probes(tokenizer)
    rendered = len(prepared) - len(prepared.row_errors)
    said = f"{rendered:,} of {counted(len(prepared), 'row')} rendered"
    yield Summary(said + (", generation markers present" if markers else ""))


def _general(
    job: Job, tokenizer: Tokenizer, conversational: bool, markers: bool, failed: Mapping[int, RowError]
) -> Finding | None:
    """What is wrong with every row at once; one finding, with the fix that preparation names."""
    remedy = next((trouble.fix for trouble in failed.values() if trouble.fix), None)
    if conversational and tokenizer.chat_template is None:
        fix = remedy or "set model.chat_template: path/to/template.jinja (base models ship no template)"
        message = "the rows are conversations, but the tokenizer has no chat template"
        return Finding(message, at=job.at("model.chat_template"), fix=fix)
    if not job.training.assistant_only_loss:
        return None
    place = job.at("training.assistant_only_loss")
    if not conversational:
        change = Change(f"jobs.{job.name}.training.assistant_only_loss", True, False, safe=False)
        message = "assistant_only_loss is set, but the rows are plain text, not conversations"
        return Finding(message, at=place, fix=remedy, change=change)
    if markers:
        return None
    message = "assistant_only_loss needs {% generation %} markers, but the chat template has none"
    return Finding(
        message,
        at=place,
        fix=remedy or "add the markers to a copy of the template, and set model.chat_template to it",
        why="Without the markers no token is in the loss: it is 0, or TRL raises an error.",
    )


def _raised(failed: Mapping[int, RowError], prepared: Prepared) -> Iterator[Finding]:
    """One finding a message, at the first row that has it."""
    groups: dict[str, list[int]] = defaultdict(list)
    parts = set(prepared.rows.remarks.get("content-parts", ()))
    listed = [row for row, trouble in failed.items() if row in parts and "TypeError" in trouble.message]
    told = set(listed)
    if listed:
        yield _parts(listed, prepared, "and the chat template wants a text")
    for row, trouble in failed.items():
        if row in told:
            continue
        groups[trouble.message[:WORDS]].append(row)
    for message, rows in groups.items():
        trouble = failed[rows[0]]
        said, at = f"{message} ({_which(rows, prepared)})", prepared.at(rows[0])
        yield Finding(said, at=at, fix=trouble.fix, content=trouble.content)


def _parts(rows: Sequence[int], prepared: Prepared, what: str) -> Finding:
    """Contents as lists of parts, where the template takes texts."""
    media = set(prepared.rows.remarks.get("media-parts", ()))
    has_media = any(row in media for row in rows)
    return Finding(
        f"the content of messages is a list of parts, {what} ({_which(rows, prepared)})",
        at=prepared.at(rows[0]),
        fix="this base reads text alone: remove the images and write each content as a text"
        if has_media
        else 'write each content as one text: {"role": "user", "content": "..."}',
        why="The run ends in the middle of preparation, or the model learns the list as it is printed.",
    )


def _printed(tokenizer: Tokenizer, prepared: Prepared, sample: Sample) -> Iterator[Finding]:
    """Lists of parts that the template writes as they are printed: nothing raises."""
    parts = set(prepared.rows.remarks.get("content-parts", ()))
    if parts and any(_writes_list(tokenizer, row) for row in sample.rows if row.index in parts):
        good = sorted(parts - prepared.row_errors.keys())
        yield _parts(good, prepared, "which the chat template writes as it is printed")


def _writes_list(tokenizer: Tokenizer, row: SampleRow) -> bool:
    contents = [turn["content"] for turn in row.messages if isinstance(turn.get("content"), list)]
    try:
        text = training_text(tokenizer, row.messages, **row_switches(row))
    except InputError:
        return False
    return any(str(one) in text or json.dumps(one, ensure_ascii=False) in text for one in contents if one)


def _which(rows: Sequence[int], prepared: Prepared) -> str:
    if len(rows) == 1:
        return "1 row"
    lines = ", ".join(str(prepared.at(row).line) for row in rows[1:PLACES])
    more = ", …" if len(rows) > PLACES else ""
    return f"{len(rows):,} rows; also {agreeing(len(rows) - 1, 'line', 'lines')} {lines}{more}"


def _defects(tokenizer: Tokenizer, sample: Sample) -> Mapping[str, list[SampleRow]]:
    """Sample rows that the template does not render as intended, by what is wrong."""
    found: dict[str, list[SampleRow]] = {code: [] for code in DEFECTS}
    for row in sample.rows:
        try:
            text = training_text(tokenizer, row.messages, **row_switches(row))
        except InputError:
            continue
        codes = {who for who, words in _words(row.messages) if words not in text}
        other = _prompt_and_row(tokenizer, row)
        if other is not None and not thinking.same_but_thinking(*other):
            codes.add("prompt")
        for code in codes:
            found[code].append(row)
    return found


def other_prompt(tokenizer: Tokenizer, row: SampleRow) -> bool:
    """Whether the text of the row does not start with the prompt that a server sends."""
    return _prompt_and_row(tokenizer, row) is not None


def _prompt_and_row(tokenizer: Tokenizer, row: SampleRow) -> tuple[str, str] | None:
    """A row's prompt and its text, where that does not start with the prompt."""
    asked = row.messages[: row.prompt_turns]
    try:
        text = training_text(tokenizer, row.messages, **row_switches(row))
        prompt = training_text(tokenizer, asked, prompt=True, **row_switches(row)) if asked else ""
    except InputError:
        return None
    other = len(asked) < len(row.messages) and not text.startswith(prompt)
    return (prompt, text) if other else None


def _losing(defects: Mapping[str, list[SampleRow]]) -> set[int]:
    return {row.index for code, rows in defects.items() if code != "prompt" for row in rows}


def _words(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """What must be found again, stripped: templates may trim. Reasoning is left to the rule `reasoning`."""
    for message in messages:
        role, content = message["role"], message.get("content")
        who = "system" if role == "developer" else role
        if who not in DEFECTS:
            continue
        if isinstance(content, str) and (words := thinking.without(content).strip()):
            yield who, words


_ASKED: Message = {"role": "user", "content": "ftcheckasked"}
_ANSWERED: Message = {"role": "assistant", "content": "ftcheckanswered"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "ftchecktool",
        "description": "A tool.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
_THOUGHT: Message = {**_ANSWERED, "reasoning_content": "ftcheckthought"}
PROBES: Mapping[str, tuple[Sequence[Message], str, Mapping[str, Any]]] = {
    "system": ([{"role": "system", "content": "ftchecksystem"}, _ASKED, _ANSWERED], "ftchecksystem", {}),
    "rounds": ([_ASKED, {**_ANSWERED, "content": "ftcheckfirst"}, _ASKED, _ANSWERED], "ftcheckfirst", {}),
    "tools": ([_ASKED, _ANSWERED], "ftchecktool", {"tools": [_TOOL]}),
    "thinking": ([_ASKED, _THOUGHT], "ftcheckthought", {}),
    "past_thinking": ([_ASKED, _THOUGHT, _ASKED, _ANSWERED], "ftcheckthought", {}),
    "null_content": ([_ASKED, {"role": "assistant", "content": None}], "", {}),
    "empty_content": ([_ASKED, {"role": "assistant", "content": ""}], "", {}),
}
"""Built-in conversations: by what is tried, the messages, what must be found again, and switches."""


def _probes(tokenizer: Tokenizer) -> Iterator[Measurement]:
    """What the template does with inputs that rows or requests may contain; only measured."""
    if tokenizer.chat_template is None:
        return
    for name, (messages, words, switches) in PROBES.items():
        try:
            text = training_text(tokenizer, messages, **switches)
        except InputError:
            yield Measurement(f"probe_{name}", "rejected", statistic=NotOfRows())
            continue
        kept = "kept" if words in text else "left out"
        as_none = name == "null_content" and "None" in text
        yield Measurement(f"probe_{name}", "written as None" if as_none else kept, statistic=NotOfRows())
