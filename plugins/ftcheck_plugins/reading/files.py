"""Streams rows out of data files, with the place and the digest of each: .jsonl .json .parquet .csv, hub."""

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, count, groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ftcheck.digest import canonical
from ftcheck.errors import InputError, MissingDependency, Problem
from ftcheck.inputs import bounded, exclude_list, prepared_folder
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.remote_files import exists, is_remote, open_data, size_of, unread
from ftcheck.paths import DATA_SUFFIXES, expand, is_hub_data
from ftcheck.records import Location
from ftcheck.settings import Sampling
from ftcheck_plugins.reading import parquet_rows
from ftcheck_plugins.reading.json_window import Fault, JsonWindow, Value
from ftcheck_plugins.reading.parquet_rows import RowGroups
from ftcheck_plugins.reading.raw_rows import RawRow, readable
from ftcheck_plugins.reading.row_shape import Shape

MAX_LINE = 16 << 20
"""Bytes of the longest line that is read: more tokens than any model takes, and minutes of tokenising."""
TOO_DEEP = RowError("json", "not readable: nested too deeply")
TOO_MANY_DIGITS = RowError("json", "contains a number with more digits than Python can read (4,300)")
TOO_LONG = RowError("json", f"longer than {MAX_LINE >> 20} MiB", "write one JSON object per line")


@dataclass(frozen=True, slots=True)
class Source:
    """The files of one data set, or the name of a data set on the hub.

    `excluded` are rows that are passed over as if they were not there: where they begin, by their file.
    `through` gives the rows where they are not taken from the files as they are (`reading.loaded`).
    `shape` renames and chooses rows, and `change` is what is made of each before anything looks at it.
    `picks` draws some of the rows that all this leaves (`reading.sampled`).
    """

    files: tuple[str, ...]
    hub: str | None = None
    excluded: Mapping[int, frozenset[int]] = field(default_factory=dict)
    through: "Callable[[], Iterator[RawRow]] | None" = None
    shape: Shape = field(default_factory=Shape)
    change: "Callable[[dict[str, Any]], dict[str, Any]] | None" = None
    picks: "Picks | None" = None

    def changed(self, rows: Iterable[RawRow]) -> Iterator[RawRow]:
        """The rows as the job wants them."""
        if self.change is None:
            yield from rows
            return
        for row in rows:
            yield row if row.data is None else row._replace(data=self.change(row.data))


class Drawn(Protocol):
    """Which rows were drawn: their numbers (int64, from 0, in order), and of how many."""

    @property
    def numbers(self) -> Any:
        """Of the rows that the source's shape leaves."""

    @property
    def of(self) -> int:
        """How many there are."""


class Picks(Protocol):
    """Draws rows of a source, and reads them."""

    @property
    def sampling(self) -> Sampling:
        """How many are asked for, and the seed."""

    def drawn(self, source: Source, *, offline: bool = False) -> Drawn | None:
        """The rows that are drawn; None where there are no more than are asked for."""

    def stream(self, source: Source, *, offline: bool) -> Iterator[RawRow]:
        """The rows that are drawn, in order, before `Source.change`."""

    def opening(self, source: Source, *, offline: bool = False) -> RawRow | None:
        """The first row of all; None where all rows are taken."""

    def pieces(self, source: Source, size: int) -> "list[Lines | RowGroups] | None":
        """The same as pieces of about `size` bytes: see `pieces`."""


def find(stated: str | Sequence[str], place: Location, what: str, exclude: str | None = None) -> Source:
    """The files that a path, a glob, a list of them, or a hub name stands for, but for the rows of a list.

    Raises `InputError`: with the policy place for a path that matches nothing, and for a list that does not
    fit.
    """
    paths: list[str] = []
    for one in [stated] if isinstance(stated, str) else stated:
        if is_hub_data(one):
            if exclude is not None:
                raise problem(f"{what}: data.exclude supports .jsonl files, not datasets on the hub", place)
            return Source(files=(one,), hub=one)
        paths.extend(_expand(one, place, what))
    for path in paths:
        if Path(path).suffix not in DATA_SUFFIXES:
            raise problem(f"{what}: {path}: unsupported; ftcheck reads {', '.join(DATA_SUFFIXES)}", place)
    return Source(files=tuple(paths), excluded=_excluded(Path(exclude), paths) if exclude is not None else {})


