"""Row layouts: tells them apart, and turns each row into the conversation or text that TRL would see."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from ftcheck import tables
from ftcheck.dedup import fingerprints
from ftcheck.digest import canonical
from ftcheck.inputs import bounded, columns
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message
from ftcheck.plurals import counted
from ftcheck_plugins.reading import arrow_nulls

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "ipython", "function"})
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
NAME = re.compile(r"[A-Za-z][\w.-]{0,31}")
"""A role that is a name; any other text in its place is not repeated."""
MAX_TURNS = 10_000
"""Templates take time with the square of the messages: 10,000 take seconds, 100,000 take minutes."""
MESSAGE_KEYS = frozenset(
    {
        "role",
        "content",
        "name",
        "weight",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "audio",
    }
)
"""Keys of a message that hosted services know."""
COMMON_KEYS = frozenset(
    [
        "answer",
        "answers",
        "chat_template_kwargs",
        "chosen",
        "completion",
        "completions",
        "content",
        "context",
        "conversation",
        "conversations",
        "dialog",
        "expected",
        "from",
        "functions",
        "history",
        "id",
        "input",
        "inputs",
        "instruction",
        "instructions",
        "label",
        "labels",
        "message",
        "messages",
        "meta",
        "metadata",
        "name",
        "output",
        "outputs",
        "prompt",
        "prompt_id",
        "question",
        "query",
        "rejected",
        "response",
        "responses",
        "role",
        "score",
        "source",
        "split",
        "system",
        "system_prompt",
        "target",
        "task",
        "text",
        "tool_calls",
        "tools",
        "value",
        "weight",
    ]
)
"""Names of keys that data sets commonly use: a message may name them. All others are content."""
OF_TEXTS = frozenset({"empty-answer", "json-answer", "broken-json"})
"""Remarks about a text itself: not of one put together of parts, or with tool calls beside it."""
LAYOUT_KEYS = {
    "messages": "messages",
    "prompt-completion": "prompt, completion",
    "text": "text",
    "sharegpt": "conversations",
    "alpaca": "instruction, output",
}


class Talk(NamedTuple):
    """A conversation whose messages have a role and a text each, and nothing else.

    `form` is what is alike in many: of each message the role, and the key that stands first (`role` or
    `content`: a template may go through a message's items). `texts` are the contents.
    """

    form: tuple[str, ...]
    texts: list[str]


def talk(messages: Sequence[Any]) -> Talk | None:
    """The messages as `Talk`; None where one of them is anything else."""
    form: list[str] = []
    texts: list[str] = []
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        role, content = message.get("role"), message.get("content")
        if type(role) is not str or type(content) is not str:
            return None
        form += role, next(iter(message))
        texts.append(content)
    return Talk(tuple(form), texts)


class Example(NamedTuple):
    """One row as the trainer sees it: a conversation, a prompt with its completion, or plain text.

    Exactly one of `messages`, `text`, (`prompt` and `completion`) is there. `tools` and
    `template_kwargs` go to the chat template. `talk` are all messages, where they are that plain.
    """

    messages: tuple[Message, ...] | None = None
    prompt: str | tuple[Message, ...] | None = None
    completion: str | tuple[Message, ...] | None = None
    text: str | None = None
    tools: Any = None
    template_kwargs: Mapping[str, Any] = MappingProxyType({})
    talk: Talk | None = None

    @property
    def conversational(self) -> bool:
        """Whether a chat template renders it."""
        return self.messages is not None or isinstance(self.prompt, tuple)

    @property
    def turns(self) -> tuple[Message, ...]:
        """All messages, prompt and completion together; none for plain text."""
        if self.messages is not None:
            return self.messages
        if isinstance(self.prompt, tuple) and isinstance(self.completion, tuple):
            return self.prompt + self.completion
        return ()


def detect(row: Mapping[str, Any], text_field: str) -> str | None:
    """The layout of a row, decided as TRL decides by its columns; None if it is none of the known ones.

    Where TRL would raise, the layout that can be prepared all the same: `data-schema` says so.
    """
    decided = columns.decide(row, columns.kinds(row, text_field), text_field).layout
    if decided in LAYOUT_KEYS:
        return decided
    if "prompt" in row and "completion" in row:
        return "prompt-completion"
    if "messages" in row:
        return "messages"
    if "conversations" in row:
        return "sharegpt"
    if text_field in row:
        return "text"
    if "instruction" in row and "output" in row:
        return "alpaca"
    return None


def example(row: Mapping[str, Any], layout: str, text_field: str) -> Example | RowError:
    """A row as an `Example`, or what keeps it from being one."""
    try:
        return _BUILDERS[layout](row, text_field)
    except _Misfit as misfit:
        return RowError("schema", str(misfit), misfit.fix, content=misfit.content)


class _Misfit(Exception):
    """A row that does not fit its layout."""

    def __init__(self, message: str, fix: str | None = None, content: str | None = None) -> None:
        super().__init__(message)
        self.fix = fix
        self.content = content


def _messages(row: Mapping[str, Any], text_field: str) -> Example:
    return _conversation(_key(row, "messages"), "messages", row)


def _conversation(value: Any, name: str, row: Mapping[str, Any]) -> Example:
    turns, plain = _turns(value, name)
    return Example(messages=turns, talk=plain, **_extras(row))


def _prompt_completion(row: Mapping[str, Any], text_field: str) -> Example:
    prompt, completion = _key(row, "prompt"), _key(row, "completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return Example(prompt=prompt, completion=completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        (asked, first), (answered, second) = _turns(prompt, "prompt"), _turns(completion, "completion")
        return Example(prompt=asked, completion=answered, talk=_both(first, second), **_extras(row))
    raise _Misfit(
        "'prompt' and 'completion' must both be texts, or both be lists of messages;"
        f" they are {_kind(prompt)} and {_kind(completion)}"
    )


def _text(row: Mapping[str, Any], text_field: str) -> Example:
    text = _key(row, text_field)
    if not isinstance(text, str):
        raise _Misfit(f"'{text_field}' must be a text, it is {_kind(text)}")
    return Example(text=text)


def _sharegpt(row: Mapping[str, Any], text_field: str) -> Example:
    """Role names of ShareGPT files are mapped (human, gpt); TRL alone would keep them as they are."""
    turns = _key(row, "conversations")
    if not isinstance(turns, list) or not turns:
        raise _Misfit("'conversations' must be a list with at least one message")
    return _conversation([_chatml(turn) for turn in turns], "conversations", row)


def _chatml(turn: Any) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
    role = turn["from"]
    mapped = SHAREGPT_ROLES.get(role, role) if isinstance(role, str) else role
    return {**rest, "role": mapped, "content": turn.get("value")}


def _alpaca(row: Mapping[str, Any], text_field: str) -> Example:
    """Instruction and input become the user's turn (joined by a line break), output the completion."""
    instruction, output = _key(row, "instruction"), _key(row, "output")
    extra = row.get("input") or ""
    for name, value in (("instruction", instruction), ("output", output), ("input", extra)):
        if not isinstance(value, str):
            raise _Misfit(f"'{name}' must be a text, it is {_kind(value)}")
    asked = f"{instruction}\n{extra}" if extra else instruction
    system = row.get("system")
    opening = ({"role": "system", "content": system},) if isinstance(system, str) and system else ()
    prompt: tuple[Message, ...] = (*opening, {"role": "user", "content": asked})
    completion: tuple[Message, ...] = ({"role": "assistant", "content": output},)
    return Example(prompt=prompt, completion=completion, talk=talk(prompt + completion))


def _both(first: Talk | None, second: Talk | None) -> Talk | None:
    """Two conversations, one behind the other."""
    if first is None or second is None:
        return None
    return Talk(first.form + second.form, first.texts + second.texts)


def _key(row: Mapping[str, Any], key: str) -> Any:
    if key not in row:
        raise _Misfit(f"has no key '{key}'; it has {keys_of(row)}", content=all_keys(row))
    return row[key]


def keys_of(row: Mapping[str, Any]) -> str:
    """Which keys a row has, for a message: names that data sets commonly use, and how many others."""
    known = sorted(key for key in row if key in COMMON_KEYS)
    others = len(row) - len(known)
    more = [counted(others, "other key" if known else "key")] if others else []
    named = [f"the keys {', '.join(known)}" if len(known) > 1 else f"the key {known[0]}"] if known else []
    return " and ".join((*named, *more)) or "no keys"


def all_keys(row: Mapping[str, Any]) -> str:
    """The names of a row's keys: content, as its values are."""
    return "keys: " + (", ".join(sorted(map(str, row))[:20]) or "none")


def _turns(value: Any, name: str) -> tuple[tuple[Message, ...], Talk | None]:
    if not isinstance(value, list):
        raise _Misfit(f"'{name}' must be a list of messages, it is {_kind(value)}")
    if not value:
        raise _Misfit(f"'{name}' is empty: a row needs at least one message")
    if len(value) > MAX_TURNS:
        raise _Misfit(f"'{name}' contains {len(value):,} messages; the limit is {MAX_TURNS:,}")
    plain = talk(value)
    if plain is None:
        for number, turn in enumerate(value, start=1):
            _check_turn(turn, f"message {number} of '{name}'")
    return tuple(value), plain


def _check_turn(turn: Any, where: str) -> None:
    if not isinstance(turn, dict):
        raise _Misfit(f"{where} must be an object with role and content, it is {_kind(turn)}")
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str):
        raise _Misfit(f"{where} has no role", "every message needs a role: system, user, assistant or tool")
    if content is not None and not isinstance(content, str | list):
        raise _Misfit(f"{where}: content must be a text, it is {_kind(content)}")


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a date" if isinstance(value, date | time) else "a number")


