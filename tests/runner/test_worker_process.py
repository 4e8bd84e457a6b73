"""The worker's memory as its limit sees it: what forked helpers share counts once."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ftcheck.runner.worker_process import Worker, memory_of

MIB = 1 << 20
HELPERS = 4
SHARED = 200 * MIB
OWN = 50 * MIB
FORKING = f"""
import os, sys
shared = bytearray(os.urandom(1) * {SHARED})
for _ in range({HELPERS}):
    if os.fork() == 0:
        own = bytearray(os.urandom(1) * {OWN})
        sum(shared[::4096])
        os.write(1, b"there\\n")
        sys.stdin.read()
        os._exit(0)
os.write(1, b"there\\n")
sys.stdin.read()
"""


@contextmanager
def family() -> Iterator[int]:
    """A process that shares 200 MiB with four forks, each of which has 50 MiB of its own; its id."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(HELPERS + 1):
            assert process.stdout.readline() == "there\n"
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PSS is told by Linux")
def test_shared_pages_count_once_and_own_pages_all() -> None:
    real = SHARED + HELPERS * OWN
    with family() as pid:
        assert real < memory_of(pid) < real + (HELPERS + 1) * 20 * MIB


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_without_pss_and_below_what_is_free_it_is_the_sum_of_what_is_resident(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident = (HELPERS + 1) * SHARED + HELPERS * OWN
    with family() as pid:
        assert memory_of(pid, free=2 * resident) > resident
        monkeypatch.setattr(psutil.Process, "memory_full_info", lambda self: self.memory_info())
        assert memory_of(pid) > resident


def test_a_process_that_is_gone_has_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert memory_of(process.pid) == 0


def test_a_worker_that_got_no_work_is_stopped_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    before = {one.pid for one in psutil.Process().children()}
    with Worker(tmp_path):
        [started] = [one for one in psutil.Process().children() if one.pid not in before]

    assert not started.is_running()