def _excluded(path: Path, files: Sequence[str]) -> dict[int, frozenset[int]]:
    """Where the rows of a list begin, in bytes, by file. Raises `InputError` for rows that are not there."""
    found: dict[int, frozenset[int]] = {}
    for index, wanted in exclude_list.by_file(path, files).items():
        found[index] = _where(files[index], wanted)
        if len(found[index]) < len(wanted):
            raise exclude_list.moved(path, files[index], len(wanted) - len(found[index]), len(wanted))
    return found


def _where(file: str, wanted: Mapping[int, str]) -> frozenset[int]:
    """Where those of the lines begin that still are the records that are wanted."""
    found, last = set(), max(wanted)
    try:
        with open_data(file) as handle:
            for number, (offset, raw) in enumerate(lines(handle, 0, sys.maxsize), start=1):
                if number in wanted and _record(raw).hex() == wanted[number]:
                    found.add(offset)
                if number == last:
                    break
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    return frozenset(found)


def _absent(path: str) -> str:
    scheme = unread(path)
    if scheme is None:
        return f"no such file: {path}"
    return f"{path}: {scheme} is not read: download the file, or use s3://, gs://, abfs:// or hf://"


def _expand(stated: str, place: Location, what: str) -> list[str]:
    try:
        found = expand(stated)
        missing = [one for one in found if is_remote(one) and not exists(one)]
    except OSError as error:
        raise problem(f"{what}: {stated}: cannot be read: {error.strerror or error}", place) from error
    if not found:
        raise problem(f"{what}: no file matches {stated}", place)
    for path in missing:
        raise problem(f"{what}: no such file: {path}", place)
    for path in [one for one in found if not is_remote(one)]:
        if os.path.isdir(path):
            if prepared_folder.is_saved(Path(path)):
                raise problem(f"{what}: {path} holds prepared rows: name it in data.prepared", place)
            raise problem(f"{what}: {path} is a folder: name the files, or use {path}/*.jsonl", place)
        if not os.path.exists(path):
            raise problem(f"{what}: {_absent(path)}", place)
    return found


def problem(message: str, place: Location) -> InputError:
    """What is wrong with what the policy states, at its place."""
    at = Problem(message, place.path, place.line, place.column, place.yaml_path)
    return InputError(message, [at])


def stream(source: Source, *, offline: bool = False) -> Iterator[RawRow]:
    """All rows of a data set, in order. Broken rows come with a trouble, and reading goes on."""
    if source.picks is not None:
        return source.changed(source.picks.stream(source, offline=offline))
    return source.changed(_shaped(source, offline) if source.shape else _stream(source, offline))


def _shaped(source: Source, offline: bool) -> Iterator[RawRow]:
    """The rows that the source's shape leaves, changed by it. To divide rows, they are counted first."""
    shape = source.shape
    rows: Iterable[RawRow] = islice(_stream(source, offline), shape.first)
    if shape.split is not None:
        total = sum(1 for _ in islice(_stream(source, offline), shape.first))
        try:
            rows = compress(rows, shape.split.rows(total))
        except ValueError as error:
            raise InputError(f"data.validation_split: {error}") from error
    yield from renamed(rows, shape)


def renamed(rows: Iterable[RawRow], shape: Shape) -> Iterator[RawRow]:
    """Rows with the names of columns and roles that a shape gives them."""
    for row in rows:
        made = shape.of(row.data) if row.data is not None else row.trouble
        data, trouble = (made, row.trouble) if isinstance(made, dict) else (None, made)
        yield row._replace(data=data, trouble=trouble)