def _extras(row: Mapping[str, Any]) -> dict[str, Any]:
    """What TRL passes on to the template: tools (a list, or JSON text) and chat_template_kwargs."""
    if len(row) == 1:
        return {}
    tools = row.get("tools")
    if isinstance(tools, str):
        try:
            tools = bounded.loads(tools)
        except ValueError:
            raise _Misfit("'tools' is a text that is not valid JSON") from None
    switches = row.get("chat_template_kwargs") or {}
    for name, value, kind in (("tools", tools, list), ("chat_template_kwargs", switches, dict)):
        if value is not None and not isinstance(value, kind):
            wanted = "a list" if kind is list else "an object"
            raise _Misfit(f"'{name}' must be {wanted}, it is {_kind(value)}")
    return {"tools": tools, "template_kwargs": dict(switches)}


_BUILDERS = {
    "messages": _messages,
    "prompt-completion": _prompt_completion,
    "text": _text,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}


class Gist(NamedTuple):
    """What there is to know of a row's words before any tokenizer looks at them.

    `remarks` are codes for what a trainer would take without a word, though hardly anybody means it, and
    `json-answer` or `broken-json` for a last answer that is, or begins like, JSON. `texts` are all texts
    that people or models wrote; `said` all but system messages; `asked` tells which of those the user said
    before the first answer, or are the prompt. `system` is the text of a system message at the beginning.
    `answers` tells which of `texts` are to be learned: the assistant's messages, the completion, plain text;
    `answer` which of `said` is the last of them (-1: none, and for plain text).
    """

    remarks: list[str]
    texts: Sequence[str]
    said: Sequence[str]
    asked: Sequence[int]
    system: str | None = None
    answers: Sequence[int] = ()
    answer: int = -1

    @property
    def question(self) -> str:
        """What is asked, as one text."""
        return "\n".join(self.said[place] for place in self.asked)


