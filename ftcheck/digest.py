"""Digests: canonical JSON, files, folders. All are `sha256:` and 64 hex digits."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ftcheck.inputs.remote_files import open_data

CHUNK = 1 << 20


def of_bytes(data: bytes) -> str:
    """Digest of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def of_text(text: str) -> str:
    """Digest of a text (UTF-8)."""
    return of_bytes(text.encode("utf-8", "surrogatepass"))


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def of_json(value: Any) -> str:
    """Digest of a value, by its canonical JSON."""
    return of_text(canonical(value))


def of_file(path: Path | str) -> str | None:
    """Digest of a file's bytes; None if it cannot be read. The URL of a file is a `str`."""
    hasher = hashlib.sha256()
    try:
        with open_data(str(path)) as file:
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
    except OSError:
        return None
    return "sha256:" + hasher.hexdigest()


def of_files(paths: Sequence[Path | str]) -> str | None:
    """Digest of several files, their names and order included; None if one cannot be read.

    A single file's digest is the file's own, so that `sha256sum` shows the same.
    """
    digests = [of_file(path) for path in paths]
    if any(digest is None for digest in digests) or not digests:
        return None
    if len(digests) == 1:
        return digests[0]
    return of_json([[os.path.basename(path), digest] for path, digest in zip(paths, digests, strict=True)])


def of_named(folder: Path, names: Iterable[str]) -> str | None:
    """Digest of those files of a folder that exist; None if none does."""
    found = {name: of_file(folder / name) for name in sorted(names) if (folder / name).is_file()}
    return of_json(found) if found and all(found.values()) else None


def beginning(value: str, digits: int = 8) -> str:
    """A digest as people see it: how it was made, and its first digits (`sha256:0a1b2c3d…`)."""
    form, colon, rest = value.partition(":")
    return f"{form}{colon}{rest[:digits]}…" if len(rest) > digits else value
