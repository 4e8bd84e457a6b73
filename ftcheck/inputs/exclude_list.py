"""Rows that training does without: the list that `data.exclude` names, as `ftcheck fix` writes it.

JSON lines of `file` (relative to the list), `line` (from 1) and `record` (sha256 of the line), and for people
the `check` that asked for it. A row is left out only while that line still is that row: a data file that
changed makes the list an error, never a shorter one.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs import bounded

MOST = 0.1
"""Share of a data set that may be listed: more is a fault of the data set, not of single rows."""
REMEDY = "remove data.exclude from the policy and write a new list: ftcheck fix POLICY --unsafe"


@dataclass(frozen=True, slots=True, order=True)
class Excluded:
    """A row that is left out: absolute path of its file, its line from 1, sha256 of the line as hex."""

    file: str
    line: int
    record: str
    check: str = ""


def read(path: Path) -> tuple[Excluded, ...]:
    """The rows of a list. Raises `InputError` with every line that says none."""
    try:
        text = bounded.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise _wrong([Problem(f"data.exclude cannot be read: {reason}", str(path))]) from error
    rows: list[Excluded] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            made = _row(line, path.parent)
            if made is None:
                said = f'no excluded row: {{"file": ..., "line": 17, "record": sha256}} is one; {REMEDY}'
                problems.append(Problem(said, str(path), number))
            else:
                rows.append(made)
    if problems:
        raise _wrong(problems)
    return tuple(rows)


def _row(line: str, folder: Path) -> Excluded | None:
    try:
        stated: Any = bounded.loads(line)
    except ValueError:
        return None
    if not isinstance(stated, dict):
        return None
    file, number, record = stated.get("file"), stated.get("line"), stated.get("record")
    if not isinstance(file, str) or type(number) is not int or number < 1 or not isinstance(record, str):
        return None
    return Excluded(_absolute(folder / file), number, record, str(stated.get("check", "")))


def _absolute(path: Path | str) -> str:
    return os.path.abspath(path)


def written(rows: Iterable[Excluded], folder: Path) -> str:
    """The text of a list that lies in a folder: a row of it once, by file and line."""
    return "".join(_line(one, folder) for one in merged(rows))


def _line(one: Excluded, folder: Path) -> str:
    file = os.path.relpath(one.file, folder)
    said = {"file": file, "line": one.line, "record": one.record, "check": one.check}
    return json.dumps(said, ensure_ascii=False) + "\n"


def merged(rows: Iterable[Excluded]) -> tuple[Excluded, ...]:
    """Each row once, by file and line; the first check that asked for it is named."""
    by_place: dict[tuple[str, int], Excluded] = {}
    for one in rows:
        by_place.setdefault((one.file, one.line), one)
    return tuple(by_place[place] for place in sorted(by_place))


def by_file(path: Path, files: Sequence[str]) -> Mapping[int, Mapping[int, str]]:
    """The records of a list by file (its index among `files`) and line.

    Raises `InputError` for rows of a file that is no .jsonl file among these.
    """
    known = {_absolute(name): index for index, name in enumerate(files) if name.endswith(".jsonl")}
    found: dict[int, dict[int, str]] = {}
    strange: dict[str, None] = {}
    for one in read(path):
        if one.file in known:
            found.setdefault(known[one.file], {})[one.line] = one.record
        else:
            strange[one.file] = None
    if strange:
        said = "data.exclude names rows of {}, which is not a .jsonl file of data.train; {}"
        raise _wrong([Problem(said.format(name, REMEDY), str(path)) for name in strange])
    return found


def moved(path: Path, file: str, gone: int, total: int) -> InputError:
    """What to say of a list some of whose rows are not where they were."""
    said = f"data.exclude: {gone:,} of {total:,} excluded rows have moved or changed in {file}; {REMEDY}"
    return _wrong([Problem(said, str(path))])


def _wrong(problems: Sequence[Problem]) -> InputError:
    return InputError(problems[0].message, list(problems))
