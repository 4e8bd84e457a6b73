"""What a chat template made of a row's tool calls, results and definitions, read off the rendered text.

Messages are followed through the text in their order. A call is looked for between the message before it and
the next message whose content stands in the text once, so that a function's name in its own definition, or in
an answer, is not taken for the call. System messages are no marks: templates move them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftcheck.inputs import tool_calls
from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_calls import Call, Definition

Kind = Literal["dropped", "doubled", "reordered", "encoded-twice", "as-repr", "as-none", "braced", "escaped"]
Part = Literal["call", "argument", "content", "result", "definition", "parameter", "description"]

STRONG = 8
"""A content with so many characters that stands in the text once marks where its message stands."""
LONG = 6
"""An argument's text of so many characters does not recur by chance."""
GONE = "\0"
ENTITIES = ("&#34;", "&#39;", "&quot;", "&lt;", "&gt;")
"""What a template that is rendered with HTML's escaping writes for quotes and angle brackets."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a call, a result or a definition stands in the text: characters `start` to `stop`.

    `message` is the index of its message, `call` its number there; None for definitions.
    """

    part: Part
    name: str
    start: int
    stop: int
    message: int | None = None
    call: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Something of a row's tools that is rendered otherwise than it stands in the row.

    `kind` says how: `dropped` (not in the text), `doubled`, `reordered` (there, not in the row's order),
    `encoded-twice` (JSON inside a JSON string), `as-repr` (Python's `{'a': True}`), `as-none` (a null, or
    nothing at all, written as the word None or null), `braced` (arguments as text, which has its own braces,
    between braces of the template), `escaped` (what stands around a call's name is escaped as in HTML).
    `part` says what: a `call`, one of its arguments (`path` names it), the `content` beside a call, a
    `result`, a `definition`, or one of its parameters or descriptions (`path`). `name` is the function's;
    `message` and `call` are indices from 0. `words` are the
    row's own text, which is content. It stands at `start` to `stop` (characters); of what was dropped, both
    say where it would stand.
    """

    kind: Kind
    part: Part
    name: str
    path: str = ""
    message: int | None = None
    call: int | None = None
    words: str = ""
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class ToolRendering:
    """What was found again of a row's tools, and what was not; both in the order of the row."""

    spans: tuple[Span, ...]
    differences: tuple[Difference, ...]


def look(messages: Sequence[Message], tools: Any, text: str) -> ToolRendering:
    """Find a row's calls, results and definitions again in its rendered text."""
    looking = _Look(messages, text)
    looking.through()
    looking.definitions(tool_calls.definitions(tools))
    return ToolRendering(tuple(looking.spans), tuple(looking.differences))


class _Look:
    """One row and its text. `_at` is where the text of the messages looked at so far ends, at the most."""

    def __init__(self, messages: Sequence[Message], text: str) -> None:
        self.spans: list[Span] = []
        self.differences: list[Difference] = []
        self._messages, self._text = messages, text
        self._contents = [_content(one) for one in messages]
        self._marks = [self._mark(index) for index in range(len(messages))]
        self._at = 0
        self._asked_at = 0
        self._names: dict[str, str] = {}
        self._covered: list[tuple[int, int]] = []

    def _mark(self, index: int) -> int:
        """Where the message stands for certain; -1 where that is unknown."""
        content = self._contents[index]
        if len(content) < STRONG or self._messages[index].get("role") in ("system", "developer"):
            return -1
        for form in _forms(content):
            found = self._text.find(form)
            if found >= 0:
                return found if self._text.find(form, found + 1) < 0 else -1
        return -1

    def _limit(self, index: int) -> tuple[int, bool]:
        """Where the next message begins that stands for certain, and whether it is the next one."""
        for later in range(index + 1, len(self._messages)):
            if self._marks[later] >= self._at:
                return self._marks[later], later == index + 1
        return len(self._text), index + 1 == len(self._messages)

    def through(self) -> None:
        """All messages, in order."""
        unnamed: list[str] = []
        for index, message in enumerate(self._messages):
            role = message.get("role")
            if role in ("system", "developer"):
                continue
            calls = tool_calls.calls_of(message, index)
            if calls:
                self._calls(index, calls)
                self._names.update({call.id: call.name for call in calls if call.id is not None})
                unnamed = [call.name for call in calls]
                continue
            if role in tool_calls.RESULT_ROLES:
                self._result(index, message, unnamed.pop(0) if unnamed else "")
                continue
            found = self._find(self._contents[index], self._at)
            if found is not None:
                self._at = found[1]
                self._covered.append(found)
            if role == "user":
                self._asked_at = self._at

    def _find(self, content: str, start: int, stop: int | None = None) -> tuple[int, int] | None:
        if not content:
            return None
        for form in _forms(content):
            found = self._text.find(form, start, len(self._text) if stop is None else stop)
            if found >= 0:
                return found, found + len(form)
        return None

    # --- calls --------------------------------------------------------------------------------------------

    def _calls(self, index: int, calls: Sequence[Call]) -> None:
        start = self._at
        limit, certain = self._limit(index)
        window = self._text[start:limit]
        beside = self._find(self._contents[index], start, limit)
        if beside is not None:
            length = beside[1] - beside[0]
            window = window[: beside[0] - start] + GONE * length + window[beside[1] - start :]
            self._covered.append(beside)
        place, stops = 0, [beside[1] - start] if beside is not None else [0]
        seen: dict[str, int] = {}
        for call in calls:
            seen[call.name] = seen.get(call.name, 0) + 1
            at = _word(window, call.name, place)
            if at < 0 and len(_words(window, call.name)) >= seen[call.name]:
                at = _word(window, call.name, 0)
                self._differs("reordered", "call", call, start=start + at, stop=start + at + len(call.name))
            if at < 0:
                self._differs("dropped", "call", call, start=start + place, words=_written(call))
                continue
            before = len(self.differences)
            stop = self._arguments(call, window, start, at)
            lost = self.differences[before:]
            if lost and len(lost) == sum(1 for _ in tool_calls.leaves(call.values)) and _all_dropped(lost):
                # The name alone stands there, as in the header of a result: the call does not.
                del self.differences[before:]
                self._differs("dropped", "call", call, start=start + place, words=_written(call))
                continue
            self.spans.append(Span("call", call.name, start + at, start + stop, index, call.number))
            if _escaped(window, at, at + len(call.name)):
                self._differs("escaped", "call", call, start=start + at, stop=start + at + len(call.name))
            self._covered.append((start + at, start + stop))
            place = max(place, at + len(call.name))
            stops.append(stop)
        if certain:
            self._doubled(calls, window, start)
        self._none_beside(index, calls, window, start)
        self._at = start + max(stops)

    def _arguments(self, call: Call, window: str, start: int, at: int) -> int:
        """Look at a call's arguments; where it ends in the window."""
        values, end = call.values, at + len(call.name)
        if values is None or values == "":
            found = re.compile(r"\b(?:None|null)\b").search(window, at)
            if found is not None:
                self._differs(
                    "as-none", "argument", call, start=start + found.start(), stop=start + found.end()
                )
            return end
        whole = tool_calls.compact(values)
        found_at = window.find(whole)
        if found_at < 0:
            wrong = _encoded_twice(call, window) or _as_repr(values, window)
            if wrong is not None:
                kind, first, last = wrong
                self._differs(kind, "argument", call, start=start + first, stop=start + last)
                return max(end, last)
        elif isinstance(call.arguments, str) and _encoded_twice(call, window) is not None:
            # `"{}"`: the text as such stands inside its own encoding
            kind, first, last = _encoded_twice(call, window) or ("encoded-twice", found_at, found_at)
            self._differs(kind, "argument", call, start=start + first, stop=start + last)
            return max(end, last)
        if found_at >= 0:
            last = found_at + len(whole)
            if isinstance(call.arguments, str) and window[found_at - 1 : last + 1] == f"{{{whole}}}":
                self._differs("braced", "argument", call, start=start + found_at - 1, stop=start + last + 1)
            return max(end, last)
        for path, value in tool_calls.leaves(values):
            found_value = _value(window, value, at)
            if found_value is None:
                words = value if isinstance(value, str) else tool_calls.compact(value)
                self._differs("dropped", "argument", call, path=path, words=words, start=start + end)
                continue
            if value is None and window[found_value[0] : found_value[1]] == "None":
                first, last = found_value
                self._differs("as-none", "argument", call, path=path, start=start + first, stop=start + last)
            end = max(end, found_value[1])
        return end

    def _doubled(self, calls: Sequence[Call], window: str, start: int) -> None:
        """A call that stands in its message's text more often than it was made."""
        whole = [tool_calls.compact(call.values) for call in calls]
        for call in calls:
            named = sum(other.name == call.name for other in calls)
            places = _words(window, call.name)
            if len(places) <= named:
                continue
            texts = [
                value
                for _, value in tool_calls.leaves(call.values)
                if isinstance(value, str) and len(value.strip()) >= LONG
            ]
            longest = max(texts, key=len, default="").strip()
            escaped = json.dumps(longest, ensure_ascii=False)[1:-1]
            expected = sum(one.count(escaped) for one in whole)
            if longest and max(window.count(longest), window.count(escaped)) > expected:
                at = start + places[named]
                self._differs("doubled", "call", call, start=at, stop=at + len(call.name))

    def _none_beside(self, index: int, calls: Sequence[Call], window: str, start: int) -> None:
        """A content that is null, and written as the word."""
        if self._messages[index].get("content") is not None or "None" not in window:
            return
        found = re.search(r"\bNone\b", window)
        known = any("None" in call.name or "None" in str(call.arguments) for call in calls)
        if found is not None and not known:
            place = start + found.start()
            self._differs("as-none", "content", calls[0], start=place, stop=place + len("None"))

    def _differs(
        self, kind: Kind, part: Part, call: Call, *, start: int, stop: int | None = None, **more: str
    ) -> None:
        stop = start if stop is None else stop
        self.differences.append(
            Difference(
                kind, part, call.name, message=call.message, call=call.number, start=start, stop=stop, **more
            )
        )

    # --- results ------------------------------------------------------------------------------------------

    def _result(self, index: int, message: Message, called: str) -> None:
        content = self._contents[index]
        if not content:
            return
        id, own = message.get("tool_call_id"), message.get("name")
        name = self._names.get(id, "") if isinstance(id, str) else ""
        name = name or (own if isinstance(own, str) else "") or called
        found = self._find(content, self._at)
        if found is not None:
            self._at = found[1]
            self._covered.append(found)
            self.spans.append(Span("result", name, *found, index))
            return
        limit, _ = self._limit(index)
        values = tool_calls.parsed(content)
        window = self._text[self._at : limit]
        if isinstance(values, Mapping | list) and all(
            _value(window, value, 0) for _, value in tool_calls.leaves(values)
        ):
            return
        before = self._find(content, self._asked_at, self._at)
        if before is not None:
            self.differences.append(
                Difference("reordered", "result", name, message=index, start=before[0], stop=before[1])
            )
            return
        here = self._at
        self.differences.append(
            Difference("dropped", "result", name, message=index, words=content, start=here, stop=here)
        )

    # --- definitions --------------------------------------------------------------------------------------

    def definitions(self, defined: Sequence[Definition]) -> None:
        """Find tool definitions outside of messages: name, description, parameters."""
        rest: str | None = None
        for one in defined:
            whole = tool_calls.compact(one.parameters)
            at = self._text.find(f'"{one.name}"')
            start = self._text.find(whole) if at >= 0 and one.parameters else -1
            if start >= 0 and all(line in self._text for line in _lines(one.description)):
                span = min(at, start), max(at + len(one.name), start + len(whole))
                self.spans.append(Span("definition", one.name, *span))
                continue
            rest = self._without_messages() if rest is None else rest
            self._definition(one, rest)

    def _definition(self, one: Definition, rest: str) -> None:
        at = _word(rest, one.name, 0)
        missing = list(_missing(one, rest))
        parts = sum(1 for _ in _parts(one))
        if at < 0 or (parts and len(missing) == parts):
            self.differences.append(Difference("dropped", "definition", one.name))
            return
        self.spans.append(Span("definition", one.name, at, at + len(one.name)))
        for part, path, words in missing:
            self.differences.append(
                Difference("dropped", part, one.name, path, words=words, start=at, stop=at)
            )

    def _without_messages(self) -> str:
        """The text, with all that was found of messages blanked out."""
        parts, end = [], 0
        for start, stop in sorted(self._covered):
            if stop > end:
                start = max(start, end)
                parts += [self._text[end:start], GONE * (stop - start)]
                end = stop
        return "".join([*parts, self._text[end:]])


def _content(message: Message) -> str:
    """What is to be found of a message's content: its last lines, where it begins with reasoning."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = next((text for text in texts if isinstance(text, str)), "")
    if not isinstance(content, str):
        return ""
    return content.rpartition("</think>")[2].strip()


def _forms(text: str) -> Iterator[str]:
    """A text as it is, and as part of a JSON string."""
    yield text
    for plain in (False, True):
        encoded = json.dumps(text, ensure_ascii=plain)[1:-1]
        if encoded != text:
            yield encoded


def _word(text: str, name: str, start: int) -> int:
    """Where a name stands in a text, not as part of a longer one; -1 where it does not."""
    at = text.find(name, start)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(name) : at + len(name) + 1]
        if not (before.isalnum() or before == "_" or after.isalnum() or after == "_"):
            return at
        at = text.find(name, at + 1)
    return -1


def _words(text: str, name: str) -> list[int]:
    """All places of a name in a text."""
    found, at = [], _word(text, name, 0)
    while at >= 0:
        found.append(at)
        at = _word(text, name, at + len(name))
    return found


def _value(window: str, value: Any, start: int) -> tuple[int, int] | None:
    """Where an argument's value stands: behind its function's name, or before it where it is not there."""
    if isinstance(value, str):
        forms = list(_forms(value.strip()))
    elif isinstance(value, bool):
        forms = [json.dumps(value), str(value)]
    elif value is None:
        forms = ["null", "None"]
    elif isinstance(value, float) and value.is_integer():
        forms = [repr(value), str(int(value))]
    else:
        forms = [tool_calls.compact(value), str(value)]
    if forms == [""] or value in ([], {}):
        return start, start
    for begin in (start, 0):
        for form in forms:
            at = window.find(form, begin)
            if at >= 0:
                return at, at + len(form)
    return None


def _encoded_twice(call: Call, window: str) -> tuple[Kind, int, int] | None:
    """Arguments inside a JSON string: `"{\\"city\\": …}"`."""
    values = call.values
    text = call.arguments if isinstance(call.arguments, str) else tool_calls.compact(values)
    if isinstance(values, Mapping | list):
        for plain in (False, True):
            whole = json.dumps(text, ensure_ascii=plain)
            at = window.find(whole)
            if at >= 0:
                return "encoded-twice", at, at + len(whole)
    for key in values if isinstance(values, Mapping) else ():
        encoded = f'\\"{key}\\"'
        at = window.find(encoded)
        if at >= 0 and encoded not in tool_calls.compact(values):
            return "encoded-twice", at, at + len(encoded)
    return None


def _escaped(window: str, start: int, stop: int) -> bool:
    """Whether quotes or brackets around a name are written as HTML's entities."""
    return window[:start].endswith(ENTITIES) or window[stop:].startswith(ENTITIES)


def _as_repr(values: Any, window: str) -> tuple[Kind, int, int] | None:
    """Arguments as Python prints them: `{'city': 'Berlin'}`."""
    if not isinstance(values, Mapping) or not values:
        return None
    printed = f"{{{next(iter(values))!r}: "
    at = window.find(printed)
    return ("as-repr", at, at + len(printed)) if at >= 0 else None


def _all_dropped(found: Sequence[Difference]) -> bool:
    return all(one.kind == "dropped" for one in found)


def _written(call: Call) -> str:
    arguments = call.arguments if isinstance(call.arguments, str) else tool_calls.compact(call.arguments)
    return f"{call.name}({arguments})"


def _lines(text: str) -> list[str]:
    """The lines of a description, as JSON writes them."""
    return [json.dumps(line.strip(), ensure_ascii=False)[1:-1] for line in text.splitlines() if line.strip()]


def _parts(one: Definition) -> Iterator[tuple[Part, str, str]]:
    """What a definition says besides its name: its description, its parameters and theirs."""
    if one.description.strip():
        yield "description", "", one.description
    yield from _of_schema(one.parameters, "", 0)


def _of_schema(schema: Any, path: str, depth: int) -> Iterator[tuple[Part, str, str]]:
    if not isinstance(schema, Mapping) or depth > tool_calls.MAX_DEPTH:
        return
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, Mapping) else ():
        here = f"{path}.{name}" if path else str(name)
        yield "parameter", here, str(name)
        described = inner.get("description") if isinstance(inner, Mapping) else None
        if isinstance(described, str) and described.strip():
            yield "description", here, described
        yield from _of_schema(inner, here, depth + 1)
    if "items" in schema:
        yield from _of_schema(schema["items"], path, depth + 1)


def _missing(one: Definition, rest: str) -> Iterator[tuple[Part, str, str]]:
    """Which parts of a definition the text does not hold."""
    for part, path, words in _parts(one):
        if part == "parameter":
            there = _word(rest, words, 0) >= 0
        else:
            there = all(any(form in rest for form in _forms(line.strip())) for line in words.splitlines())
        if not there:
            yield part, path, words
