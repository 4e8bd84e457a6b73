"""Turns the text of a policy file into a tree with places; says in one line what keeps it from that.

Only `ftcheck.policy.layers` and `overrides` import this module, when a policy is read. YAML 1.2 as
ruamel.yaml resolves it (`1e-5` is a number, `on` is a word), with less: no tags, no merge keys, no
second document. A date stays the text it is; the field that takes it decides.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML  # noqa: TID253
from ruamel.yaml.composer import Composer, ComposerError  # noqa: TID253
from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: TID253
from ruamel.yaml.nodes import MappingNode, SequenceNode  # noqa: TID253
from ruamel.yaml.reader import ReaderError  # noqa: TID253

from ftcheck.errors import Problem
from ftcheck.policy.tree import Node, ordered, problem
from ftcheck.records import Location

MAX_BYTES = 1 << 20
MAX_NODES = 10_000
MAX_DEPTH = 50
MAX_NUMBER = 2**63
TAG = "tag:yaml.org,2002:"
TEXT = {f"{TAG}{name}" for name in ("str", "timestamp", "value")}
SCALARS = {f"{TAG}{name}" for name in ("null", "bool", "int", "float")}
BOM = b"\xef\xbb\xbf"

Read = tuple[Node | None, tuple[Problem, ...]]


class _Unreadable(Exception):
    """The document cannot be made into a tree; carries the one problem that says why."""

    def __init__(self, message: str, at: Location) -> None:
        super().__init__(message)
        self.problem = problem(message, at)


class _Bounded(Composer):
    """A composer that stops early: no file is worth minutes of parsing before it is refused."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, f"more than {MAX_NODES:,} values", mark)
        return super().compose_node(parent, index)


def read(file: Path, shown: str) -> Read:
    """The tree of a policy file; `shown` is its path as messages name it."""
    at = Location(path=shown)
    try:
        text = _decoded(_bytes(file, at), at)
        _refuse_directives(text, at)
        tree, problems = parse(text, at=Location(path=shown, line=1, column=1), lines=True)
    except _Unreadable as error:
        return None, (error.problem,)
    if tree is not None and not isinstance(tree.value, dict):
        what = "a list" if isinstance(tree.value, tuple) else "one value"
        return None, (problem(f"must be a mapping of keys to values, not {what}", tree.at),)
    return tree, problems


def _bytes(file: Path, at: Location) -> bytes:
    if file.is_dir():
        raise _Unreadable("is a folder, not a policy file", at)
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _Unreadable("no such file", at) from None
    except OSError as error:
        raise _Unreadable(f"cannot be read: {error.strerror}", at) from None
    if len(content) > MAX_BYTES:
        raise _Unreadable("is larger than 1 MiB: that is no policy", at)
    return content


def _decoded(content: bytes, at: Location) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _Unreadable("is UTF-16: save it as UTF-8", replace(at, line=1, column=1))
    if content.startswith(BOM):
        remedy = "save it as UTF-8 without BOM"
        raise _Unreadable(f"begins with a byte-order mark (BOM): {remedy}", replace(at, line=1, column=1))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}"
        raise _Unreadable(f"{message}; save it as UTF-8", replace(at, line=line, column=column)) from None
    if not text.strip():
        raise _Unreadable("is empty: a policy begins with 'ftcheck: 1'", at)
    return text


