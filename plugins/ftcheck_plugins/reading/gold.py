"""Reads a job's gold set: questions with known answers, rendered and counted as the server will."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs.evaluation import GoldItem, GoldSet
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message, ServingSide
from ftcheck.records import Location
from ftcheck.settings import Gold, Job
from ftcheck_plugins.reading import files, row_formats
from ftcheck_plugins.reading.files import RawRow

SUFFIXES = (".json", ".jsonl")
STOP = 1


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
    return GoldSet(stated.path, tuple(items), job.serving.system_prompt, tuple(row_errors))


def _source(job: Job, path: str) -> files.Source:
    if not os.path.exists(path):
        raise _failure(job, f"{path}: no such file")
    if Path(path).suffix not in SUFFIXES:
        raise _failure(job, f"{path}: a gold set is a .json array or a .jsonl file")
    return files.Source(files=(path,))


def _failure(job: Job, why: str) -> InputError:
    place = job.at("data.gold.path")
    message = f"data.gold of job {job.name}: {why}"
    return InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])


def _made(
    raw: RawRow, keys: Gold, serving: ServingSide, system_prompt: str | None, number: int
) -> GoldItem | RowError:
    if raw.data is None:
        return raw.trouble or RowError("json", "not readable")
    messages = _messages(raw.data, keys.input, system_prompt)
    if isinstance(messages, RowError):
        return messages
    answer = _answer(raw.data, keys.expected)
    if isinstance(answer, RowError):
        return answer
    try:
        prompt = serving.tokenizer.render(messages, prompt=True, **serving.switches)
    except InputError as error:
        return RowError("template", error.problems[0].message)
    stated = raw.data.get("id")
    return GoldItem(
        id=str(number if stated is None else stated),
        messages=messages,
        prompt=prompt,
        prompt_ids=tuple(serving.tokenizer.encode(prompt)),
        expected=raw.data[keys.expected],
        answer=answer,
        answer_tokens=len(serving.tokenizer.encode(answer)) + STOP,
        at=Location(keys.path, raw.line, 1, row=number, record=raw.record.hex()),
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


def _answer(row: Mapping[str, Any], key: str) -> str | RowError:
    if key not in row:
        return _absent(row, key)
    value = row[key]
    if value is None or (isinstance(value, str) and not value.strip()):
        return RowError("schema", f"'{key}' is empty: no answer to compare with")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _absent(row: Mapping[str, Any], key: str) -> RowError:
    message = f"has no key '{key}'; it has {row_formats.keys_of(row)}"
    remedy = "set data.gold.input or data.gold.expected"
    return RowError("schema", message, remedy, content=row_formats.all_keys(row))
