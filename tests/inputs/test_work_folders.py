"""Item 33: folders of work in progress; what no living process owns is cleared by the next run."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftcheck import cache
from ftcheck.inputs.work_folders import OWNER, clear, work_folder
from tests.cli.project import Project, rule_text

HOLDING = """
import sys, time
from pathlib import Path
from ftcheck.inputs.work_folders import work_folder
with work_folder({prefix!r}, Path({where!r})) as folder:
    (folder / "data").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""


def holding(where: Path, prefix: str = "ftcheck-") -> "tuple[subprocess.Popen[str], Path]":
    """A process with a folder of its own."""
    script = HOLDING.format(prefix=prefix, where=str(where))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


@pytest.mark.parametrize("prefix", ["ftcheck-", "ftcheck-train-", "ftcheck-rows-", ".making-", ".gone-"])
def test_a_killed_owners_folder_goes_and_a_living_ones_stays(prefix: str, tmp_path: Path) -> None:
    dead, left = holding(tmp_path, prefix)
    living, kept = holding(tmp_path, prefix)
    try:
        _end(dead)
        assert left.is_dir()

        assert clear(tmp_path) == 1

        assert not left.exists()
        assert (kept / "data").is_file()
    finally:
        _end(living)


def test_nothing_else_is_removed(tmp_path: Path) -> None:
    for name in ("ftcheck-abcdefgh", "ftcheck-notes", "other-abcdefgh", "ftcheck-abcdefgh.txt"):
        (tmp_path / name).mkdir()
    (tmp_path / "ftcheck-notes" / OWNER).touch()
    (tmp_path / "ftcheck-linked__").symlink_to(tmp_path / "ftcheck-notes")
    (tmp_path / "other-abcdefgh" / OWNER).touch()

    assert clear(tmp_path) == 0

    assert len(list(tmp_path.iterdir())) == 5
    assert clear(tmp_path / "absent") == 0


def test_a_folder_is_its_owners_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    with work_folder("ftcheck-", tmp_path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert clear(tmp_path) == 0

    assert not folder.exists()


def _make_and_clear(where: str, count: int) -> None:
    for _ in range(count):
        with work_folder("ftcheck-", Path(where)) as folder:
            (folder / "x").write_text("x", encoding="utf-8")
            assert (folder / "x").read_text(encoding="utf-8") == "x"


def test_many_processes_that_make_and_clear_do_not_meet(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_make_and_clear, args=(str(tmp_path), 60)) for _ in range(3)]
    for one in processes:
        one.start()
    for one in processes:
        one.join()

    assert [one.exitcode for one in processes] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_the_cache_clears_what_a_killed_run_was_making(tmp_path: Path) -> None:
    store = cache.Store(tmp_path / "prepared")
    store.folder.mkdir()
    process, left = holding(store.folder, cache.MAKING)
    _end(process)

    assert left.is_dir()
    with work_folder("ftcheck-", tmp_path) as files:
        (files / "rows").write_bytes(b"x")
        assert store.keep("k" * 40, files, {"job": "j", "split": "s", "rows": 1, "tokens": 1}) is None

    assert not left.exists()
    [entry] = [one for one in store.folder.iterdir() if one.is_dir()]
    assert sorted(one.name for one in entry.iterdir()) == ["manifest.json", "rows"]


def test_what_is_kept_of_data_is_its_owners_alone(tmp_path: Path) -> None:
    """Item 32: cached preparations are 0600, their folders 0700, whatever the umask."""
    old = os.umask(0)
    try:
        store = cache.Store(tmp_path / "prepared")
        with work_folder("ftcheck-", tmp_path) as files:
            (files / "rows").write_bytes(b"x")
            store.keep("k" * 40, files, {"job": "j", "split": "s", "rows": 1, "tokens": 1}, {"more": b"y"})
    finally:
        os.umask(old)

    [entry] = [one for one in store.folder.iterdir() if one.is_dir()]
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in entry.iterdir()} == {0o600}


def test_a_run_clears_what_a_killed_run_left(project: Project, tmp_path: Path) -> None:
    """Item 33, on the command line: a run that is killed while it checks, then another."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    project.fresh = True  # the place of temporary files is remembered in a forked process
    project.rules(rule_text("slow", "time.sleep(600)"))
    project.policy("slow: {}")
    killed = project.start("run", "policy.yaml", "--rules-dir", "rules", TMPDIR=str(temporary))
    end = time.monotonic() + 60
    while not list(temporary.glob("ftcheck-*/worker-1.log")) and time.monotonic() < end:
        time.sleep(0.05)
    killed.started.send_signal(signal.SIGKILL)
    killed.started.wait()
    [left] = temporary.glob("ftcheck-*")

    project.rules()
    project.policy("fine: {}")
    ran = project.call("run", "policy.yaml", "--rules-dir", "rules", TMPDIR=str(temporary))

    assert ran.code == 0
    assert not left.exists()
    assert list(temporary.glob("ftcheck-*")) == []
