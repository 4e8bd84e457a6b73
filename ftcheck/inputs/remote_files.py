"""Data files behind a URL: object storage through pyarrow (s3://, gs://, abfs://), the hub's through hf://.

Credentials and endpoints are those of the usual environment variables and files: `AWS_ACCESS_KEY_ID`,
`AWS_PROFILE`, `AWS_REGION`, `AWS_ENDPOINT_URL` and so on. Everything raises `OSError` with the URL and a
reason on one line, as files here do.
"""

import errno
import io
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO, cast

from ftcheck.inputs import bounded

URL = re.compile(r"(s3|gs|gcs|abfss?|hf)://(.+)", re.DOTALL)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
MAGIC = re.compile(r"[*?[]")
BUFFER = 4 << 20
"""Bytes that are asked for at once: a request takes as long as a megabyte does."""
CONNECT, REQUEST, ATTEMPTS = 5.0, 60.0, 3
"""Seconds to wait for a connection and for an answer, and how often a request is made."""
RETRYING = 15
"""Seconds for which Google's client tries again; its own limit is 15 minutes, without credentials too."""
AGAIN = 60
"""Seconds for which a store that did not answer is not asked again."""
REASON = 400
"""Characters of what a library says, which may be pages."""


def is_remote(name: str) -> bool:
    """Whether a name is the URL of a file that pyarrow or the hub's library opens."""
    return URL.fullmatch(name) is not None


def unread(name: str) -> str | None:
    """Which scheme of a URL nothing here opens: `https://`; None for a file, and for a URL that is read."""
    found = SCHEME.match(name)
    return found[0] if found and not is_remote(name) else None


def open_data(name: str) -> BinaryIO:
    """A data file, here or behind a URL, opened for reading bytes. Raises `OSError`."""
    if not is_remote(name):
        return bounded.open_file(name)
    with _told(name):
        system, path = _place(name)
        if name.startswith("abfs") and not system.get_file_info(path).is_file:
            # pyarrow 26 ends the process where it opens a file of Azure's without credentials; asking raises
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return cast(BinaryIO, io.BufferedReader(_Reader(name, system.open_input_file(path)), BUFFER))


def size_of(name: str) -> int:
    """Bytes of a data file, here or behind a URL. Raises `OSError`."""
    if not is_remote(name):
        return os.stat(name).st_size
    return int(_info(name).size or 0)


def stamp_here(name: str) -> tuple[int, int]:
    """Bytes and time (ns) of the last change of a file here, to tell it from what it was; else 0, 0."""
    try:
        status = os.stat(name)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def exists(name: str) -> bool:
    """Whether there is a file behind a URL. Raises `OSError` where nobody can tell."""
    return bool(_info(name).is_file)


def stamp(name: str) -> tuple[str, int | None, int | None]:
    """What changes when the file behind a URL is written: its size and time (the hub tells no time).

    Raises `OSError`.
    """
    info = _info(name)
    return name, info.size, info.mtime_ns


def matching(name: str) -> list[str]:
    """The URLs that a URL with `*`, `?`, `[]` or `**` in its path stands for, sorted; itself without them."""
    magic = MAGIC.search(name)
    if magic is None:
        return [name]
    with _told(name):
        import pyarrow.fs as pafs

        system, path = _place(name)
        folder = path[: MAGIC.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]
        deep = "/" in path[len(folder) + 1 :]
        selector = pafs.FileSelector(folder, recursive=deep, allow_not_found=True)
        pattern, root = _pattern(path), name.removesuffix(path.partition("/")[2])
        found = [one.path for one in system.get_file_info(selector) if one.is_file]
        return sorted(f"{root}{one.partition('/')[2]}" for one in found if pattern.fullmatch(one))


def _pattern(path: str) -> "re.Pattern[str]":
    """A glob as a pattern: `*` stays in a folder, `**/` is any number of them."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    found = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", path)
    return re.compile(
        "".join(parts.get(p) or (_signs(p) if p.startswith("[") else re.escape(p)) for p in found)
    )


def _signs(stated: str) -> str:
    """`[a-f]` and `[!a-f]` of a glob, as a pattern has them."""
    signs = re.sub(r"([\\[^])", r"\\\1", stated[1:-1])
    return f"[^{signs[1:]}]" if signs.startswith("!") else f"[{signs}]"


def _info(name: str) -> Any:
    with _told(name):
        system, path = _place(name)
        return system.get_file_info(path)


def _place(name: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it, which begins with a bucket or container."""
    found = URL.fullmatch(name)
    assert found is not None
    scheme, path = found.groups()
    if scheme == "hf":
        return _hub(), path
    store, _, rest = path.partition("/")
    system, bucket = _system(scheme, store)
    return system, f"{bucket}/{rest}" if bucket else rest


def forget() -> None:
    """Open file systems anew from now on, as the variables describe them then."""
    _system.cache_clear()
    _hub.cache_clear()
    _silent.clear()


@lru_cache(maxsize=32)
def _system(scheme: str, store: str) -> tuple[Any, str]:
    """The file system of what stands after `s3://`, and the bucket in it; none where the path begins with it.

    For Azure that is `CONTAINER@ACCOUNT.dfs.core.windows.net`, `ACCOUNT@CONTAINER` or an account's host.
    """
    import pyarrow.fs as pafs

    if scheme == "s3":
        return _s3(store), store
    limit = f"?retry_limit_seconds={RETRYING}" if scheme in ("gs", "gcs") else ""
    system, bucket = pafs.FileSystem.from_uri(f"{scheme}://{store}{limit}")
    return system, bucket.strip("/")


@lru_cache(maxsize=1)
def _hub() -> Any:
    import pyarrow.fs as pafs
    from huggingface_hub import HfFileSystem

    return pafs.PyFileSystem(pafs.FSSpecHandler(HfFileSystem()))


def _s3(bucket: str) -> Any:
    """S3 as the usual variables describe it; the region of the bucket is asked for where none says it."""
    import pyarrow.fs as pafs

    stated = os.environ.get
    endpoint = stated("AWS_ENDPOINT_URL_S3") or stated("AWS_ENDPOINT_URL")
    region = stated("AWS_REGION") or stated("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=CONNECT,
        request_timeout=REQUEST,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


_silent: dict[str, tuple[float, OSError]] = {}
"""Stores (`gs://bucket`) that did not answer: when, and what was said then."""


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What a library raises for a URL, as an `OSError` with its reason on one line.

    A store that did not answer is not waited for again for a while: a command asks for files more than once.
    """
    store, began = "/".join(name.split("/", 3)[:3]), time.monotonic()
    since, failure = _silent.get(store, (-AGAIN, OSError()))
    if began - since < AGAIN:
        raise OSError(failure.errno, failure.strerror, name)
    try:
        yield
    except Exception as error:
        found = _as_told(error, name)
        if time.monotonic() - began > CONNECT:
            _silent[store] = (time.monotonic(), found)
        raise found from error


def _as_told(error: Exception, name: str) -> OSError:
    if isinstance(error, OSError) and error.errno is not None and error.filename == name:
        return error
    number = (error.errno if isinstance(error, OSError) else None) or errno.EIO
    reason = os.strerror(number) if number == errno.ENOENT else " ".join(str(error).split())[:REASON]
    return OSError(number, reason or type(error).__name__, name)


class _Reader(io.RawIOBase):
    """A file of pyarrow's as a Python file. Its errors have a number: those of broken content have none."""

    def __init__(self, name: str, file: Any) -> None:
        self._name, self._file = name, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _told(self._name):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return int(self._file.tell())

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
