"""Reads the text of a policy file; says in one line what keeps it from being a text."""

import errno
import os
import re
from dataclasses import replace
from pathlib import Path

from ftcheck.inputs import bounded
from ftcheck.policy.nodes import problem
from ftcheck.records import Location

MAX_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
EMPTY = "is empty: a policy starts with 'ftcheck: 1'"


class Wrong(Exception):
    """One key or value cannot be used; the rest of the document is read on."""

    def __init__(self, message: str, at: Location) -> None:
        super().__init__(message)
        self.problem = problem(message, at)


class Unreadable(Wrong):
    """The document cannot be made into a tree."""


def read_text(file: Path, at: Location) -> str:
    """The text of a file. Raises `Unreadable`."""
    text = _decoded(_bytes(file, at), at)
    _refuse_directives(text, at)
    return text


def _bytes(file: Path, at: Location) -> bytes:
    if os.path.isdir(file):
        raise Unreadable("is a folder, not a policy file", at)
    try:
        return bounded.read(file, MAX_BYTES)
    except FileNotFoundError:
        raise Unreadable("no such file", at) from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise Unreadable("is larger than 1 MiB, the limit for a policy file", at) from None
        raise Unreadable(f"cannot be read: {error.strerror or error}", at) from None


def _decoded(content: bytes, at: Location) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("is UTF-16: save it as UTF-8", replace(at, line=1, column=1))
    if content.startswith(BOM):
        remedy = "save it as UTF-8 without BOM"
        raise Unreadable(f"starts with a byte-order mark (BOM): {remedy}", replace(at, line=1, column=1))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}"
        raise Unreadable(f"{message}; save it as UTF-8", replace(at, line=line, column=column)) from None
    if not text.strip():
        raise Unreadable(EMPTY, at)
    return text


def _refuse_directives(text: str, at: Location) -> None:
    found = re.match(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*%", text)
    if found:
        place = replace(at, line=found.group().count("\n") + 1, column=1)
        raise Unreadable("a directive (%) is not supported: remove the line", place)
