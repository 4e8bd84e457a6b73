"""Entries are whole or not there, whatever happens to them, and whoever else is at work."""

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest

from ftcheck import cache
from ftcheck.cache import Store
from ftcheck.errors import UsageError
from tests.commands import HANG

KEY = "sha256:" + "ab" * 32
ABOUT = {"job": "mapper", "split": "train", "rows": 3, "tokens": 30}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Files to keep."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "rows.arrow").write_bytes(bytes(range(256)) * 100)
    (folder / "done.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def entries(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "prepared")


@pytest.fixture
def kept(entries: Store, made: Path) -> Path:
    """An entry that is there."""
    assert entries.keep(KEY, made, ABOUT) is None
    found = entries.find(KEY)
    assert found is not None
    return found


def test_what_was_kept_is_found_byte_for_byte(entries: Store, made: Path) -> None:
    assert entries.find(KEY) is None
    assert entries.keep(KEY, made, ABOUT, {"more.json": b"[1]"}) is None

    found = entries.find(KEY)

    assert found is not None
    assert (found / "rows.arrow").read_bytes() == (made / "rows.arrow").read_bytes()
    assert (found / "more.json").read_bytes() == b"[1]"
    assert entries.find("sha256:" + "cd" * 32) is None


def test_only_its_owner_may_read_it(kept: Path, entries: Store) -> None:
    assert kept.stat().st_mode & 0o777 == 0o700
    assert entries.folder.stat().st_mode & 0o777 == 0o700


def flip(path: Path, at: int) -> None:
    """Another byte in place: same size, same time of change."""
    was = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def unlinked(path: Path) -> None:
    """Not the file that the entry was linked from."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda e: flip(e / "rows.arrow", 9_000),
        lambda e: flip(e / "done.json", 0),
        lambda e: os.truncate(e / "rows.arrow", 9_000),
        lambda e: (e / "rows.arrow").unlink(),
        lambda e: (e / "manifest.json").unlink(),
        lambda e: (e / "manifest.json").write_text('{"schema": "ftcheck.ca', encoding="utf-8"),
        lambda e: (e / "manifest.json").write_text("[]", encoding="utf-8"),
        lambda e: (e / "manifest.json").write_bytes(b"\xff\xfe"),
        lambda e: (e / "manifest.json").write_text(
            (e / "manifest.json").read_text(encoding="utf-8").replace("abab", "abac"), encoding="utf-8"
        ),
    ],
    ids=[
        "flipped",
        "flipped-small",
        "truncated",
        "file-gone",
        "manifest-gone",
        "manifest-cut",
        "manifest-list",
        "manifest-bytes",
        "another-key",
    ],
)
def test_a_broken_entry_is_removed_and_can_be_made_again(
    harm: "object", entries: Store, kept: Path, made: Path
) -> None:
    for file in ("rows.arrow", "done.json"):
        unlinked(kept / file)
    assert entries.find(KEY) == kept
    assert callable(harm)

    harm(kept)

    assert entries.find(KEY) is None
    assert not kept.exists()
    assert entries.keep(KEY, made, ABOUT) is None
    assert entries.find(KEY) == kept


def test_large_files_are_digested_piece_by_piece(
    entries: Store, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PIECE", 1_000)
    assert entries.keep(KEY, made, ABOUT) is None
    found = entries.find(KEY)
    assert found is not None
    stated = json.loads((found / "manifest.json").read_bytes())["files"]["rows.arrow"]
    assert len(stated["sha256"]) == 26

    unlinked(found / "rows.arrow")
    flip(found / "rows.arrow", 25_599)

    assert entries.find(KEY) is None


def test_the_entry_used_longest_ago_goes_first(entries: Store, made: Path) -> None:
    keys = ["sha256:" + f"{n:064x}"[::-1] for n in range(1, 5)]
    store = Store(entries.folder, 90_000)
    for key in keys[:3]:
        assert store.keep(key, made, ABOUT) is None
    for age, key in enumerate(keys[:3]):
        found = entries.folder / key[7:47] / "manifest.json"
        os.utime(found, (1_000_000 - age, 1_000_000 - age))
    assert store.find(keys[2]) is not None

    assert store.keep(keys[3], made, ABOUT) is None

    assert [key for key in keys if store.find(key) is not None] == [keys[0], keys[2], keys[3]]


def test_what_is_larger_than_the_limit_is_not_kept(entries: Store, made: Path) -> None:
    why = Store(entries.folder, 1_000).keep(KEY, made, ABOUT)

    assert why is not None
    assert "FTCHECK_CACHE_SIZE" in why
    assert list(entries.folder.iterdir()) == []


def test_no_place_to_write_is_no_error(tmp_path: Path, made: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    store = Store(tmp_path / "file" / "prepared")

    why = store.keep(KEY, made, ABOUT)

    assert why is not None
    assert "prepared" in why
    assert store.find(KEY) is None
    assert store.entries() == ()
    assert store.clear().entries == 0


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_read(entries: Store, made: Path, kept: Path) -> None:
    entries.folder.chmod(0o500)
    try:
        assert entries.find(KEY) == kept
    finally:
        entries.folder.chmod(0o700)


def test_a_full_disk_leaves_nothing_behind(
    entries: Store, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_link", full)

    why = entries.keep(KEY, made, ABOUT)

    assert why is not None
    assert "No space left" in why
    assert list(entries.folder.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_entries_that_others_may_have_written_are_not_used(entries: Store, made: Path, kept: Path) -> None:
    entries.folder.chmod(0o777)

    assert entries.find(KEY) is None
    assert "other users" in (entries.keep(KEY, made, ABOUT) or "")


def test_what_a_killed_run_left_is_swept_after_a_day(entries: Store, made: Path, kept: Path) -> None:
    fresh, old = entries.folder / ".making-1", entries.folder / ".making-2"
    for left in (fresh, old):
        left.mkdir()
        (left / "rows.arrow").write_bytes(b"x")
    os.utime(old, (1, 1))

    assert entries.keep("sha256:" + "ef" * 32, made, ABOUT) is None

    assert fresh.exists()
    assert not old.exists()


def test_clear_removes_all_or_what_is_old(entries: Store, made: Path, kept: Path) -> None:
    other = "sha256:" + "ef" * 32
    assert entries.keep(other, made, ABOUT) is None
    week = time.time() - 7 * 86_400
    os.utime(kept / "manifest.json", (week, week))

    assert entries.clear(86_400).entries == 1
    assert entries.find(KEY) is None
    assert entries.find(other) is not None
    freed = entries.clear()
    assert freed.entries == 1
    assert freed.size > 25_600
    assert list(entries.folder.iterdir()) == []


def _hammer(folder: str, made: str, seed: int, seen: "multiprocessing.Queue[int]") -> None:
    store, whole = Store(Path(folder)), 0
    for turn in range(30):
        assert store.keep(KEY, Path(made), ABOUT) is None
        found = store.find(KEY)
        whole += found is not None
        if (turn + seed) % 3 == 0:
            store.drop(KEY)
    seen.put(whole)


def test_several_processes_at_once_never_see_half_an_entry(tmp_path: Path, made: Path) -> None:
    context = multiprocessing.get_context("spawn")
    seen: multiprocessing.Queue[int] = context.Queue()
    folder = str(tmp_path / "prepared")
    workers = [context.Process(target=_hammer, args=(folder, str(made), n, seen)) for n in range(2)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(HANG)

    assert [one.exitcode for one in workers] == [0, 0]
    assert all(seen.get(timeout=HANG) > 0 for _ in workers)
    left = [one.name for one in (tmp_path / "prepared").iterdir()]
    assert all(not name.startswith(".") for name in left)
    store = Store(tmp_path / "prepared")
    assert store.keep(KEY, made, ABOUT) is None
    assert store.find(KEY) is not None


@pytest.mark.parametrize(
    ("stated", "size"),
    [(None, 10 << 30), ("20GiB", 20 << 30), ("500 MB", 500_000_000), ("1.5kib", 1536), ("0", 0), ("7", 7)],
)
def test_the_limit_is_a_size(stated: str | None, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTCHECK_CACHE_SIZE", raising=False)
    if stated is not None:
        monkeypatch.setenv("FTCHECK_CACHE_SIZE", stated)
    assert cache.limit() == size


@pytest.mark.parametrize("stated", ["much", "10 elephants", "-1", "1e9"])
def test_what_is_no_size_is_said(stated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCHECK_CACHE_SIZE", stated)
    with pytest.raises(UsageError, match="FTCHECK_CACHE_SIZE"):
        cache.limit()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other cache folders")
def test_one_root_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTCHECK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache.root() == Path("/home/me/.cache/ftcheck")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.root() == Path("/xdg/ftcheck")
    monkeypatch.setenv("FTCHECK_CACHE", "/mine")
    assert cache.root() == Path("/mine")


def test_a_store_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    assert cache.usable_store(True, told.append) is not None
    monkeypatch.setenv("FTCHECK_CACHE_SIZE", "much")

    assert cache.usable_store(False, told.append) is None
    assert told == []
    assert cache.usable_store(True, told.append) is None
    assert len(told) == 1
    assert told[0].startswith("the cache is not available: ")
    assert "much" in told[0]


# --- a cache that users share ---------------------------------------------------------------------------

ROOT = pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files away")
OTHER, STRANGER = 12_345, 12_346


def give(folder: Path, owner: int) -> None:
    """Make another user the owner of an entry."""
    for one in (folder, *folder.iterdir()):
        os.chown(one, owner, -1)


def of(store: Store, made: Path, owner: int) -> Path:
    """An entry of KEY that another user kept."""
    assert store.keep(KEY, made, ABOUT) is None
    entry = store.folder / f"{KEY[7:47]}.{os.getuid()}"
    theirs = entry.rename(store.folder / f"{KEY[7:47]}.{owner}")
    for file in ("rows.arrow", "done.json"):
        unlinked(theirs / file)
        (theirs / file).chmod(0o640)
    give(theirs, owner)
    return theirs


@pytest.fixture
def shared(tmp_path: Path) -> Store:
    return Store(tmp_path / "net" / "prepared", trusted=frozenset({OTHER}))


@ROOT
def test_entries_of_trusted_users_are_used_and_never_removed(shared: Store, made: Path) -> None:
    theirs = of(shared, made, OTHER)
    assert shared.find(KEY) == theirs
    assert shared.folder.stat().st_mode & 0o7777 == 0o3770
    assert (theirs.stat().st_mode & 0o777, (theirs / "manifest.json").stat().st_mode & 0o777) == (
        0o750,
        0o640,
    )

    flip(theirs / "rows.arrow", 9_000)

    assert shared.find(KEY) is None
    assert theirs.exists()
    assert shared.keep(KEY, made, ABOUT) is None
    mine = shared.find(KEY)
    assert mine is not None
    assert mine.name.endswith(f".{os.getuid()}")
    shared.drop(KEY)
    assert (mine.exists(), theirs.exists()) == (False, True)
    assert Store(shared.folder, 0, shared.trusted).clear().entries == 0
    assert theirs.exists()


@ROOT
def test_entries_of_others_are_not_opened(shared: Store, made: Path) -> None:
    theirs = of(shared, made, STRANGER)

    assert shared.find(KEY) is None
    assert [(one.owner, shared.uses(one.owner)) for one in shared.entries()] == [(STRANGER, False)]
    assert theirs.exists()
    theirs.rename(shared.folder / f"{KEY[7:47]}.{OTHER}")
    assert shared.find(KEY) is None, "the name is a trusted user's, the entry is not"


@ROOT
@pytest.mark.parametrize("harm", ["a file of a stranger", "writable by others", "a link"])
def test_a_trusted_entry_is_its_owner_s_alone(shared: Store, made: Path, harm: str) -> None:
    theirs = of(shared, made, OTHER)
    if harm == "a file of a stranger":
        os.chown(theirs / "rows.arrow", STRANGER, -1)
    elif harm == "writable by others":
        theirs.chmod(0o777)
    else:
        (theirs / "done.json").unlink()
        (theirs / "done.json").symlink_to(made / "done.json")

    assert shared.find(KEY) is None
    assert theirs.exists()


@ROOT
def test_a_folder_in_which_others_may_rename_is_refused(shared: Store, made: Path) -> None:
    of(shared, made, OTHER)
    shared.folder.chmod(0o777)

    assert shared.find(KEY) is None
    assert "chmod +t" in (shared.keep(KEY, made, ABOUT) or "")
    shared.folder.chmod(0o1777)
    assert shared.find(KEY) is not None
    os.chown(shared.folder, STRANGER, -1)
    assert shared.find(KEY) is None
    assert "FTCHECK_CACHE_TRUST" in (shared.keep(KEY, made, ABOUT) or "")


def test_who_is_trusted_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTCHECK_CACHE_TRUST", raising=False)
    assert cache.trusted() is None
    monkeypatch.setenv("FTCHECK_CACHE_TRUST", " root, 1234 ")
    assert cache.trusted() == frozenset({0, 1234})
    monkeypatch.setenv("FTCHECK_CACHE_TRUST", "")
    assert cache.trusted() == frozenset()
    monkeypatch.setenv("FTCHECK_CACHE_TRUST", "nobody-of-that-name")
    with pytest.raises(UsageError, match="nobody-of-that-name"):
        cache.trusted()


# --- one who makes an entry, and others who wait --------------------------------------------------------


def _make_once(folder: str, made: str, log: str, kill: bool) -> None:
    store = Store(Path(folder))
    with store.alone(KEY, lambda: None):
        if store.find(KEY) is None:
            with open(log, "a", encoding="utf-8") as out:
                print(os.getpid(), file=out)
            time.sleep(0.3)
            if kill:
                os._exit(9)
            assert store.keep(KEY, Path(made), ABOUT) is None


@pytest.mark.parametrize("kill", [False, True], ids=["done", "killed"])
def test_whoever_needs_what_another_process_makes_waits_for_it(
    tmp_path: Path, made: Path, kill: bool
) -> None:
    context = multiprocessing.get_context("spawn")
    log, folder = tmp_path / "log", tmp_path / "prepared"
    workers = [
        context.Process(target=_make_once, args=(str(folder), str(made), str(log), kill)) for _ in range(4)
    ]
    for one in workers:
        one.start()
    for one in workers:
        one.join(HANG)

    assert [one.exitcode for one in workers] == [9 if kill else 0] * 4
    assert len(log.read_text(encoding="utf-8").splitlines()) == (4 if kill else 1)
    left = sorted(one.name for one in folder.iterdir() if not one.name.startswith(".lock-"))
    assert left == ([] if kill else [KEY[7:47]])
    assert kill or not list(folder.glob(".lock-*"))


def test_without_locks_nobody_waits(
    entries: Store, made: Path, monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    monkeypatch.setattr(cache, "locked", lambda handle: None)
    waited: list[None] = []

    with entries.alone(KEY, lambda: waited.append(None)), entries.alone(KEY, lambda: waited.append(None)):
        assert entries.keep(KEY, made, ABOUT) is None

    assert waited == []
    assert entries.find(KEY) == kept


def test_a_place_that_cannot_be_written_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with Store(tmp_path / "file" / "prepared").alone(KEY, lambda: pytest.fail("it waited")):
        pass
