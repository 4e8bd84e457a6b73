"""Edits of a YAML text that touch nothing but the value they are about.

The text is never dumped again: ruamel.yaml's parser says where each key and each value stands, and the
edit is made between these places. So comments, order, quotes, line endings and layout of all else stay
byte for byte. Every edit is read back and held against what was meant; one that would do more is refused.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ftcheck.records import Location

NULLS = ("", "~", "null", "Null", "NULL")
PLAIN = re.compile(r"[A-Za-z_./][\w./-]*")
SCIENTIFIC = re.compile(r"[-+]?[0-9][0-9.]*[eE]")
UNPRINTABLE = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
WIDTH = 2

Keys = tuple[str, ...]


class Refused(Exception):
    """The edit cannot be made without touching something else; the message says why."""


@dataclass
class NodeSpan:
    """A node of the text: `start` and `end` count characters; `end` of a block may lie lines below it.

    `kind` is `map`, `list`, `scalar` or `alias`; `raw` is a scalar's value before it is resolved, or the
    name an alias points to; `shared` says that an alias somewhere points here.
    """

    kind: str
    start: int
    end: int
    raw: str = ""
    style: str | None = None
    flow: bool = False
    anchor: str | None = None
    shared: bool = False
    items: "list[tuple[NodeSpan, NodeSpan]]" = field(default_factory=list)
    parts: "list[NodeSpan]" = field(default_factory=list)

    def get(self, key: str) -> "tuple[NodeSpan, NodeSpan] | None":
        """The key and the value under a name."""
        return next(((name, value) for name, value in self.items if name.raw == key), None)

    @property
    def block(self) -> bool:
        """Whether this is a map or a list that is written over lines, by indentation."""
        return self.kind in ("map", "list") and not self.flow

    @property
    def empty(self) -> bool:
        """Whether this is a plain null."""
        return self.kind == "scalar" and self.style in (None, "") and self.raw in NULLS


def with_value(text: str, keys: Keys, value: Any) -> str:
    """The text with `value` under `keys`; sections that are missing are made. Raises `Refused`."""
    value = json.loads(json.dumps(value))
    return _held(text, _set(text, keys, value), _with(_data(text), keys, value))


def with_item(text: str, key: str, item: Mapping[str, Any]) -> str:
    """The text with one more mapping in the list under a top-level key. Raises `Refused`."""
    item = json.loads(json.dumps(item))
    name, old, above = _found(text, (key,))
    data = _data(text)
    values = [*(data.get(key) or ()), item]
    if old is None and above is not None and above.block:
        new = _below(text, above.end, [f"{key}:", *_item_lines(item, _step(text))])
    elif old is not None and old.kind == "list" and old.parts:
        new = _appended(text, old, item)
    elif old is not None and name is not None and old.empty and not (above and above.flow):
        bare = text[: old.start] + text[old.end :]
        new = _below(bare, _colon(bare, name), _item_lines(item, _step(text)))
    else:
        new = _set(text, (key,), values)
    return _held(text, new, _with(data, (key,), values))


def without(text: str, keys: Keys) -> str:
    """The text without the key; as it is where the key is not stated. Raises `Refused`."""
    key, value, above = _found(text, keys)
    if key is None or value is None:
        return text
    return _held(text, _out(text, keys, key, value, above), _less(_data(text), keys))


def place(text: str, keys: Keys) -> tuple[int, int] | None:
    """Line and column (from 1) of the value under `keys`, None where the text does not state it."""
    spot: NodeSpan | None = _read(text)
    for key in keys:
        found = spot.get(key) if spot is not None else None
        if found is None:
            return None
        spot = found[1]
    assert spot is not None
    return text.count("\n", 0, spot.start) + 1, _column(text, spot.start) + 1


# --- reading --------------------------------------------------------------------------------------------


def _read(text: str) -> NodeSpan:
    """The tree of spots. The text is one document that was read as a policy before."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import CollectionStartEvent, NodeEvent, ScalarEvent

    events = [one for one in YAML(typ="safe", pure=True).parse(StringIO(text)) if _is_node(one)]
    stream = iter(events)
    anchors: dict[str, NodeSpan] = {}

    def node() -> NodeSpan | None:
        event = next(stream)
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, ScalarEvent):
            made = NodeSpan("scalar", start, end, event.value, event.style, anchor=event.anchor)
        elif isinstance(event, CollectionStartEvent):
            made = collection(event)
        elif isinstance(event, NodeEvent):
            anchors[event.anchor].shared = True
            return NodeSpan("alias", start, end, event.anchor, anchor=event.anchor)
        else:
            return None
        if made.anchor is not None:
            anchors[made.anchor] = made
        return made

    def collection(event: Any) -> NodeSpan:
        kind = "map" if "Mapping" in type(event).__name__ else "list"
        made = NodeSpan(kind, event.start_mark.index, 0, flow=bool(event.flow_style), anchor=event.anchor)
        if event.anchor is not None:
            anchors[event.anchor] = made
        while (child := node()) is not None:
            if kind == "list":
                made.parts.append(child)
                continue
            value = node()
            assert value is not None
            made.items.append((child, value))
        ends.append(made)
        return made

    ends: list[NodeSpan] = []
    closing = [
        one.end_mark.index for one in events if type(one).__name__ in ("MappingEndEvent", "SequenceEndEvent")
    ]
    root = node()
    for made, end in zip(ends, closing, strict=True):
        made.end = end if made.flow else _last(text, made)
    assert root is not None
    return root