def _stream(source: Source, offline: bool) -> Iterator[RawRow]:
    if source.through is not None:
        yield from source.through()
        return
    if source.hub is not None:
        yield from _hub(source.hub, offline)
        return
    for index, name in enumerate(source.files):
        excluded = source.excluded.get(index)
        try:
            if excluded:
                yield from Lines(index, name, excluded=excluded)
            else:
                yield from READERS[Path(name).suffix](index, name)
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error


def at_rows(source: Source, wanted: Sequence[tuple[int, int, int]], *, offline: bool = False) -> list[RawRow]:
    """Rows again, by (row index, file, offset), in data order."""
    return list(rows_at(source, wanted, offline=offline))


def rows_at(
    source: Source, wanted: Sequence[tuple[int, int, int]], *, offline: bool = False
) -> Iterator[RawRow]:
    """The same one after the other: JSON lines and row groups are sought, other files read through."""
    if lines_only(source):
        for file, places in groupby(wanted, key=itemgetter(1)):
            found = _sought(file, source.files[file], [offset for _, _, offset in places])
            yield from source.changed(found)
        return
    if _as_they_stand(source, ".parquet"):
        for file, places in groupby(wanted, key=itemgetter(1)):
            rows = [offset for _, _, offset in places]
            yield from source.changed(parquet_rows.rows_at(file, source.files[file], rows))
        return
    indices = {row for row, _, _ in wanted}
    chosen = (row for n, row in enumerate(stream(source, offline=offline)) if n in indices)
    yield from islice(chosen, len(indices))


def _sought(file: int, path: str, offsets: Sequence[int]) -> Iterator[RawRow]:
    try:
        with open_data(path) as handle:
            for offset in offsets:
                handle.seek(offset)
                yield _parse(file, 0, offset, handle.readline())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def size(source: Source) -> int:
    """Bytes of the files; 0 for a data set on the hub, and for files that are not there."""
    found = 0
    for name in () if source.hub is not None else source.files:
        with contextlib.suppress(OSError):
            found += size_of(name)
    return found


def pieces(source: Source, size: int) -> "list[Lines | RowGroups] | None":
    """JSON lines and Parquet in pieces of about `size` bytes, in order; None where there are other files, or
    files of another machine.
    """
    if any(map(is_remote, source.files)):
        return None
    if source.picks is not None:
        return source.picks.pieces(source, size)
    if not in_pieces(source):
        return None
    found: list[Lines | RowGroups] = []
    for file, name in enumerate(source.files):
        try:
            found += _pieces(source, file, name, size)
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    return found


