"""Reads a job's gold set: questions with known answers, rendered and counted as the server will."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs import call_texts, tool_parsers
from ftcheck.inputs.evaluation import GoldItem, GoldSet
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message, ServingSide
from ftcheck.inputs.tool_parsers import FunctionCall, Unreadable
from ftcheck.records import Location
from ftcheck.settings import Gold, Job
from ftcheck_plugins.reading import files, row_formats
from ftcheck_plugins.reading.raw_rows import RawRow

SUFFIXES = (".json", ".jsonl")
STOP = 1
PROBE = {"role": "user", "content": "?"}


@loader("gold")
def gold(job: Job, serving: ServingSide) -> GoldSet | None:
    """The job's gold set; None if it names none. Items that cannot be used are among its `row_errors`.

    Raises `InputError` for a file that is not there, or of which the rest cannot be read.
    """
    stated = job.data.gold
    if stated is None:
        return None
    source = _source(job, stated.path)
    items: list[GoldItem] = []
    row_errors: list[tuple[Location, RowError]] = []
    for number, raw in enumerate(files.stream(source), start=1):
        made = _made(raw, stated, serving, job.serving.system_prompt, number)
        column = made.column if isinstance(made, RowError) else None
        at = Location(stated.path, raw.line, column or 1, row=number, record=raw.record.hex())
        if isinstance(made, GoldItem):
            items.append(made)
        elif made.code in ("json", "encoding") and stated.path.endswith(".json"):
            raise _failure(job, f"{at}: {made.message}; a gold set is a JSON array, or a .jsonl file")
        else:
            row_errors.append((at, made))
    form = _call_format(job, serving) if any(item.calls for item in items) else None
    return GoldSet(stated.path, tuple(items), job.serving.system_prompt, tuple(row_errors), form)


def _call_format(job: Job, serving: ServingSide) -> str | None:
    """The id of the format in which the model's calls are read; None where it is unknown."""
    parser = job.serving.tool_parser
    if parser is not None:
        has_token = partial(call_texts.has_token, serving.tokenizer)
        found = tool_parsers.format_of(parser, job.serving.engine, has_token)
        if found is not None:
            return found.id
    written = call_texts.written_by(serving.tokenizer, _render(serving))
    return written[0].id if written else None


def _render(serving: ServingSide) -> call_texts.Render:
    def render(messages: Sequence[Message], prompt: bool, tools: Any) -> str:
        given = {**serving.switches, **({} if tools is None else {"tools": tools})}
        return serving.tokenizer.render(messages, prompt=prompt, **given)

    return render


def _source(job: Job, path: str) -> files.Source:
    if not os.path.exists(path):
        raise _failure(job, f"{path}: no such file")
    if Path(path).suffix not in SUFFIXES:
        raise _failure(job, f"{path}: a gold set is a .json array or a .jsonl file")
    return files.Source(files=(path,))


def _failure(job: Job, why: str) -> InputError:
    place = job.at("data.gold.path")
    message = f"data.gold of job {job.label}: {why}"
    return InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])


def _made(
    raw: RawRow, keys: Gold, serving: ServingSide, system_prompt: str | None, number: int
) -> GoldItem | RowError:
    if raw.data is None:
        return raw.trouble or RowError("json", "not readable")
    messages = _messages(raw.data, keys.input, system_prompt)
    if isinstance(messages, RowError):
        return messages
    tools = _tools(raw.data)
    if isinstance(tools, RowError):
        return tools
    expected = _expected(raw.data, keys.expected, tools)
    if isinstance(expected, RowError):
        return expected
    try:
        prompt = _render(serving)(messages, True, tools)
        answer, tokens = _answer(serving, messages, tools, expected)
    except InputError as error:
        return RowError("template", error.problems[0].message)
    stated = raw.data.get("id")
    return GoldItem(
        id=str(number if stated is None else stated),
        messages=messages,
        prompt=prompt,
        prompt_ids=tuple(serving.tokenizer.encode(prompt)),
        expected=expected.value,
        answer=answer,
        answer_tokens=tokens,
        at=Location(keys.path, raw.line, 1, row=number, record=raw.record.hex()),
        tools=tools,
        calls=expected.calls,
        call_message=expected.message,
    )