def _is_node(event: Any) -> bool:
    return not type(event).__name__.startswith(("Stream", "Document", "Comment"))


def _last(text: str, block: NodeSpan) -> int:
    """Where the last value of a block ends."""
    values = [value for _, value in block.items] or block.parts
    return _content_end(text, values[-1]) if values else block.start


def _content_end(text: str, spot: NodeSpan) -> int:
    """Where a value's own text ends; the blank lines after `|` and `>` are not its own, except with `+`."""
    if spot.style not in ("|", ">") or "+" in text[spot.start : spot.end].partition("\n")[0]:
        return spot.end
    return spot.start + len(text[spot.start : spot.end].rstrip())


def _found(text: str, keys: Keys) -> tuple[NodeSpan | None, NodeSpan | None, NodeSpan | None]:
    """Key and value under `keys` and the map that holds them; None from where the text says nothing."""
    spot, above = _read(text), None
    key: NodeSpan | None = None
    for depth, name in enumerate(keys):
        _reachable(text, spot, keys[:depth])
        found = spot.get(name) if spot.kind == "map" else None
        if found is None:
            return None, None, spot
        above, (key, spot) = spot, found
    _reachable(text, spot, keys)
    return key, spot, above


def _reachable(text: str, spot: NodeSpan, keys: Keys) -> None:
    """What an alias shares is not written through: it would change elsewhere too."""
    if spot.kind == "alias" or spot.shared:
        line = text.count("\n", 0, spot.start) + 1
        sign = "*" if spot.kind == "alias" else "&"
        what = "is the alias" if spot.kind == "alias" else "is shared by the anchor"
        raise Refused(
            f"'{'.'.join(keys) or 'the policy'}' {what} {sign}{spot.anchor} (line {line}): edit it by hand"
        )


def _data(text: str) -> Any:
    """The text as plain data, read as a policy is."""
    from ftcheck.policy.document import parse
    from ftcheck.policy.nodes import plain

    tree, problems = parse(text, at=Location())
    if tree is None or problems:
        raise Refused(problems[0].message if problems else "the result is not a valid policy")
    return plain(tree)


def _held(text: str, new: str, meant: Any) -> str:
    """The new text, if it says what was meant and nothing else."""
    try:
        said = _data(new)
    except Refused:
        said = None
    if json.dumps(said, sort_keys=True) != json.dumps(meant, sort_keys=True):
        raise Refused("it cannot be changed without changing its neighbours: edit it by hand")
    return new


def _with(data: Any, keys: Keys, value: Any) -> Any:
    inner = data if isinstance(data, dict) else {}
    if not keys:
        return value
    return {**inner, keys[0]: _with(inner.get(keys[0]), keys[1:], value)}


def _less(data: Any, keys: Keys) -> Any:
    if len(keys) == 1:
        return {key: value for key, value in data.items() if key != keys[0]}
    return {**data, keys[0]: _less(data[keys[0]], keys[1:])}


# --- writing --------------------------------------------------------------------------------------------


def _set(text: str, keys: Keys, value: Any) -> str:
    spot = _read(text)
    for depth, name in enumerate(keys):
        _reachable(text, spot, keys[:depth])
        if spot.kind != "map":
            raise Refused(f"'{'.'.join(keys[:depth])}' is not a mapping: edit it by hand")
        found = spot.get(name)
        if found is None:
            return _added(text, spot, keys, depth, value)
        key, child = found
        if child.empty and depth + 1 < len(keys) and not spot.flow:
            return _filled(text, key, child, keys, depth + 1, value)
        if child.empty and depth + 1 < len(keys):
            return _inline(text, key, child, _nested(keys[depth + 1 :], value, quoted=key.style == '"'))
        spot = child
    _reachable(text, spot, keys)
    return _replaced(text, key, spot, value)


