"""Turns the text of a policy file into a tree with places; says in one line what keeps it from that.

Only `ftcheck.policy.layers` and `overrides` import this module, when a policy is read. YAML 1.2 as
ruamel.yaml resolves it (`1e-5` is a number, `on` is a word), with less: no tags, no merge keys, no
second document. A date stays the text it is; the field that takes it decides.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML  # noqa: TID253
from ruamel.yaml.composer import Composer, ComposerError  # noqa: TID253
from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: TID253
from ruamel.yaml.nodes import MappingNode, SequenceNode  # noqa: TID253
from ruamel.yaml.reader import ReaderError  # noqa: TID253

from ftcheck.errors import Problem
from ftcheck.policy.nodes import (
    Node,
    Scalar,
    ordered,
    problem,
)
from ftcheck.policy.text import EMPTY, Unreadable, Wrong, read_text
from ftcheck.records import Location

MAX_NODES = 10_000
MAX_DEPTH = 50
MAX_NUMBER = 2**63
TAG = "tag:yaml.org,2002:"
TEXT = {f"{TAG}{name}" for name in ("str", "timestamp", "value")}
SCALARS = {f"{TAG}{name}" for name in ("null", "bool", "int", "float")}

Read = tuple[Node | None, tuple[Problem, ...]]


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
        text = read_text(file, at)
        tree, problems = parse(text, at=Location(path=shown, line=1, column=1), lines=True)
    except Unreadable as error:
        return None, (error.problem,)
    if tree is not None and not isinstance(tree.value, dict):
        what = "a list" if isinstance(tree.value, tuple) else "one value"
        return None, (problem(f"must be a mapping of keys to values, not {what}", tree.at),)
    return tree, problems


@lru_cache(maxsize=8)  # a preset is extended by many policies of one command
def parse(text: str, *, at: Location, lines: bool = False) -> Read:
    """The tree of a YAML text. With `lines` the places are those of the text, else all are `at`."""
    builder = _Builder(at, lines=lines)
    try:
        composed = _composed(text, builder)
        if composed is None:
            raise Unreadable(EMPTY, replace(at, line=None, column=None))
        tree = builder.node(composed, at.yaml_path, None, 1)
    except Unreadable as error:
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
        raise Unreadable(f"control character U+{_code(error):04X} is not allowed", place) from None
    except MarkedYAMLError as error:
        raise Unreadable(_syntax(error), builder.place(error.problem_mark or error.context_mark)) from None
    except RecursionError:
        raise Unreadable(f"is nested deeper than {MAX_DEPTH} levels", builder.at) from None
    except Exception as error:  # the parser meets untrusted text: whatever it stumbles over is one problem
        raise Unreadable(f"not valid YAML: {' '.join(str(error).split())}", builder.at) from None


def _code(error: Any) -> int:
    return error.character if isinstance(error.character, int) else ord(error.character)


def _syntax(error: Any) -> str:
    problem_, context = str(error.problem or ""), str(error.context or "")
    if "maximum depth" in problem_:
        return f"is nested deeper than {MAX_DEPTH} levels"
    if problem_.startswith("more than"):
        return problem_
    if "found another document" in problem_:
        return "a second document starts here: a policy is a single YAML document"
    if "'\\t'" in problem_:
        return "tab used for indentation: indent with spaces"
    if problem_ == "mapping values are not allowed here":
        return "unexpected ':': check the indentation, or quote a text that contains ': '"
    if problem_.startswith("found undefined alias"):
        name = problem_.removeprefix("found undefined alias ").strip("'")
        return f"undefined alias '*{name}'; put a text that starts with '*' in quotes"
    if problem_.startswith("expected '<document start>'"):
        return "not valid YAML: indented less than the first key, or after the end of the document"
    if "that cannot start any token" in problem_:
        return f"not valid YAML: a value cannot start with {problem_.split()[2]}; put the text in quotes"
    begun = f" ({context}, started on line {error.context_mark.line + 1})" if error.context_mark else ""
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
        self._bounded(at, depth)
        try:
            if isinstance(node, MappingNode):
                _tagged(node, at, "map")
                return Node(dict(self._items(node, path, depth)), at, key)
            if isinstance(node, SequenceNode):
                _tagged(node, at, "seq")
                return Node(tuple(self._list(node, path, depth)), at, key)
            return Node(_scalar(node, at), at, key)
        except Unreadable:
            raise
        except Wrong as error:
            self.problems.append(error.problem)
            return None

    def _bounded(self, at: Location, depth: int) -> None:
        self._count += 1
        place = replace(at, yaml_path=None)
        if depth > MAX_DEPTH:
            raise Unreadable(f"is nested deeper than {MAX_DEPTH} levels (an alias in itself?)", place)
        if self._count > MAX_NODES:
            raise Unreadable(f"more than {MAX_NODES:,} values, with aliases written out", place)

    def _list(self, node: Any, path: str | None, depth: int) -> Iterator[Node]:
        for index, item in enumerate(node.value):
            child = self.node(item, _joined(path, index), None, depth + 1)
            if child is not None:
                yield child

    def _items(self, node: Any, path: str | None, depth: int) -> Iterator[tuple[str, Node]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            try:
                name, at = self._key(key_node, path, first)
            except Wrong as error:
                self.problems.append(error.problem)
                continue
            first[name] = at.line or 0
            child = self.node(value_node, at.yaml_path, at, depth + 1)
            if child is not None:
                yield name, child

    def _key(self, node: Any, path: str | None, first: dict[str, int]) -> tuple[str, Location]:
        at = self.place(node.start_mark, path)
        name = _name(node, at)
        at = replace(at, yaml_path=_joined(path, name))
        if name in first:
            raise Wrong(f"duplicate key '{name}', on lines {first[name]} and {at.line}", at)
        return name, at


def _tagged(node: Any, at: Location, *names: str) -> None:
    if str(node.tag) not in {TAG + name for name in names}:
        short = str(node.tag).replace(TAG, "!!")
        raise Wrong(f"the tag '{short}' is not allowed: a policy is plain data", at)


def _name(node: Any, at: Location) -> str:
    if str(node.tag) == f"{TAG}merge":
        raise Wrong("merge keys (<<) are not supported: use 'defaults' or 'extends'", at)
    if isinstance(node, MappingNode | SequenceNode):
        raise Wrong("a key must be text, not a list or a mapping", at)
    if str(node.tag) != f"{TAG}str":
        raise Wrong(f"the key {node.value or '(empty)'} is not text: put it in quotes", at)
    return _text(node, at)


@cache
def _constructor() -> Any:
    """What makes values of ruamel's scalar nodes: one for all documents, since it looks at nothing else.

    It is asked by `construct_non_recursive_object`: `construct_object` would remember each node, and answer
    None where one that could not be read is asked for again, by an alias.
    """
    return YAML(typ="safe", pure=True).constructor


def _scalar(node: Any, at: Location) -> Scalar:
    tag = str(node.tag)
    if tag in TEXT:
        return _text(node, at)
    if tag not in SCALARS:
        _tagged(node, at)
    try:
        value: Scalar = _constructor().construct_non_recursive_object(node)
    except (YAMLError, ValueError, OverflowError, KeyError, IndexError):
        raise Wrong(f"'{str(node.value)[:40]}' cannot be read as {tag.removeprefix(TAG)}", at) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise Wrong(f"{node.value} is not a finite number (quote it if it is text)", at)
    if isinstance(value, int) and abs(value) >= MAX_NUMBER:
        raise Wrong("the number is too large (quote it if it is text)", at)
    return value


def _text(node: Any, at: Location) -> str:
    text = str(node.value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Wrong("contains half a character (a lone surrogate)", at) from None
    return text


def _joined(path: str | None, step: str | int) -> str:
    return f"{path}.{step}" if path else str(step)