@dataclass(frozen=True, slots=True)
class _Expected:
    """An expected answer; `calls` and the assistant's `message` where it is one or several calls."""

    value: Any
    calls: tuple[FunctionCall, ...] = ()
    message: Message | None = None


def _tools(row: Mapping[str, Any]) -> Any:
    """The item's tools as training rows have them: a list, or JSON text; None without any."""
    made = row_formats.example({**row, "messages": [PROBE]}, "messages", "text")
    return (
        RowError("schema", made.message, content=made.content) if isinstance(made, RowError) else made.tools
    )


def _messages(row: Mapping[str, Any], key: str, system_prompt: str | None) -> tuple[Message, ...] | RowError:
    """What the server is sent: the server's system prompt comes first, unless the item brings its own."""
    if key not in row:
        return _absent(row, key)
    value = row[key]
    if isinstance(value, str):
        asked: tuple[Message, ...] = ({"role": "user", "content": value},)
        if not value.strip():
            return RowError("schema", f"'{key}' is empty: there is no question")
    else:
        made = row_formats.example({"messages": value}, "messages", "text")
        if isinstance(made, RowError):
            message = f"'{key}' must be a text or a list of messages: {made.message}"
            return RowError("schema", message, content=made.content)
        asked = made.turns
    if asked[-1]["role"] == "assistant":
        return RowError("schema", f"'{key}' ends with an answer: its last message must be a question")
    if system_prompt is None or row_formats.system_prompt(asked) is not None:
        return asked
    return ({"role": "system", "content": system_prompt}, *asked)


def _expected(row: Mapping[str, Any], key: str, tools: Any) -> _Expected | RowError:
    if key not in row:
        return _absent(row, key)
    value = row[key]
    if value is None or (isinstance(value, str) and not value.strip()):
        return RowError("schema", f"'{key}' is empty: no answer to compare with")
    message = _call_message(value, tools)
    if message is None:
        return _Expected(value)
    try:
        calls = tool_parsers.declared(message)
    except Unreadable as error:
        return RowError("schema", f"'{key}' has {error}")
    return _Expected(value, calls, message)


def _call_message(value: Any, tools: Any) -> Message | None:
    """The assistant's message for an expected answer that is calls; None for any other answer.

    Calls are a message with `tool_calls`, or calls in OpenAI's wrapper, one or several; where the item offers
    tools, also bare calls.
    """
    if isinstance(value, Mapping) and value.get("tool_calls"):
        calls = value["tool_calls"]
        return {"content": "", **value, "role": "assistant"} if isinstance(calls, list) else None
    several = value if isinstance(value, list) else [value]
    wrapped = all(isinstance(one, Mapping) and isinstance(one.get("function"), Mapping) for one in several)
    bare = tools and all(isinstance(one, Mapping) and {"name", "arguments"} <= one.keys() for one in several)
    if not several or not (wrapped or bare):
        return None
    calls = [{"type": "function", **(one if wrapped else {"function": one})} for one in several]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _answer(
    serving: ServingSide, messages: Sequence[Message], tools: Any, expected: _Expected
) -> tuple[str, int]:
    """An expected answer as text, and its tokens with the stop token. Raises `InputError`."""
    tokenizer, value = serving.tokenizer, expected.value
    if expected.message is None:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text, len(tokenizer.encode(text)) + STOP
    whole = call_texts.answer_text(_render(serving), messages, expected.message, tools)
    ids = tokenizer.encode(whole)
    end = next((place for place, one in enumerate(ids) if one in tokenizer.stop_ids), len(ids))
    return tokenizer.show(ids[:end]), end + STOP


def _absent(row: Mapping[str, Any], key: str) -> RowError:
    message = f"has no key '{key}'; it has {row_formats.keys_of(row)}"
    remedy = "set data.gold.input or data.gold.expected"
    return RowError("schema", message, remedy, content=row_formats.all_keys(row))