def _replaced(text: str, key: NodeSpan, old: NodeSpan, value: Any) -> str:
    """Another value in the place of the old one."""
    if old.block and old.kind == "list" and isinstance(value, list) and value:
        return _relisted(text, old, value)
    written = _flow(value, old)
    if not old.block:
        return _inline(text, key, old, written)
    colon = _colon(text, key)
    first, last = _line_start(text, old.start), _after_line(text, old.end)
    return f"{text[:colon]} {written}{text[colon:first]}{text[last:]}"


def _inline(text: str, key: NodeSpan, old: NodeSpan, written: str) -> str:
    _colon(text, key)
    end = _content_end(text, old)
    gap = " " if text[old.start - 1] == ":" else ""
    return text[: old.start] + gap + written + text[end:]


def _colon(text: str, key: NodeSpan) -> int:
    """Where a value may begin: after the colon that follows the key."""
    match = re.compile(r"[ \t]*:").match(text, key.end)
    if match is None:
        raise Refused(f"the key '{key.raw}' is written with '?': edit it by hand")
    return match.end()


def _relisted(text: str, old: NodeSpan, values: Sequence[Any]) -> str:
    """A list over lines: what stays keeps its line, with its comment."""
    newline, indent = _newline(text), " " * _column(text, old.start)
    lines: dict[str, str] = {}
    for part in old.parts:
        if part.kind == "scalar":
            first = _line_start(text, part.start)
            lines.setdefault(_value_of(text, part), text[first : _line_end(text, part.end)])
    made = [
        lines.get(json.dumps(value)) or f"{indent}- {_flow(value, old.parts[0] if old.parts else None)}"
        for value in values
    ]
    first, last = _line_start(text, old.start), _line_end(text, old.end)
    return text[:first] + newline.join(made) + text[last:]


def _value_of(text: str, spot: NodeSpan) -> str:
    """A scalar's value as JSON, so that 1, true and "1" differ."""
    return json.dumps(_data(f"[{text[spot.start : spot.end]}]")[0])


def _added(text: str, spot: NodeSpan, keys: Keys, depth: int, value: Any) -> str:
    """A key that the map does not have, after its last one, with the sections on the way to the value."""
    quoted = bool(spot.items) and spot.items[-1][0].style == '"'
    if spot.flow:
        piece = _pair(keys[depth:], value, quoted=quoted)
        if not spot.items:
            return f"{text[: spot.start]}{{{piece}}}{text[spot.end :]}"
        end = spot.items[-1][1].end
        return f"{text[:end]}, {piece}{text[end:]}"
    indent = _column(text, spot.items[0][0].start)
    lines = _lines(text, keys, depth, value, indent, quoted=quoted)
    return _below(text, spot.end, lines)


def _appended(text: str, old: NodeSpan, item: Mapping[str, Any]) -> str:
    """One more value at the end of a list that has some."""
    if old.flow:
        end = old.parts[-1].end
        return f"{text[:end]}, {_flow(item, None)}{text[end:]}"
    return _below(text, old.end, _item_lines(item, _column(text, old.start)))


def _item_lines(item: Mapping[str, Any], indent: int) -> list[str]:
    """A mapping as an item of a list over lines; its own lists over lines too."""
    lines: list[str] = []
    for key, value in item.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"  - {_flow(one, None)}" for one in value)]
        else:
            lines.append(f"{key}: {_flow(value, None)}")
    return [f"{' ' * indent}{'  ' if number else '- '}{line}" for number, line in enumerate(lines)]


def _filled(text: str, key: NodeSpan, old: NodeSpan, keys: Keys, depth: int, value: Any) -> str:
    """A section that is left empty gets its first key."""
    text = text[: old.start] + text[old.end :]
    indent = _column(text, key.start) + _step(text)
    return _below(text, _colon(text, key), _lines(text, keys, depth, value, indent, quoted=key.style == '"'))


def _lines(text: str, keys: Keys, depth: int, value: Any, indent: int, *, quoted: bool) -> list[str]:
    """The lines of `keys` from `depth` on; in braces from where the file's own sections of that name are."""
    name = _text(keys[depth], quoted=quoted)
    lead = f"{' ' * indent}{name}: "
    if depth + 1 == len(keys):
        return [lead + _flow(value, None, quoted=quoted)]
    if _braces(text, keys[: depth + 1]):
        return [lead + _nested(keys[depth + 1 :], value, quoted=quoted)]
    below = _lines(text, keys, depth + 1, value, indent + _step(text), quoted=quoted)
    return [lead.rstrip(), *below]


def _below(text: str, end: int, lines: Sequence[str]) -> str:
    """The text with lines after the line that `end` is on."""
    newline = _newline(text)
    at = _after_line(text, end)
    before = "" if text[:at].endswith("\n") else newline
    after = newline if not before else ""
    return text[:at] + before + newline.join(lines) + after + text[at:]


