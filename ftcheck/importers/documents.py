"""Reads configurations of other frameworks into trees in which every key knows its line. Runs nothing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ftcheck.errors import Problem
from ftcheck.inputs import bounded
from ftcheck.policy import document
from ftcheck.policy.nodes import Node, planted, problem, with_items
from ftcheck.policy.text import Unreadable, read_text
from ftcheck.records import Location

Read = tuple[Node | None, tuple[Problem, ...]]

SWITCHES = {
    word: value
    for name, value in {"yes": True, "on": True, "no": False, "off": False}.items()
    for word in (name, name.capitalize(), name.upper())
}
"""Words of YAML 1.1, which PyYAML reads."""
JINJA = re.compile(r"\{\{|\{%")
WORDS = (
    ("a policy is a single YAML document", "ftcheck reads a single YAML document"),
    ("a policy is plain data", "ftcheck runs no tags and reads no includes; write the value out"),
    ("use 'defaults' or 'extends'", "write the keys out"),
    (": a policy starts with 'ftcheck: 1'", ""),
    ("a policy file", "a configuration"),
    ("not a policy", "not a configuration"),
)
"""What the reader of policies says, and what it means of another program's file."""


def read(file: Path, shown: str) -> Read:
    """The tree of a YAML or JSON file, and what is wrong with it."""
    try:
        text = read_text(file, Location(path=shown))
        if file.suffix == ".json" and "\t" in text:
            return _json(text, shown)
        tree, problems = document.parse(text, at=Location(path=shown, line=1, column=1), lines=True)
    except Unreadable as error:
        return None, (_worded(error.problem),)
    if problems and _is_template(text):
        problems = tuple(_templated(text, one) for one in problems)
    if tree is not None and not isinstance(tree.value, dict):
        return None, (problem("is not a mapping of keys to values: no framework reads it", tree.at),)
    return _switched(tree, text.splitlines()) if tree is not None else None, tuple(map(_worded, problems))


def _json(text: str, shown: str) -> Read:
    """JSON that is indented with tabs is no YAML: its keys then have no lines."""
    try:
        value = bounded.loads(text.encode("utf-8"))
    except ValueError as error:
        return None, (problem(f"not valid JSON: {bounded.told(error)}", Location(shown)),)
    if not isinstance(value, dict):
        return None, (problem("is not a mapping of keys to values: no framework reads it", Location(shown)),)
    return planted(value, Location(shown)), ()


def _switched(node: Node, lines: Sequence[str]) -> Node:
    """The tree with words such as yes and off as PyYAML reads them: true or false, unless they are quoted."""
    if isinstance(node.value, Mapping):
        return with_items(node, {key: _switched(child, lines) for key, child in node.items.items()})
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(_switched(child, lines) for child in node.value))
    if not isinstance(node.value, str) or node.value not in SWITCHES or node.at.line is None:
        return node
    written = lines[node.at.line - 1][(node.at.column or 1) - 1 :]
    return replace(node, value=SWITCHES[node.value]) if written.startswith(node.value) else node


def _worded(one: Problem) -> Problem:
    message = one.message
    for ours, theirs in WORDS:
        message = message.replace(ours, theirs)
    return replace(one, message=message)


def _is_template(text: str) -> bool:
    return any(JINJA.search(_outside_quotes(line)) for line in text.splitlines())


def _outside_quotes(line: str) -> str:
    return re.sub(r"\"[^\"]*\"|'[^']*'|#.*", "", line)


def _templated(text: str, one: Problem) -> Problem:
    lines = text.splitlines()
    number = one.line or 0
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    if not JINJA.search(line):
        return one
    message = (
        "contains Jinja ({{ }} or {% %}), which is not YAML: render the file first, and import the result"
    )
    return replace(one, message=message)