class _Shape(NamedTuple):
    """What a conversation's roles tell: where its answers and system messages stand, and `Gist`'s places."""

    remarks: tuple[str, ...]
    answers: tuple[int, ...]
    said: tuple[int, ...] | None
    asked: tuple[int, ...]
    answer: int
    system: bool


@lru_cache(maxsize=1_000)
def _shape(form: tuple[str, ...]) -> _Shape:
    """The shape of all conversations of a form (see `Talk`). `said` is None where nothing is left out."""
    roles = form[::2]
    answers = tuple(n for n, role in enumerate(roles) if role == "assistant")
    said = tuple(n for n, role in enumerate(roles) if role != "system")
    first = answers[0] if answers else len(roles)
    strange = {role for role in roles if role not in ROLES}
    found = {"role", *(f"role:{role}" for role in strange if NAME.fullmatch(role))} if strange else set()
    if not answers:
        found.add("no-answer")
    elif roles[-1] != "assistant":
        found.add("last-turn")
    return _Shape(
        remarks=tuple(sorted(found)),
        answers=answers,
        said=None if len(said) == len(roles) else said,
        asked=tuple(place for place, n in enumerate(said) if n < first and roles[n] == "user"),
        answer=said.index(answers[-1]) if answers else -1,
        system=roles[0] in ("system", "developer"),
    )