def _out(text: str, keys: Keys, key: NodeSpan, value: NodeSpan, above: NodeSpan | None) -> str:
    assert above is not None
    if len(above.items) == 1:
        return _set(text, keys[:-1], {})
    if above.flow:
        return _out_of_braces(text, key, value, above)
    first, last = _line_start(text, key.start), _after_line(text, max(_content_end(text, value), key.end))
    if text[first : key.start].strip():
        raise Refused(f"the key '{key.raw}' does not start its line: remove it by hand")
    return text[:first] + text[last:]


def _out_of_braces(text: str, key: NodeSpan, value: NodeSpan, above: NodeSpan) -> str:
    index = next(n for n, (name, _) in enumerate(above.items) if name is key)
    if index + 1 < len(above.items):
        return text[: key.start] + text[above.items[index + 1][0].start :]
    return text[: above.items[index - 1][1].end] + text[value.end :]


# --- layout ---------------------------------------------------------------------------------------------


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _line_end(text: str, at: int) -> int:
    """Where the line ends, its line break not included."""
    end = text.find("\n", at)
    if end < 0:
        return len(text)
    return end - 1 if text[end - 1] == "\r" and end > at else end


def _after_line(text: str, at: int) -> int:
    """Where the next line begins; `at` itself where a line has just ended."""
    if at and text[at - 1] == "\n":
        return at
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _column(text: str, at: int) -> int:
    return at - _line_start(text, at)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _step(text: str) -> int:
    """By how many columns the file indents: as its first section does."""
    root = _read(text)
    steps = (
        _column(text, value.items[0][0].start) - _column(text, key.start)
        for key, value in root.items
        if value.kind == "map" and value.block and value.items
    )
    return max(next(steps, WIDTH), 1)


def _braces(text: str, keys: Keys) -> bool:
    """Whether the file writes sections of this name in braces, under `defaults` or in a job."""
    if len(keys) < 3:
        return False
    root = _read(text)
    found = [spot for spot in _alike(root, keys[2:]) if spot.kind == "map"]
    return bool(found) and found[0].flow


def _alike(root: NodeSpan, keys: Keys) -> Iterator[NodeSpan]:
    jobs = root.get("jobs")
    tops = [found[1] for found in (root.get("defaults"),) if found]
    tops += [job for _, job in jobs[1].items] if jobs else []
    for top in tops:
        spot: NodeSpan | None = top
        for key in keys:
            found = spot.get(key) if spot is not None else None
            spot = found[1] if found else None
        if spot is not None:
            yield spot


# --- values ---------------------------------------------------------------------------------------------


def _pair(keys: Keys, value: Any, *, quoted: bool) -> str:
    below = _nested(keys[1:], value, quoted=quoted) if keys[1:] else _flow(value, None, quoted=quoted)
    return f"{_text(keys[0], quoted=quoted)}: {below}"


def _nested(keys: Keys, value: Any, *, quoted: bool) -> str:
    return f"{{{_pair(keys, value, quoted=quoted)}}}"


def _flow(value: Any, old: NodeSpan | None, *, quoted: bool = False) -> str:
    """A value on one line, in the manner of the old one: its quotes, its way to write numbers."""
    quote = old.style if old is not None and old.kind == "scalar" else '"' if quoted else None
    if isinstance(value, list):
        like = old.parts[0] if old is not None and old.parts else None
        return f"[{', '.join(_flow(one, like, quoted=quoted) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(_pair((str(k),), v, quoted=quoted) for k, v in value.items())}}}"
    if isinstance(value, str):
        return _text(value, quoted=quote == '"', single=quote == "'")
    if isinstance(value, float):
        return _number(value, scientific=old is not None and bool(SCIENTIFIC.match(old.raw)))
    return json.dumps(value)


def _number(value: float, *, scientific: bool) -> str:
    """A float that every YAML reader takes for one: with a point, in `2.0e-4` as in `0.0002`."""
    shown = repr(value)
    if not scientific and "e" not in shown:
        return shown
    digits, _, exponent = f"{value:.16e}".partition("e")
    short = next(
        (f"{value:.{places}e}" for places in range(1, 17) if float(f"{value:.{places}e}") == value), ""
    )
    digits = (short or f"{digits}e{exponent}").partition("e")[0]
    return f"{digits}e{int(exponent)}"


def _text(value: str, *, quoted: bool = False, single: bool = False) -> str:
    """A text without quotes where that is safe, else in quotes."""
    if single and "\n" not in value and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if not quoted and PLAIN.fullmatch(value) and _data(f"[{value}]") == [value]:
        return value
    return UNPRINTABLE.sub(lambda one: f"\\u{ord(one[0]):04x}", json.dumps(value, ensure_ascii=False))