def _pieces(source: Source, file: int, name: str, size: int) -> "Sequence[Lines | RowGroups]":
    if name.endswith(".parquet"):
        rows = max(1, size // parquet_rows.ROW)
        return parquet_rows.pieces(file, name, size, rows, source.changed)
    excluded = source.excluded.get(file, frozenset())
    return [Lines(file, name, *both, excluded, source.changed) for both in pairwise(edges(name, size))]


def in_pieces(source: Source) -> bool:
    """Whether the rows can be read piece by piece: all of those in JSON lines and Parquet files."""
    return source.picks is None and _as_they_stand(source, (".jsonl", ".parquet"))


def lines_only(source: Source) -> bool:
    """Whether the rows stand in JSON lines, and are taken as they stand there."""
    return _as_they_stand(source, ".jsonl")


def _as_they_stand(source: Source, suffix: str | tuple[str, ...]) -> bool:
    """Whether the rows stand in files of such a kind, and are taken as they stand there."""
    alone = source.hub is None and source.through is None and not source.shape
    return alone and all(name.endswith(suffix) for name in source.files)


def edges(path: str, size: int) -> list[int]:
    """Where lines begin, about `size` bytes apart; the first is 0, the last the size of the file.

    Raises `OSError`.
    """
    end = size_of(path)
    found = [0]
    with open_data(path) as handle:
        while found[-1] + size < end:
            handle.seek(found[-1] + size)
            _skip_line(handle)
            found.append(handle.tell())
    return [*found, end] if found[-1] < end else found


class Lines:
    """The rows of a file of JSON lines, or of its lines from byte `start` on and before `stop`.

    Lines are counted from 1, at the beginning of the piece; `count` are those that have been read.
    """

    def __init__(
        self,
        file: int,
        path: str,
        start: int = 0,
        stop: int = sys.maxsize,
        excluded: frozenset[int] = frozenset(),
        changed: Callable[[Iterable[RawRow]], Iterator[RawRow]] = iter,
    ) -> None:
        """`start` and `stop` must be where lines begin, and so must the `excluded` offsets; `changed` gives
        the rows as the job wants them.
        """
        self._excluded, self._changed = excluded, changed
        self.start, self.stop = start, stop
        self.count = 0
        self._file, self._path = file, path

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start

    def __iter__(self) -> Iterator[RawRow]:
        """The rows, blank lines left out. Raises `InputError` where the file cannot be read."""
        yield from readable(self._path, self._changed(self._rows()))

    def _rows(self) -> Iterator[RawRow]:
        self.count = 0
        with open_data(self._path) as handle:
            for offset, raw in lines(handle, self.start, self.stop):
                self.count += 1
                if offset in self._excluded:
                    continue
                if is_too_long(raw) or not raw.isspace():
                    yield line_row(self._file, self.count, offset, raw)


def lines(handle: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Where each line begins, and its bytes; of one that is too long the first `MAX_LINE` of them."""
    handle.seek(start)
    offset = start
    while offset < stop and (raw := handle.readline(MAX_LINE)):
        yield offset, raw
        offset += len(raw)
        if is_too_long(raw):
            offset += _skip_line(handle)


def line_row(file: int, line: int, offset: int, raw: bytes) -> RawRow:
    """The row of a line that is not blank, by its first `MAX_LINE` bytes."""
    if is_too_long(raw):
        return RawRow(file, line, offset, _record(raw), None, TOO_LONG)
    return _parse(file, line, offset, raw)


def is_too_long(raw: bytes) -> bool:
    """Whether these are the first bytes of a line that is longer than any that is read."""
    return len(raw) == MAX_LINE and not raw.endswith(b"\n")


def _record(raw: bytes) -> bytes:
    """The digest of a line's bytes, however it ends."""
    return hashlib.sha256(raw if is_too_long(raw) else raw.rstrip(b"\r\n")).digest()


def _jsonl(file: int, path: str) -> Iterator[RawRow]:
    return iter(Lines(file, path))


def _skip_line(handle: BinaryIO) -> int:
    """Read to the end of the line, piece by piece, and forget it; its length in bytes."""
    skipped = 0
    while raw := handle.readline(MAX_LINE):
        skipped += len(raw)
        if raw.endswith(b"\n"):
            break
    return skipped


def _parse(file: int, line: int, offset: int, raw: bytes) -> RawRow:
    content = raw.rstrip(b"\r\n")
    record = hashlib.sha256(content).digest()
    data, trouble = _decode(content)
    return RawRow(file, line, offset, record, data, trouble)


def _fast_loads() -> Callable[[bytes], Any] | None:
    """orjson (extra `fast`), where it is installed."""
    try:
        import orjson
    except ImportError:
        return None
    loads: Callable[[bytes], Any] = orjson.loads
    return loads


_loads = _fast_loads()


def _of_texts(value: Any) -> bool:
    """Whether a row holds texts only, alone or in messages: orjson reads numbers otherwise than json."""
    if type(value) is not dict:
        return False
    for item in value.values():
        if type(item) is list:
            for turn in item:
                if type(turn) is not dict:
                    return False
                for one in turn.values():
                    if type(one) is not str:
                        return False
        elif type(item) is not str:
            return False
    return True


def _decode(content: bytes) -> tuple[dict[str, Any] | None, RowError | None]:
    if _loads is not None:
        try:  # contextlib.suppress costs half as much as reading the row
            read = _loads(content)
        except ValueError:
            read = None
        if _of_texts(read):
            return read, None
    if content.startswith(b"\xef\xbb\xbf"):
        return None, RowError(
            "encoding", "starts with a byte order mark", "save the file as UTF-8 without BOM"
        )
    try:
        value = json.loads(content.decode("utf-8"))
        if b"\\u" in content and b"\\ud" in content.lower():
            canonical(value).encode("utf-8")
    except UnicodeEncodeError:
        return None, RowError("encoding", "contains a lone surrogate (half a character)", "fix the text")
    except UnicodeDecodeError as error:
        wrong = f"not UTF-8: byte 0x{content[error.start]:02x}"
        return None, RowError("encoding", wrong, "convert the file to UTF-8", error.start + 1)
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}"
        return None, RowError("json", message, "write one complete JSON object per line", error.colno)
    except RecursionError:
        return None, TOO_DEEP
    except ValueError:
        return None, TOO_MANY_DIGITS
    return _as_row(value, content)


def _as_row(value: Any, content: bytes) -> tuple[dict[str, Any] | None, RowError | None]:
    if not isinstance(value, dict):
        return None, RowError("schema", f"a row must be a JSON object, this is {_kind(value)}")
    if bounded.may_be_deep(content) and bounded.is_deep(value):
        return None, TOO_DEEP
    return value, None


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}
    return names.get(type(value), "null")


