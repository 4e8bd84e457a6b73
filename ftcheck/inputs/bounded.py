"""Reads files that anybody may have written: regular files only, within bounds of size, depth and time.

What is no regular file (a named pipe, a device, a socket, a folder) is never waited for. Errors are those
that readers catch anyway: `OSError` with the reason in `strerror`, and `ValueError` for content.
"""

import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

MAX_BYTES = 64 << 20
"""Bytes of a configuration, a report or a list; files that are larger are no such thing."""
MAX_DEPTH = 200
"""Levels of lists and objects in each other. Python's limit is near 1,000 calls, and readers nest them."""
MAX_SECONDS = 60.0
"""Time for reading one file of bounded size: a file system slower than 1 MiB per second has failed."""
CHUNK = 1 << 20
KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class TooDeep(ValueError):
    """JSON with more than `MAX_DEPTH` levels."""

    def __init__(self) -> None:
        """The message is the class's own."""
        super().__init__(f"nested deeper than {MAX_DEPTH} levels")


def open_file(path: str | Path) -> BinaryIO:
    """A regular file, opened for reading bytes; nothing else is opened, or waited for. Raises `OSError`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a name with a NUL character
        raise OSError(errno.EINVAL, "not a path", str(path)) from error
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise _irregular(path, "a socket") from error
        raise
    try:
        kind = _kind(os.fstat(handle).st_mode)
        if kind is not None:
            raise _irregular(path, kind)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _kind(mode: int) -> str | None:
    """What stands there in place of a regular file; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return "a folder"
    return next((words for test, words in KINDS if test(mode)), "no regular file")


def _irregular(path: str | Path, kind: str) -> OSError:
    if kind == "a folder":
        return IsADirectoryError(errno.EISDIR, "is a folder: name a file in it", str(path))
    return OSError(errno.EINVAL, f"is {kind}: save what it gives to a file, and name that file", str(path))


def refuse_special(paths: Iterable[Path]) -> None:
    """Raise `OSError` for the first that is neither a file nor a folder: a library would wait for it."""
    for path in paths:
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError):
            continue
        kind = _kind(mode)
        if kind not in (None, "a folder"):
            raise _irregular(path, kind or "")


def read(path: str | Path, limit: int = MAX_BYTES) -> bytes:
    """All bytes of a regular file. Raises `OSError`, also for one with more than `limit` bytes."""
    end = time.monotonic() + MAX_SECONDS
    parts: list[bytes] = []
    size = 0
    with open_file(path) as file:
        while chunk := file.read(min(CHUNK, limit + 1 - size)):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise OSError(errno.EFBIG, f"is larger than {_sized(limit)}", str(path))
            if time.monotonic() > end:
                raise TimeoutError(errno.ETIMEDOUT, f"was not read within {MAX_SECONDS:g} s", str(path))
    return b"".join(parts)


def _sized(limit: int) -> str:
    return f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit:,} bytes"


def read_text(path: str | Path, limit: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file. Raises `OSError`, and `UnicodeDecodeError` (a `ValueError`)."""
    return read(path, limit).decode("utf-8")


def read_json(path: str | Path, limit: int = MAX_BYTES, **switches: Any) -> Any:
    """The value of a JSON file. Raises `OSError`, and `ValueError` for what `loads` does not read."""
    return loads(read(path, limit), **switches)


def read_object(path: str | Path) -> dict[str, Any]:
    """The object of a JSON file. Raises `ValueError` with all that a user needs: place and reason."""
    try:
        value = read_json(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {told(error)}") from error
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise ValueError(f"{place}: not valid JSON: {error.msg.lower()}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not readable JSON ({told(error)})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: must contain a JSON object")
    return value


def loads(content: bytes | str, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """`json.loads`, with `ValueError` for all that it cannot read: broken, too deep, numbers too long."""
    try:
        value = json.loads(content, object_pairs_hook=pairs)
    except RecursionError:
        raise TooDeep from None
    if may_be_deep(content) and is_deep(value):
        raise TooDeep
    return value


def may_be_deep(content: bytes | str) -> bool:
    """Whether a JSON text has enough brackets to be nested too deeply."""
    if isinstance(content, bytes):
        return content.count(b"[") + content.count(b"{") > MAX_DEPTH
    return content.count("[") + content.count("{") > MAX_DEPTH


def is_deep(value: Any) -> bool:
    """Whether a JSON value has more than `MAX_DEPTH` levels. Goes level by level: no recursion."""
    level = _containers([value])
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [part for one in level for part in _containers(one.values() if type(one) is dict else one)]
    return bool(level)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [one for one in values if isinstance(one, dict | list)]


def told(error: Exception) -> str:
    """What kept a file from being read, in a few words that quote nothing of it."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg[0].lower()}{error.msg[1:]}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start:,}"
    return str(error) if isinstance(error, TooDeep) else "it holds a number with too many digits"


def expanded(path: str) -> str:
    """A path with `~` and `~user` written out; of a user that is unknown it stays as it is."""
    return os.path.expanduser(path)
