"""Tool calls: what a message declares, and what a served model's parser reads in a text.

The table `tool_parsers.json` says of each format how calls stand in a text: one pattern that finds them, and
what is in its `body`. This module is the interpreter of those shapes; it opens nothing.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from ftcheck import tables
from ftcheck.inputs import tool_calls

Body = Literal[
    "object", "list", "objects", "by-name", "arguments", "parameters", "python", "python-lines", "bare-keys"
]
Values = Literal["schema", "literal", "stated"]
JSON_NAMES = {"null": None, "true": True, "false": False}
LONGEST = 1 << 20
"""Characters of an answer that are parsed; a longer one holds no call."""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One call of a function; `arguments` is a mapping where they are as they should be."""

    name: str
    arguments: Any


class Unreadable(ValueError):
    """A text in which a parser finds no calls, or wrong ones; says why without quoting the text."""


@dataclass(frozen=True)
class Format:
    """How calls stand in a text. Field by field as in tool_parsers.json.

    `body` is what the pattern's group of that name holds: an `object` {name, arguments}, a `list` of these,
    `objects` one after another, a list of {function name: arguments} (`by-name`), JSON `arguments` beside the
    group `name`, `parameters` one by one beside it, `python` calls in a list, `python-lines` of calls, or
    JSON with `bare-keys`. `values` says how a parameter's text becomes a value: by the tool's `schema`; as a
    `literal` unless the schema says string; as `stated` beside it.
    """

    id: str
    body: Body
    call: str
    needs: str | None = None
    parameter: str = ""
    values: Values = "schema"
    name: str = "name"
    arguments: tuple[str, ...] = ("arguments",)
    may_lack_arguments: bool = False
    text_arguments: bool = False
    """Arguments that are JSON text are sent on as they are: the client reads an object."""
    exact: bool = False
    """Nothing may stand behind the JSON."""
    one: bool = False
    """Only what the first match holds is read."""
    special: Literal["kept", "skipped"] = "kept"
    tokens: tuple[str, ...] = ()
    with_token: Mapping[str, str] | None = None
    quote: str = ""
    source: str = ""
    note: str = ""


@cache
def formats() -> dict[str, Format]:
    """All formats by name, in the order in which an unknown text is tried."""
    made = {}
    for name, stated in tables.load("tool_parsers")["formats"].items():
        lists = {key: tuple(stated[key]) for key in ("arguments", "tokens") if key in stated}
        made[name] = Format(name, **{**stated, **lists})
    return made


def format_of(parser: str, engine: str | None, has_token: Callable[[str], bool]) -> Format | None:
    """The format of a parser by its engine's name for it; None for one that the table does not know.

    `has_token` tells whether the served tokenizer has a token: the parser `mistral` goes by that. Without an
    engine, vLLM's names come before SGLang's.
    """
    engines = tables.load("tool_parsers")["engines"]
    named = [engines[engine]] if engine in engines else list(engines.values())
    found = next((one["parsers"][parser] for one in named if parser in one["parsers"]), None)
    if found is None:
        return None
    made = formats()[found]
    other = next((name for token, name in (made.with_token or {}).items() if has_token(token)), None)
    return made if other is None else formats()[other]


def parsers_of(engine: str, form: Format) -> list[str]:
    """An engine's names of the parsers that read this format."""
    known = tables.load("tool_parsers")["engines"].get(engine, {}).get("parsers", {})
    variants = {
        form.id,
        *(one.id for one in formats().values() if form.id in (one.with_token or {}).values()),
    }
    return [name for name, read in known.items() if read in variants]


# --- what a message declares ------------------------------------------------------------------------------


def declared(message: Mapping[str, Any]) -> tuple[FunctionCall, ...]:
    """The calls of a message, in OpenAI's wrapper or bare; arguments that are JSON text are read.

    Raises `Unreadable` for a call without a name, or with arguments that are no JSON object.
    """
    calls = message.get("tool_calls")
    return tuple(_declared(one) for one in calls) if isinstance(calls, list | tuple) else ()


