"""The cache on disk: entries named by what went into them, each whole or not there. Opens no library.

One root holds all that ftcheck may lose: `last` (what failed, for `--lf`) and `prepared`, the entries of
this module. An entry is a folder of files beside a `manifest.json` that has the size and the digests of
each. It is written under another name and renamed at the end, and looked over before it is used: one
that is not as it was written is removed, and the work is done again.

A cache may be shared by several users, on a network path too: FTCHECK_CACHE_TRUST names those whose entries
are used as one's own. Each user's entries have names of their own. Those of others are never removed, and
those of users that are not named are not opened. Where the file system has locks, whoever needs an entry that
another process makes waits for it; where it has none, both make it, and one is kept.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck.errors import UsageError
from ftcheck.inputs import bounded
from ftcheck.inputs.work_folders import OWNER, clear, locked, work_folder

SCHEMA = "ftcheck.cache/1"
MANIFEST = "manifest.json"
HIDDEN = "."
MAKING = ".making-"
GONE = ".gone-"
LOCK = ".lock-"
LOOK_EVERY = 0.1
"""Seconds between looks at a lock that another process holds."""
STALE = 86_400.0
"""Seconds after which what a killed run left half made is swept up."""
PIECE = 16 << 20
"""Files are digested in pieces of so many bytes, several at once."""
READ = 1 << 20
DEFAULT_LIMIT = 10 << 30
UNITS = {"": 1, "B": 1}
UNITS |= {f"{letter}IB": 1 << (10 * n) for n, letter in enumerate("KMGT", start=1)}
UNITS |= {f"{letter}B": 1000**n for n, letter in enumerate("KMGT", start=1)}
SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


def root() -> Path:
    """Where ftcheck keeps what it may lose: FTCHECK_CACHE, else the user's cache folder as the system has it.

    On Linux that is `$XDG_CACHE_HOME/ftcheck`, or `~/.cache/ftcheck` where that is not set.
    """
    from platformdirs import user_cache_path

    stated = os.environ.get("FTCHECK_CACHE")
    return Path(stated) if stated else user_cache_path("ftcheck", appauthor=False)


def limit() -> int:
    """Bytes that the entries may take: FTCHECK_CACHE_SIZE such as `20 GiB`, else 10 GiB.

    Raises `UsageError` for what is no size.
    """
    return stated_size("FTCHECK_CACHE_SIZE", DEFAULT_LIMIT)


def stated_size(variable: str, default: int) -> int:
    """Bytes that an environment variable states, such as `20 GiB`; the default where it is not set.

    Raises `UsageError` for what is no size.
    """
    stated = os.environ.get(variable)
    if not stated:
        return default
    found = SIZE.fullmatch(stated)
    unit = found[2].upper() if found else ""
    if found is None or unit not in UNITS:
        raise UsageError(f"{variable} is '{stated}'; write a size such as 20GiB or 500MB")
    return int(float(found[1]) * UNITS[unit])


def trusted() -> frozenset[int] | None:
    """Numbers of the users whose entries are used: FTCHECK_CACHE_TRUST, `ci,alice` or `1001,1002`.

    None where it is not set: the cache is nobody else's. Raises `UsageError` for a user who is unknown.
    """
    stated = os.environ.get("FTCHECK_CACHE_TRUST")
    if stated is None or os.name != "posix":
        return None
    return frozenset(_user(one.strip()) for one in stated.split(",") if one.strip())


def _user(stated: str) -> int:
    import pwd

    try:
        return int(stated) if stated.isdecimal() else pwd.getpwnam(stated).pw_uid
    except KeyError:
        raise UsageError(f"FTCHECK_CACHE_TRUST names '{stated}', who is no user of this machine") from None


def user_name(number: int) -> str:
    """A user by name; by number where the system has no name."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def store() -> "Store":
    """The entries of this user, and of those whom FTCHECK_CACHE_TRUST names.

    Raises `UsageError` for a size limit that is none, and for an unknown user.
    """
    return Store(root() / "prepared", limit(), trusted())


