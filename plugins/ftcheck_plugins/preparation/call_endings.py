"""How turns with tool calls end in rendered rows, and what of their results is in the loss.

Codes for the rule `stop-after-call`, by row:

- `call-ends`: the row has a turn with tool calls that another message follows; `calls-unclear`: its ends
  cannot be told (a message that is not found again in the text).
- `call-end:+</tool_call> +<|im_end|> -<|im_start|>`: the special tokens between a call and the words of the
  next message, in order, each with `+` where it is in the loss.
- `result-trained:ROLE`: the words of a message of this role are in the loss, behind a call.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple

from ftcheck.inputs.tokenizer import Message
from ftcheck.settings import Training
from ftcheck_plugins.model.tokenizer import ChatTokenizer
from ftcheck_plugins.preparation.rendering import Rendered
from ftcheck_plugins.reading.row_formats import Example

SHORT = 8
"""Characters of a text that may stand in a template's own words: it is looked for behind a special token."""
MOST = 8
"""Special tokens that are named behind a call."""


class Call(NamedTuple):
    """A tool call: its name, and the texts that its arguments hold."""

    name: str
    values: tuple[str, ...]


class CallEndings:
    """Looks at the rendered rows of one job."""

    def __init__(self, tokenizer: ChatTokenizer, training: Training) -> None:
        """`training` tells which part of a row is in the loss."""
        self._tokenizer = tokenizer
        self._masking = training.assistant_only_loss
        self._completion = training.completion_only_loss is not False

    @cached_property
    def _special(self) -> re.Pattern[str]:
        texts = {self._tokenizer.show([one]) for one in self._tokenizer.special_ids}
        marks = sorted((one for one in texts if re.search(r"[^\w\s]", one)), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, marks)) if marks else r"(?!)")

    @cached_property
    def _stops(self) -> list[str]:
        return [self._tokenizer.show([one]) for one in sorted(self._tokenizer.stop_ids)]

    def remarks(
        self, examples: Sequence[Example], texts: Sequence[Sequence[Rendered]]
    ) -> dict[str, list[int]]:
        """The codes of these rows, each with its rows in order."""
        found: dict[str, list[int]] = {}
        for row, (example, some) in enumerate(zip(examples, texts, strict=True)):
            if example.talk is None and some and some[-1].spans is not None and _calls(example.turns):
                for code in dict.fromkeys(self._of_row(example.turns, some)):
                    found.setdefault(code, []).append(row)
        return found

    def _of_row(self, turns: Sequence[Message], some: Sequence[Rendered]) -> Iterator[str]:
        text, in_loss = some[-1].text, self._loss(some)
        partly = self._masking or (self._completion and len(some) > 1)
        cursor, ended = 0, False
        for number, turn in enumerate(turns):
            if ended:
                place = _find(text, turn, cursor, self._special)
                if place is None:
                    yield "calls-unclear"
                    return
                yield "call-ends"
                yield self._code(text, cursor, place[0], in_loss)
                if turn["role"] != "assistant" and partly and _overlaps(in_loss, *place):
                    yield f"result-trained:{turn['role']}"
                cursor = place[1]
            elif (content := _content(turn)) and number + 1 < len(turns):
                place = _find(text, turn, cursor, None)
                if place is None and turn["role"] == "user":
                    yield "calls-unclear"
                    return
                cursor = place[1] if place is not None and content else cursor
            calls = calls_of(turn)
            ended = bool(calls) and number + 1 < len(turns)
            if ended and (after := _behind(text, calls, cursor, self._stops)) is None:
                yield "calls-unclear"
                return
            cursor = after if ended and after is not None else cursor

    def _code(self, text: str, start: int, stop: int, in_loss: Callable[[int], bool]) -> str:
        found = [
            ("+" if in_loss(one.start() + start) else "-") + one.group()
            for one in self._special.finditer(text[start:stop])
        ]
        return "call-end:" + " ".join([*dict.fromkeys(found)][:MOST])

    def _loss(self, some: Sequence[Rendered]) -> Callable[[int], bool]:
        """Whether the character at a place is in the loss."""
        whole = some[-1]
        spans = whole.spans or []
        first = 0
        if len(some) > 1 and self._completion:
            pairs = zip(some[0].text, whole.text, strict=False)
            first = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if self._masking:
            return lambda place: place >= first and any(start <= place < stop for start, stop in spans)
        return lambda place: place >= first


def _overlaps(in_loss: Callable[[int], bool], start: int, stop: int) -> bool:
    """Whether the middle of a stretch is in the loss: a token at its edge may reach over it."""
    return in_loss((start + stop) // 2)


def _calls(turns: Sequence[Message]) -> bool:
    return any(turn.get("tool_calls") for turn in turns)


def calls_of(turn: Message) -> list[Call]:
    """The tool calls of an assistant's message."""
    calls = turn.get("tool_calls") if turn["role"] == "assistant" else None
    made = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str) and name:
            made.append(Call(name, tuple(_values(function.get("arguments")))))
    return made


def _values(arguments: Any) -> Iterator[str]:
    """The texts that stand in a call's arguments as a template writes them."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return
    if isinstance(arguments, Mapping):
        for value in arguments.values():
            yield from _values_of(value)


def _values_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _values_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from _values_of(one)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _behind(text: str, calls: Sequence[Call], cursor: int, stops: Sequence[str]) -> int | None:
    """The place behind the names and arguments of some calls; None where a name is not found.

    Values are looked for up to the next stop token: a result may repeat them.
    """
    for call in calls:
        place = text.find(call.name, cursor)
        if place < 0:
            return None
        cursor = end = place + len(call.name)
        limit = min((at for stop in stops if (at := text.find(stop, cursor)) >= 0), default=len(text))
        for value in call.values:
            ends = [at + len(form) for form in _forms(value) if (at := text.find(form, cursor, limit)) >= 0]
            end = max([end, *ends[:1]])
        cursor = end
    return cursor


def _forms(content: str) -> tuple[str, ...]:
    """A text as a template may write it: as it is, or as JSON."""
    return (content, json.dumps(content, ensure_ascii=False)[1:-1], json.dumps(content)[1:-1])


def _content(turn: Message) -> str:
    content = turn.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = next((one for one in texts if isinstance(one, str)), "")
    return content.strip() if isinstance(content, str) else ""


def _find(text: str, turn: Message, cursor: int, special: re.Pattern[str] | None) -> tuple[int, int] | None:
    """Where the words of a message stand, from `cursor` on; short ones behind a special token."""
    content = _content(turn)
    if not content:
        return None
    if special is not None and len(content) < SHORT:
        first = special.search(text, cursor)
        cursor = first.end() if first is not None else cursor
    for form in _forms(content):
        place = text.find(form, cursor)
        if place >= 0:
            return place, place + len(form)
    return None