def _json(file: int, path: str) -> Iterator[RawRow]:
    """A JSON array, item by item, or JSON objects one after the other; what is neither ends in a trouble.

    As datasets reads such files (5.2): objects may stand in a line each, or over lines.
    """
    with open_data(path) as handle:
        try:
            window = JsonWindow(handle, MAX_LINE)
            first = window.peek()
            if first == "[":
                yield from _array(file, window)
            elif first:
                yield from _objects(file, handle)
            else:
                raise window.fault("not valid JSON: the file is empty")
        except Fault as fault:
            yield _broken(file, fault)


def _array(file: int, window: JsonWindow) -> Iterator[RawRow]:
    """The items of an array, behind which the file must end. Raises `Fault`."""
    window.take("[")
    more = window.peek() != "]"
    while more:
        line, offset = window.line, window.offset
        yield _item(file, line, offset, window.value())
        more = window.take(",")
    if not window.take("]"):
        wrong = "expecting ',' delimiter" if window.peek() else "the file ends inside the array"
        raise window.fault(f"not valid JSON: {wrong}")
    if window.peek():
        raise window.fault("not valid JSON: more text after the end of the array")


def _objects(file: int, handle: BinaryIO) -> Iterator[RawRow]:
    """JSON objects: as JSON lines as far as they are that, then one after the other."""
    for number, (offset, raw) in enumerate(lines(handle, 0, sys.maxsize), start=1):
        if raw.isspace():
            continue
        row = _parse(file, number, offset, raw)
        if row.data is None and (is_too_long(raw) or (row.trouble and row.trouble.code == "json")):
            handle.seek(offset)
            yield from _scattered(file, JsonWindow(handle, MAX_LINE, number, offset))
            return
        yield row


def _scattered(file: int, window: JsonWindow) -> Iterator[RawRow]:
    """JSON objects wherever they begin; after a broken one, from the next line that begins with one.

    A broken one that begins a line is that line, if the fault lies in it, or behind the next such line.
    """
    while window.peek():
        line, offset, at_start = window.line, window.offset, window.column == 1
        try:
            yield _item(file, line, offset, window.value())
        except Fault as fault:
            alone = window.rest_of_line() if at_start else None
            more = window.skip_to_line("{")
            in_line = fault.place.line == line or (more and window.line <= fault.place.line)
            yield _parse(file, line, offset, alone) if in_line and alone is not None else _broken(file, fault)
            if not more:
                return