def _declared(call: Any) -> FunctionCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Unreadable("a call without a function name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise Unreadable("arguments that are not valid JSON") from None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise Unreadable("arguments that are not a JSON object")
    return FunctionCall(function["name"], arguments)


def schema_of(tools: Any, name: str) -> Mapping[str, Any] | None:
    """The JSON Schema of a tool's parameters, in OpenAI's wrapper or bare; None for a tool not declared."""
    stated = next((one for one in tool_calls.definitions(tools) if one.name == name), None)
    if stated is None:
        return None
    return stated.parameters if isinstance(stated.parameters, Mapping) else {}


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 is 1.0 and not true; the order of keys does not matter."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def same_call(one: FunctionCall, other: FunctionCall) -> bool:
    """Whether two calls name the same function with the same arguments, in any order of keys."""
    return one.name == other.name and same(one.arguments, other.arguments)


def same_calls(some: Sequence[FunctionCall], others: Sequence[FunctionCall]) -> bool:
    """Whether these are the same calls. Parallel calls are run side by side: their order does not matter."""
    left = list(others)
    for call in some:
        place = next((n for n, other in enumerate(left) if same_call(call, other)), None)
        if place is None:
            return False
        del left[place]
    return not left


# --- what a parser reads ----------------------------------------------------------------------------------


def read(form: Format, text: str, tools: Any = None) -> tuple[FunctionCall, ...]:
    """The calls in an answer; none where it is not a call. Raises `Unreadable` for one that is broken.

    What stands before the end of a thinking block is left out: the server's reasoning parser takes it.
    """
    text = text.rpartition("</think>")[2] if "</think>" in text else text
    if len(text) > LONGEST or (form.needs is not None and form.needs not in text):
        return ()
    calls: list[FunctionCall] = []
    for match in re.finditer(form.call, text.lstrip(), re.DOTALL):
        calls += _READERS[form.body](form, match, tools)
        if form.one:
            break
    return tuple(calls)


def why_none(form: Format, text: str) -> str:
    """Why a parser reads no call in this text, in words of the format alone."""
    if form.needs is not None and form.needs not in text:
        return f"'{form.needs}' is not in it"
    return "it does not have the parser's form"


def _json(form: Format, text: str) -> Any:
    try:
        value, end = json.JSONDecoder().raw_decode(text.strip())
    except (ValueError, RecursionError):
        raise Unreadable("the call is not valid JSON") from None
    if form.exact and text.strip()[end:].strip():
        raise Unreadable("text stands behind the call's JSON")
    return value


def _of_object(form: Format, value: Any) -> FunctionCall:
    """A call from its JSON object."""
    if not isinstance(value, Mapping):
        raise Unreadable("the call is not a JSON object")
    if not isinstance(value.get(form.name), str):
        raise Unreadable(f"the call has no key '{form.name}'")
    key = next((one for one in form.arguments if one in value), None)
    if key is None and not form.may_lack_arguments:
        raise Unreadable(f"the call has no key {' or '.join(repr(one) for one in form.arguments)}")
    return FunctionCall(value[form.name], _arguments(form, {} if key is None else value[key]))


def _arguments(form: Format, value: Any) -> Any:
    """Arguments as the client reads them: JSON text stays a text, unless the parser passes it on as it is."""
    if not form.text_arguments or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise Unreadable("the arguments are not valid JSON") from None


def _read_object(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    return [_of_object(form, _json(form, match["body"]))]


def _read_list(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    value = _json(form, match["body"])
    if not isinstance(value, list):
        raise Unreadable("the calls are not a JSON list")
    return [_of_object(form, one) for one in value]


def _read_by_name(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    value = _json(form, match["body"])
    if not isinstance(value, list) or not all(isinstance(one, dict) and one for one in value):
        raise Unreadable("the calls are not a JSON list of objects")
    return [FunctionCall(*next(iter(one.items()))) for one in value]


def _read_objects(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    """JSON objects one after another, whatever stands between them; or a list of them."""
    text, calls, at = match["body"], [], 0
    if text.startswith("["):
        return _read_list(form, match, tools)
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            raise Unreadable("the call is not valid JSON") from None
        calls.append(_of_object(form, value))
    return calls


def _read_arguments(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    name = match["name"].strip()
    try:
        value, _ = json.JSONDecoder().raw_decode(match["body"].strip())
    except (ValueError, RecursionError):
        raise Unreadable("the arguments are not valid JSON") from None
    return [FunctionCall(name, value)]


def _read_parameters(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    name = match["name"].strip()
    properties = (schema_of(tools, name) or {}).get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    found = {}
    for one in re.finditer(form.parameter, match["body"], re.DOTALL):
        key, text = one["name"].strip(), one["value"]
        if form.values == "stated":
            found[key] = text if one["text"] == "true" else _literal(text)
        elif form.values == "literal":
            found[key] = text if _types(known.get(key)) == ["string"] else _literal(text.strip())
        else:
            found[key] = _typed(text, _types(known.get(key)))
    return [FunctionCall(name, found)]


def _types(schema: Any) -> list[str]:
    """The JSON Schema types that a parameter may have; none where the schema does not say."""
    if not isinstance(schema, Mapping):
        return []
    stated = schema.get("type")
    if isinstance(stated, str):
        return [stated]
    if isinstance(stated, list):
        return [one for one in stated if isinstance(one, str)]
    inner = [schema.get(key) for key in ("anyOf", "oneOf")]
    return [one for some in inner if isinstance(some, list) for part in some for one in _types(part)]


def _typed(text: str, types: Sequence[str]) -> Any:
    """A parameter's text by the types of its schema; a text where they are unknown."""
    if text.lower() in ("null", "none") and types and types != ["string"]:
        return None
    wanted = [one for one in types if one != "null"]
    if not wanted or wanted[0] in ("string", "enum"):
        return text
    if wanted[0] in ("boolean", "bool"):
        return text.strip().lower() == "true"
    return _literal(text.strip())


def _literal(text: str) -> Any:
    """The value that a text is in JSON, or else in Python; itself where it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _read_python(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    return _python_calls(match["body"])


def _read_python_lines(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    lines = [line.strip() for line in match["body"].splitlines() if line.strip()]
    return _python_calls(f"[{', '.join(lines)}]")


def _python_calls(text: str) -> list[FunctionCall]:
    try:
        parsed = ast.parse(text.strip(), mode="eval").body
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise Unreadable("the calls are not valid Python") from None
    if not isinstance(parsed, ast.List):
        raise Unreadable("the calls are not a list")
    return [_python_call(one) for one in parsed.elts]


def _python_call(node: ast.expr) -> FunctionCall:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise Unreadable("the list holds something else than calls with named arguments")
    if any(one.arg is None for one in node.keywords):
        raise Unreadable("the list holds something else than calls with named arguments")
    return FunctionCall(node.func.id, {str(one.arg): _python_value(one.value) for one in node.keywords})


def _python_value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in JSON_NAMES:
        return JSON_NAMES[node.id]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise Unreadable("an argument is not a literal") from None


BARE = re.compile(r"\s*([^\s,{}\[\]:\"]+)")
"""A key, or a value without quotes."""


def _read_bare_keys(form: Format, match: re.Match[str], tools: Any) -> list[FunctionCall]:
    """JSON whose keys have no quotes, and whose texts stand between `quote` marks."""
    parts = match["body"].split(form.quote)
    if len(parts) % 2 == 0:
        raise Unreadable("a text in the arguments has no end")
    tokens: list[str] = []
    for number, part in enumerate(parts):
        tokens.append(json.dumps(part) if number % 2 else "".join(_quoted(part)))
    try:
        return [FunctionCall(match["name"], json.loads("{" + "".join(tokens) + "}"))]
    except (ValueError, RecursionError):
        raise Unreadable("the arguments do not have the parser's form") from None


def _quoted(text: str) -> Iterator[str]:
    """Bare words in quotes, but for numbers and truth values."""
    at = 0
    while at < len(text):
        found = BARE.match(text, at)
        if found is None:
            yield text[at]
            at += 1
            continue
        word, at = found[1], found.end()
        is_key = text[at:].lstrip().startswith(":")
        yield word if not is_key and _is_number_or_truth(word) else json.dumps(word)


def _is_number_or_truth(word: str) -> bool:
    return word in ("true", "false") or re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", word) is not None


_READERS: dict[str, Callable[[Format, re.Match[str], Any], list[FunctionCall]]] = {
    "object": _read_object,
    "list": _read_list,
    "by-name": _read_by_name,
    "objects": _read_objects,
    "arguments": _read_arguments,
    "parameters": _read_parameters,
    "python": _read_python,
    "python-lines": _read_python_lines,
    "bare-keys": _read_bare_keys,
}
