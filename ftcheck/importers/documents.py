"""Reads configurations of other frameworks into trees in which every key knows its line. Runs nothing."""

import re
from dataclasses import replace
from pathlib import Path

from ftcheck.errors import Problem
from ftcheck.policy import document
from ftcheck.policy.nodes import Node, problem
from ftcheck.policy.text import Unreadable, read_text
from ftcheck.records import Location

Read = tuple[Node | None, tuple[Problem, ...]]

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
        tree, problems = document.parse(text, at=Location(path=shown, line=1, column=1), lines=True)
    except Unreadable as error:
        return None, (_worded(error.problem),)
    if problems and _is_template(text):
        problems = tuple(_templated(text, one) for one in problems)
    if tree is not None and not isinstance(tree.value, dict):
        return None, (problem("is not a mapping of keys to values: no framework reads it", tree.at),)
    return tree, tuple(map(_worded, problems))


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