def _item(file: int, line: int, offset: int, read: Value) -> RawRow:
    """A row of a value that was read."""
    data, trouble = _decode(read.content) if read.doubtful else _as_row(read.value, read.content)
    return RawRow(file, line, offset, hashlib.sha256(read.content).digest(), data, trouble)


def _broken(file: int, fault: Fault) -> RawRow:
    remedy = "one array of objects, or one JSON object a line"
    wrong = RowError(fault.code, fault.message, remedy, fault.place.column)
    record = hashlib.sha256(fault.near).digest()
    return RawRow(file, fault.place.line, fault.place.offset, record, None, wrong)


def _csv(file: int, path: str) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_LINE)
    with open_data(path) as handle:
        text = io.TextIOWrapper(handle, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, strict=True)
        names: list[str] | None = None
        line = 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as error:
                code = "encoding" if isinstance(error, UnicodeDecodeError) else "json"
                digest = hashlib.sha256(f"{path}:{line}".encode()).digest()
                yield RawRow(file, line, 0, digest, None, RowError(code, f"not CSV: {error}"))
                return
            if cells and names is None:
                names = _columns(cells)
            elif cells and names is not None:
                yield _plain(file, line, names, cells)
            line = reader.line_num + 1


def _columns(header: Sequence[str]) -> list[str]:
    """Names of columns; a name that was there before gets a number, as pandas and so datasets names it."""
    names: list[str] = []
    for name in header:
        again = (f"{name}.{number}" for number in count(1))
        names.append(name if name not in names else next(one for one in again if one not in names))
    return names


def _plain(file: int, line: int, names: Sequence[str], cells: Sequence[str]) -> RawRow:
    fits = len(cells) == len(names)
    values = dict(zip(names, cells, strict=True)) if fits else None
    known = values if fits else [*names, *cells]
    record = hashlib.sha256(canonical(known).encode("utf-8", "surrogatepass")).digest()
    if fits:
        return RawRow(file, line, 0, record, values)
    wrong = RowError("schema", f"this row has {len(cells)} columns, the header {len(names)}")
    return RawRow(file, line, 0, record, None, wrong)


def _parquet(file: int, name: str) -> Iterator[RawRow]:
    return iter(RowGroups(file, name))


def _hub(name: str, offline: bool) -> Iterator[RawRow]:
    """A data set from the hub, `owner/name` or `owner/name:split` (default split: train)."""
    for line, values in enumerate(load_hub(name, offline), start=1):
        yield hub_row(line, values)


def hub_row(line: int, values: Mapping[str, Any]) -> RawRow:
    """A row of a data set on the hub, by its position from 1."""
    record = hashlib.sha256(canonical(values).encode("utf-8", "surrogatepass")).digest()
    return RawRow(0, line, 0, record, dict(values))


def load_hub(name: str, offline: bool, *, streaming: bool = False) -> Iterable[dict[str, Any]]:
    """The rows of a data set on the hub; with `streaming` nothing is kept on this machine."""
    repository, _, split = name.partition(":")
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency(
            f"the hub dataset {repository} needs the library datasets", "train"
        ) from error
    if offline:
        datasets.config.HF_HUB_OFFLINE = True
    try:
        rows: Iterable[dict[str, Any]] = datasets.load_dataset(
            repository, split=split or "train", streaming=streaming
        )
    except Exception as error:
        message = f"hub dataset {repository}: {type(error).__name__}: {error}"
        remedy = "; with --offline it must be in the cache already" if offline else ""
        raise InputError(" ".join(message.split()) + remedy) from error
    return rows


READERS: Mapping[str, Callable[[int, str], Iterator[RawRow]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
