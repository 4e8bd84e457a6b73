"""Data files behind a URL: object storage through pyarrow (s3://, gs://, abfs://), the hub's through hf://.

Credentials and endpoints are those of the usual environment variables and files: `AWS_ACCESS_KEY_ID`,
`AWS_PROFILE`, `AWS_REGION`, `AWS_ENDPOINT_URL` and so on. Everything raises `OSError` with the URL and a
reason on one line, as files here do.
"""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO, cast

from ftcheck.inputs import bounded

URL = re.compile(r"(s3|gs|gcs|abfss?|hf)://(.+)", re.DOTALL)
MAGIC = re.compile(r"[*?[]")
BUFFER = 4 << 20
"""Bytes that are asked for at once: a request takes as long as a megabyte does."""
CONNECT, REQUEST, ATTEMPTS = 5.0, 60.0, 3
"""Seconds to wait for a connection and for an answer, and how often a request is made."""


def is_remote(name: str) -> bool:
    """Whether a name is the URL of a file that pyarrow or the hub's library opens."""
    return URL.fullmatch(name) is not None


def open_data(name: str) -> BinaryIO:
    """A data file, here or behind a URL, opened for reading bytes. Raises `OSError`."""
    if not is_remote(name):
        return bounded.open_file(name)
    with _told(name):
        system, path = _place(name)
        return cast(BinaryIO, io.BufferedReader(_Reader(name, system.open_input_file(path)), BUFFER))


def size_of(name: str) -> int:
    """Bytes of a data file, here or behind a URL. Raises `OSError`."""
    if not is_remote(name):
        return os.stat(name).st_size
    return int(_info(name).size or 0)


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
        pattern, scheme = _pattern(path), name.partition("://")[0]
        found = [one.path for one in system.get_file_info(selector) if one.is_file]
        return sorted(f"{scheme}://{one}" for one in found if pattern.fullmatch(one))


def _pattern(path: str) -> "re.Pattern[str]":
    """A glob as a pattern: `*` stays in a folder, `**/` is any number of them."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    found = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", path)
    return re.compile("".join(parts.get(p) or (p if p.startswith("[") else re.escape(p)) for p in found))


def _info(name: str) -> Any:
    with _told(name):
        system, path = _place(name)
        return system.get_file_info(path)


def _place(name: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    found = URL.fullmatch(name)
    assert found is not None
    scheme, path = found.groups()
    bucket = path.partition("/")[0]
    return _system(scheme, bucket if scheme != "hf" else ""), path


def forget() -> None:
    """Open file systems anew from now on, as the variables describe them then."""
    _system.cache_clear()


@lru_cache(maxsize=32)
def _system(scheme: str, bucket: str) -> Any:
    import pyarrow.fs as pafs

    if scheme == "s3":
        return _s3(bucket)
    if scheme == "hf":
        from huggingface_hub import HfFileSystem

        return pafs.PyFileSystem(pafs.FSSpecHandler(HfFileSystem()))
    return pafs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]


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


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What a library raises for a URL, as an `OSError` with its reason on one line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename == name:
            raise
        number = (error.errno if isinstance(error, OSError) else None) or errno.EIO
        reason = os.strerror(number) if number == errno.ENOENT else " ".join(str(error).split())
        raise OSError(number, reason or type(error).__name__, name) from error


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