def usable_store(wanted: bool, note: Callable[[str], None]) -> "Store | None":
    """The store; None where it is not `wanted`, or its size limit is none, of which `note` is told."""
    if not wanted:
        return None
    try:
        return store()
    except UsageError as error:
        note(f"the cache is not available: {error}")
        return None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `size` in bytes; `used` in seconds since 1970; None for what a broken manifest hides."""

    name: str
    size: int
    used: float
    job: str | None = None
    split: str | None = None
    rows: int | None = None
    tokens: int | None = None
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was removed: entries, and their bytes."""

    entries: int
    size: int


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of entries and the bytes it may hold. Safe for several processes at once."""

    folder: Path
    limit: int = DEFAULT_LIMIT
    trusted: frozenset[int] | None = None
    """Other users whose entries are used; None for a cache of one's own."""

    @property
    def shared(self) -> bool:
        """Whether other users have entries here."""
        return self.trusted is not None

    def uses(self, owner: int) -> bool:
        """Whether a user's entries are used."""
        return owner == _me() or owner in (self.trusted or ())

    def _name(self, key: str, owner: int | None = None) -> str:
        """The entry of a key; each user's own where they share the cache."""
        name = key.removeprefix("sha256:")[:40]
        return f"{name}.{_me() if owner is None else owner}" if self.shared else name

    def _refused(self) -> str | None:
        """Why what lies in the folder is not to be trusted."""
        return _foreign(self.folder) if self.trusted is None else _unsafe(self.folder, self.trusted)

    @contextlib.contextmanager
    def alone(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Make an entry while no other process makes it; `waiting` is called ten times a second until then.

        Look for it again inside: whoever was first may have kept it. Without locks nobody waits.
        """
        handle, path = None, self.folder / f"{LOCK}{self._name(key)}"
        with contextlib.suppress(OSError):
            self._make_folder()
            handle = _held(path, waiting)
        try:
            yield
        finally:
            if handle is not None:
                with contextlib.suppress(OSError):
                    path.unlink()
                os.close(handle)

    def _make_folder(self) -> None:
        """The folder, for its owner alone; a shared one for its group, each of whom removes his own only."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o3770 if self.shared else 0o700)

    def find(self, key: str, *, later: Collection[str] = ()) -> Path | None:
        """The folder of the entry `key`, each byte of it as it was written; else None.

        What is broken is removed. Never raises: what cannot be read is not there. Of the files named by
        `later` only the size is looked at: ask `whole` before one of them is read.
        """
        for owner in (_me(), *sorted(self.trusted or ())):
            entry = self.folder / self._name(key, owner)
            try:
                if not entry.is_dir() or self._refused() is not None:
                    continue
                _look_over(entry, key, later, owner if self.shared else None)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                self._remove(entry.name)
                continue
            with contextlib.suppress(OSError):
                os.utime(entry / MANIFEST)
            return entry
        return None

    def whole(self, entry: Path, name: str) -> bool:
        """Whether a file of an entry that `find` found is there, each byte as it was written."""
        try:
            stated = bounded.read_json(entry / MANIFEST)
            return _is_whole(entry / name, stated["files"][name], stated["piece"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def keep(
        self, key: str, files: Path, about: Mapping[str, Any], more: Mapping[str, bytes] | None = None
    ) -> str | None:
        """Make an entry of the files in a folder, and of `more`; then remove what is over the limit.

        `about` has `job`, `split`, `rows` and `tokens`. The files are linked, or copied where they
        cannot be. Returns why nothing was kept, None if it is there now (another run's, maybe).
        """
        try:
            self._make_folder()
            why = self._refused()
            if why is not None:
                return why
            if not self.shared:
                self.folder.chmod(0o700)
            with work_folder(MAKING, self.folder) as work:
                why = self._make(work / "entry", key, files, about, more or {})
        except OSError as error:
            why = None if error.errno in TAKEN else f"{self.folder}: {error.strerror or error}"
        self._trim(self._name(key))
        return why

    def _make(
        self, making: Path, key: str, files: Path, about: Mapping[str, Any], more: Mapping[str, bytes]
    ) -> str | None:
        making.mkdir(mode=0o700)
        for file in sorted(files.iterdir()):
            if file.name != OWNER:
                _link(file, making / file.name)
        for name, content in more.items():
            (making / name).write_bytes(content)
        kept = {file.name: _seal(file) for file in sorted(making.iterdir())}
        size = sum(one["size"] for one in kept.values())
        if size > self.limit:
            return f"{sized(size)} exceed the cache limit ({sized(self.limit)}, FTCHECK_CACHE_SIZE)"
        manifest = {"schema": SCHEMA, "key": key, **about, "piece": PIECE, "files": kept}
        (making / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for file in making.iterdir():
            file.chmod(0o640 if self.shared else 0o600)
        making.chmod(0o750 if self.shared else 0o700)
        making.rename(self.folder / self._name(key))
        return None

    def drop(self, key: str) -> None:
        """Remove an entry of one's own, if it is there and may be removed."""
        self._remove(self._name(key))

    def _remove(self, name: str) -> bool:
        """Take an entry away at one stroke; nobody sees half of it. Another user's stays."""
        try:
            if _owner(self.folder / name) != _me():
                return False
            with work_folder(GONE, self.folder) as gone:
                (self.folder / name).rename(gone / name)
        except OSError:
            return False
        return True

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the one used last first."""
        return tuple(sorted(self._entries(), key=lambda one: (-one.used, one.name)))

    def _own(self) -> list[Entry]:
        return [one for one in self.entries() if one.owner == _me()]

    def _entries(self) -> Iterator[Entry]:
        for folder in _folders(self.folder):
            if not folder.name.startswith(HIDDEN):
                with contextlib.suppress(OSError):
                    yield _entry(folder)

    def clear(self, older_than: float | None = None) -> Cleared:
        """Remove entries that were not used for so many seconds (None: all, and what is half made)."""
        until = None if older_than is None else time.time() - older_than
        old = [one for one in self._own() if until is None or one.used < until]
        removed = [one for one in old if self._remove(one.name)]
        self._sweep(0.0 if until is None else STALE)
        return Cleared(len(removed), sum(one.size for one in removed))

    def _trim(self, newest: str) -> None:
        """Remove entries, the one used longest ago first, until the rest is within the limit."""
        self._sweep(STALE)
        found = self._own()
        size = sum(one.size for one in found)
        for one in reversed(found):
            if size <= self.limit:
                break
            if one.name != newest and self._remove(one.name):
                size -= one.size

    def _sweep(self, age: float) -> None:
        """Remove what killed runs left behind; after some time also what says nothing of its owner."""
        clear(self.folder)
        for folder in _folders(self.folder):
            with contextlib.suppress(OSError):
                is_old = time.time() - folder.stat().st_mtime >= age
                if folder.name.startswith(HIDDEN) and is_old and _owner(folder) == _me():
                    shutil.rmtree(folder, ignore_errors=True)


def _me() -> int:
    return os.getuid() if os.name == "posix" else 0


def _owner(path: Path) -> int:
    return path.lstat().st_uid if os.name == "posix" else 0


def _held(path: Path, waiting: Callable[[], None]) -> int | None:
    """A handle on a file that only this process has locked; None where there are no locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        state = locked(handle)
        if state is None:
            os.close(handle)
            return None
        if state and _is_at(path, handle):
            return handle
        os.close(handle)  # locked by another, or removed by one who was done with it
        if not state:
            waiting()
            time.sleep(LOOK_EVERY)


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())
    except OSError:
        return []


def _foreign(folder: Path) -> str | None:
    """Why what lies in a folder is not to be trusted: others own it, or may write into it."""
    if os.name != "posix":
        return None
    found = folder.stat()
    if found.st_uid != os.getuid():
        return f"{folder} belongs to another user"
    return f"{folder} can be written by other users" if found.st_mode & 0o022 else None


def _unsafe(folder: Path, trusted: frozenset[int]) -> str | None:
    """Why a shared folder is not to be used: somebody else may put another's entry in the place of one."""
    found = folder.stat()
    if found.st_uid not in (_me(), 0, *trusted):
        return f"{folder} belongs to {user_name(found.st_uid)}, whom FTCHECK_CACHE_TRUST does not name"
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        return f"{folder} can be written by others, who may rename what is not theirs: chmod +t {folder}"
    return None


def _is_of(path: Path, owner: int) -> bool:
    """Whether a user wrote a file or folder, and nobody else can."""
    found = path.lstat()
    return found.st_uid == owner and not found.st_mode & 0o022 and not path.is_symlink()


def _entry(folder: Path) -> Entry:
    owner = _owner(folder)
    size = sum(one.stat().st_size for one in folder.iterdir())
    file = folder / MANIFEST
    if not file.is_file():
        return Entry(folder.name, size, folder.stat().st_mtime, owner=owner)
    used = file.stat().st_mtime
    try:
        stated = bounded.read_json(file)
        about = (stated["job"], stated["split"], stated["rows"], stated["tokens"])
        return Entry(folder.name, size, used, *about, owner)
    except (OSError, ValueError, KeyError, TypeError):
        return Entry(folder.name, size, used, owner=owner)


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


def _seal(file: Path) -> dict[str, Any]:
    size = file.stat().st_size
    return {"size": size, "sha256": _digests(file, size, PIECE)}


def _look_over(entry: Path, key: str, later: Collection[str], owner: int | None) -> None:
    """Raise `ValueError` unless every file of an entry is as it was written (others as they come).

    In a shared cache also unless all of it is its `owner`'s.
    """
    if owner is not None and not all(_is_of(one, owner) for one in (entry, *entry.iterdir())):
        raise ValueError("not its owner's alone")
    stated = bounded.read_json(entry / MANIFEST)
    if stated["schema"] != SCHEMA or stated["key"] != key or not stated["files"]:
        raise ValueError("another entry")
    files = {entry / Path(name).name: one for name, one in stated["files"].items()}
    for file, one in files.items():
        if file.is_symlink() or file.stat().st_size != one["size"]:
            raise ValueError(f"{file.name}: another size")
    for file, one in files.items():
        if file.name not in later and not _is_whole(file, one, stated["piece"]):
            raise ValueError(f"{file.name}: other bytes")


def _is_whole(file: Path, stated: Mapping[str, Any], piece: int) -> bool:
    if file.is_symlink() or file.stat().st_size != stated["size"]:
        return False
    return bool(_digests(file, stated["size"], piece) == stated["sha256"])


def _digests(file: Path, size: int, piece: int) -> list[str]:
    """sha256 of each piece of a file; `hashlib` lets several threads work at once."""
    starts = range(0, size, piece)
    if len(starts) < 2:
        return [_digest(file, start, piece) for start in starts]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda start: _digest(file, start, piece), starts))


def _digest(file: Path, start: int, piece: int) -> str:
    hasher, left = hashlib.sha256(), piece
    with file.open("rb", buffering=0) as handle:
        handle.seek(start)
        while left and (chunk := handle.read(min(READ, left))):
            hasher.update(chunk)
            left -= len(chunk)
    return hasher.hexdigest()


def sized(count: int) -> str:
    """Bytes for people: `812 MiB`, `1.4 GiB`."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            value = count / (1 << power)
            return f"{value:,.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{count} B"