def gist(made: Example) -> Gist:
    """A row's gist. Most rows are plain talk, of a shape that is known: those take a look at each answer."""
    if made.talk is not None:
        known = _of_talk(made.talk)
        nulls = made.tools is not None and arrow_nulls.has_nulls(made.tools)
        return known._replace(remarks=[*known.remarks, "nested-nulls"]) if nulls else known
    turns = made.turns
    if not turns:
        texts = [one for one in (made.text, made.prompt, made.completion) if isinstance(one, str)]
        if not isinstance(made.completion, str):
            return Gist(_of_answer(""), texts, texts, [], answers=range(len(texts)))
        return Gist(_of_answer(made.completion), texts, texts, [0], answers=(1,), answer=1)
    contents = [turn.get("content") for turn in turns]
    form = tuple(one for turn in turns for one in (turn["role"], "role"))
    known = _of_talk(Talk(form, [fingerprints.text_of(one) for one in contents]))
    found = {code for turn in turns for code in _rare_remarks(turn, turn["role"], turn.get("content"))}
    found.update(code for code in known.remarks if code not in OF_TEXTS)
    last = next((turn.get("content") for turn in reversed(turns) if turn["role"] == "assistant"), None)
    remarks = [*sorted(found), *(_of_answer(last) if isinstance(last, str) else ())]
    beside = [one for turn in turns for one in _beside(turn)]
    asked = made.prompt if isinstance(made.prompt, tuple) else ()
    remarks += _switched_off(turns, len(asked))
    if arrow_nulls.has_nulls(made.tools) or any(map(arrow_nulls.below, turns)):
        remarks.append("nested-nulls")
    remarks += ["structured"] if talk(turns) is None else []
    return known._replace(remarks=remarks, said=[*known.said, *beside], system=system_prompt(turns))


def _of_talk(plain: Talk) -> Gist:
    texts, shape = plain.texts, _shape(plain.form)
    remarks = [*shape.remarks]
    for place in shape.answers:
        if not texts[place] or texts[place].isspace():
            remarks = ["empty-answer", *remarks]
            break
    if shape.answers:
        remarks += _of_answer(texts[shape.answers[-1]])
    said = texts if shape.said is None else [texts[place] for place in shape.said]
    system = texts[0] if shape.system else None
    return Gist(remarks, texts, said, shape.asked, system, shape.answers, shape.answer)


def _beside(turn: Message) -> list[str]:
    """A message's tool calls and thoughts: two rows that differ in nothing else are no copies."""
    keys = ("tool_calls", "reasoning_content", "thinking")
    return [canonical(turn[key]) for key in keys if turn.get(key)]


def _rare_remarks(turn: Message, role: str, content: Any) -> Iterator[str]:
    """Codes for a message that may have more than a role and words, or no words."""
    if not turn.get("tool_calls"):
        if content is None:
            yield "null-content"
        elif role == "assistant" and isinstance(content, str) and not content.strip():
            yield "empty-answer"
    if not MESSAGE_KEYS.issuperset(turn):
        yield "message-keys"
    if isinstance(content, list):
        yield "content-parts"
        if any(isinstance(part, Mapping) and part.get("type") not in (None, "text") for part in content):
            yield "media-parts"
    if turn.get("weight") not in (None, 0, 1):
        yield "weight"


@cache
def _switches() -> tuple[frozenset[str], frozenset[str]]:
    """Keys of a message that keep it out of the loss: where they are false, and where they are true."""
    table = tables.load("message_switches")
    return frozenset(table["off_when_false"]), frozenset(table["off_when_true"])


def _switched_off(turns: Sequence[Message], asked: int) -> Iterator[str]:
    """`switched-off` where a key keeps an answer out of the loss; of the first `asked`, the prompt, apart."""
    false, true = _switches()
    off = [
        number
        for number, turn in enumerate(turns)
        if turn["role"] == "assistant"
        and (
            any(_is_no(turn[key]) for key in false & turn.keys())
            or any(turn[key] in (True, 1) for key in true & turn.keys())
        )
    ]
    if any(number < asked for number in off):
        yield "switched-off-prompt"
    if any(number >= asked for number in off):
        yield "switched-off"


def _is_no(value: Any) -> bool:
    return value is not None and value in (0, False, "0", "false", "False")


def _of_answer(text: str) -> list[str]:
    """`json-answer` for an answer that is JSON, `broken-json` where it only begins like that."""
    if text[:1].isalnum() or text.lstrip()[:1] not in ("{", "["):
        return []
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return ["broken-json"]
    return ["json-answer"]


def system_prompt(turns: Sequence[Message]) -> str | None:
    """The text of the first message if it is a system message."""
    if turns and turns[0]["role"] in ("system", "developer"):
        content = turns[0].get("content")
        return content if isinstance(content, str) else fingerprints.text_of(content) or None
    return None
