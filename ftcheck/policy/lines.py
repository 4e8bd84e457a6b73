"""Writes a tree as lines of YAML that read back as the same tree, each with the place that it is from."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ftcheck.policy.nodes import Node, with_items
from ftcheck.records import ON_COMMAND_LINE
from ftcheck.report.redact import redact_json

WIDTH = 100
PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./+ -]*(?<! )")
UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}

Line = tuple[str, Node]


def block(node: Node, indent: str, *, origin: bool) -> Iterator[str]:
    """A mapping as lines of YAML, without secrets; with `origin` each says where its value is from."""
    lines = list(mapping(redacted(node), indent))
    width = min(max((len(text) for text, _ in lines), default=0), WIDTH)
    for text, one in lines:
        yield f"{text:<{width}}  # {origin_of(one)}" if origin and not one.items else text


def redacted(node: Node, name: str = "") -> Node:
    """The tree without secrets, as in reports."""
    if isinstance(node.value, Mapping):
        return with_items(node, {key: redacted(child, key) for key, child in node.items.items()})
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(redacted(item, name) for item in node.value))
    return replace(node, value=redact_json({name: node.value})[name])


def origin_of(node: Node) -> str:
    """The file and line that a value is from, or whose default it is."""
    at = node.place
    if at.line is None and at.yaml_path and at.path != ON_COMMAND_LINE:
        return f"{at.path}: {at.yaml_path}"
    return f"{at.path}:{at.line}" if at.line else str(at.path)


def mapping(node: Node, indent: str) -> Iterator[Line]:
    """The lines of a mapping, each with its node."""
    for key, child in node.items.items():
        yield from _entry(f"{indent}{quoted(key)}:", child, f"{indent}  ")


def _entry(head: str, node: Node, indent: str) -> Iterator[Line]:
    """One value: on the line of its key, or in a block below it."""
    if node.items:
        yield head, node
        yield from mapping(node, indent)
    elif isinstance(node.value, tuple) and any(item.items for item in node.value):
        yield head, node
        for item in node.value:
            yield from _item(item, indent)
    else:
        yield f"{head} {_flow(node)}", node


def _item(node: Node, indent: str) -> Iterator[Line]:
    lines = list(mapping(node, f"{indent}  ")) if node.items else [(f"{indent}  {_flow(node)}", node)]
    first, *rest = lines
    yield f"{indent}- {first[0][len(indent) + 2 :]}", first[1]
    yield from rest


def _flow(node: Node) -> str:
    if isinstance(node.value, Mapping):
        return "{" + ", ".join(f"{quoted(key)}: {_flow(child)}" for key, child in node.items.items()) + "}"
    if isinstance(node.value, tuple):
        return "[" + ", ".join(_flow(item) for item in node.value) + "]"
    return quoted(node.value) if isinstance(node.value, str) else json.dumps(node.value)


def quoted(text: str) -> str:
    """A text as YAML reads it back, in quotes where it needs them."""
    if PLAIN.fullmatch(text) and text.lower() not in WORDS:
        return text
    return UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))