def _refuse_directives(text: str, at: Location) -> None:
    found = re.match(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*%", text)
    if found:
        place = replace(at, line=found.group().count("\n") + 1, column=1)
        raise _Unreadable("a directive (%) is not supported: take the line out", place)


def parse(text: str, *, at: Location, lines: bool = False) -> Read:
    """The tree of a YAML text. With `lines` the places are those of the text, else all are `at`."""
    builder = _Builder(at, lines=lines)
    try:
        composed = _composed(text, builder)
        if composed is None:
            raise _Unreadable(
                "is empty: a policy begins with 'ftcheck: 1'", replace(at, line=None, column=None)
            )
        tree = builder.node(composed, at.yaml_path, None, 1)
    except _Unreadable as error:
        return None, (error.problem,)
    return tree, ordered(builder.problems)


def _composed(text: str, builder: "_Builder") -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.Composer = _Bounded
    try:
        return yaml.compose(StringIO(text))
    except ReaderError as error:
        place = builder.at_offset(text, error.position)
        raise _Unreadable(f"control character U+{_code(error):04X} is not allowed", place) from None
    except MarkedYAMLError as error:
        raise _Unreadable(_syntax(error), builder.place(error.problem_mark or error.context_mark)) from None
    except RecursionError:
        raise _Unreadable(f"is nested deeper than {MAX_DEPTH} levels", builder.at) from None
    except Exception as error:  # the parser meets untrusted text: whatever it stumbles over is one problem
        raise _Unreadable(f"not valid YAML: {' '.join(str(error).split())}", builder.at) from None


def _code(error: Any) -> int:
    return error.character if isinstance(error.character, int) else ord(error.character)


def _syntax(error: Any) -> str:
    problem_, context = str(error.problem or ""), str(error.context or "")
    if "maximum depth" in problem_:
        return f"is nested deeper than {MAX_DEPTH} levels"
    if problem_.startswith("more than"):
        return problem_
    if "found another document" in problem_:
        return "a second document begins here: a policy is one document"
    if "'\\t'" in problem_:
        return "a tab where YAML wants spaces: indent with spaces"
    if problem_ == "mapping values are not allowed here":
        return "a ':' where none can stand: look at the indentation, or quote a text that holds ': '"
    if problem_.startswith("found undefined alias"):
        name = problem_.removeprefix("found undefined alias ").strip("'")
        return f"'*{name}' is an alias of nothing; a text that begins with '*' needs quotes"
    if problem_.startswith("expected '<document start>'"):
        return "not valid YAML: indented less than the first key, or after the end of the document"
    if "that cannot start any token" in problem_:
        return f"not valid YAML: {problem_.split()[2]} cannot begin a value; put the text in quotes"
    begun = f" ({context}, begun on line {error.context_mark.line + 1})" if error.context_mark else ""
    return f"not valid YAML: {problem_ or context}{begun if problem_ else ''}"


class _Builder:
    """Builds the tree from ruamel's nodes and collects what is wrong on the way."""

    def __init__(self, at: Location, *, lines: bool) -> None:
        self.at = at
        self.problems: list[Problem] = []
        self._lines = lines
        self._count = 0

    def place(self, mark: Any, yaml_path: str | None = None) -> Location:
        """The place of a mark."""
        if not self._lines or mark is None:
            return replace(self.at, yaml_path=yaml_path or self.at.yaml_path)
        return Location(self.at.path, mark.line + 1, mark.column + 1, yaml_path)

    def at_offset(self, text: str, offset: int) -> Location:
        """The place of a character."""
        line = text.count("\n", 0, offset) + 1
        column = offset - (text.rfind("\n", 0, offset) + 1) + 1
        return replace(self.at, line=line, column=column) if self._lines else self.at

    def node(self, node: Any, path: str | None, key: Location | None, depth: int) -> Node | None:
        """The tree below a node of ruamel's; None where it holds nothing that can be used."""
        at = self.place(node.start_mark, path)
        self._count += 1
        if depth > MAX_DEPTH:
            message = f"is nested deeper than {MAX_DEPTH} levels (an alias in itself?)"
            raise _Unreadable(message, replace(at, yaml_path=None))
        if self._count > MAX_NODES:
            message = f"more than {MAX_NODES:,} values, with aliases written out"
            raise _Unreadable(message, replace(at, yaml_path=None))
        if isinstance(node, MappingNode):
            return self._tagged(node, at, "map") and Node(dict(self._items(node, path, depth)), at, key)
        if isinstance(node, SequenceNode):
            return self._tagged(node, at, "seq") and Node(tuple(self._list(node, path, depth)), at, key)
        return self._scalar(node, at, key)

    def _tagged(self, node: Any, at: Location, *names: str) -> Any:
        if str(node.tag) in {TAG + name for name in names}:
            return True
        short = str(node.tag).replace(TAG, "!!")
        self._wrong(f"the tag '{short}' is not allowed: a policy is plain data", at)
        return None

    def _list(self, node: Any, path: str | None, depth: int) -> Iterator[Node]:
        for index, item in enumerate(node.value):
            child = self.node(item, _joined(path, index), None, depth + 1)
            if child is not None:
                yield child

    def _items(self, node: Any, path: str | None, depth: int) -> Iterator[tuple[str, Node]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            at = self.place(key_node.start_mark, path)
            name = self._key(key_node, at)
            if name is None:
                continue
            at = replace(at, yaml_path=_joined(path, name))
            if name in first:
                self._wrong(f"the key '{name}' stands twice, on lines {first[name]} and {at.line}", at)
                continue
            first[name] = at.line or 0
            child = self.node(value_node, at.yaml_path, at, depth + 1)
            if child is not None:
                yield name, child

    def _key(self, node: Any, at: Location) -> str | None:
        if str(node.tag) == f"{TAG}merge":
            return self._wrong("merge keys (<<) are not supported: use 'defaults' or 'extends'", at)
        if isinstance(node, MappingNode | SequenceNode):
            return self._wrong("a key must be text, not a list or a mapping", at)
        if str(node.tag) != f"{TAG}str":
            return self._wrong(f"the key {node.value or '(empty)'} is not text: put it in quotes", at)
        return str(node.value) if self._is_text(node.value, at) else None

    def _scalar(self, node: Any, at: Location, key: Location | None) -> Node | None:
        tag = str(node.tag)
        if tag in TEXT:
            return Node(str(node.value), at, key) if self._is_text(node.value, at) else None
        if tag not in SCALARS:
            return None if self._tagged(node, at) else None
        try:
            value = _constructed(node)
        except (YAMLError, ValueError, OverflowError, KeyError, IndexError):
            return self._wrong(f"'{str(node.value)[:40]}' is not what its tag says", at)
        if isinstance(value, float) and not math.isfinite(value):
            return self._wrong(f"{node.value} is not a finite number (quote it if it is text)", at)
        if isinstance(value, int) and abs(value) >= MAX_NUMBER:
            return self._wrong("the number is too large (quote it if it is text)", at)
        return Node(value, at, key)

    def _is_text(self, text: str, at: Location) -> bool:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            self._wrong("holds half a character (a lone surrogate)", at)
            return False
        return True

    def _wrong(self, message: str, at: Location) -> None:
        self.problems.append(problem(message, at))


def _joined(path: str | None, step: str | int) -> str:
    return f"{path}.{step}" if path else str(step)


def _constructed(node: Any) -> str | int | float | bool | None:
    value: str | int | float | bool | None = YAML(typ="safe", pure=True).constructor.construct_object(node)
    return value
