"""Commands that tests start: in a fresh interpreter, or forked from one that has imported the libraries.

Importing torch, transformers and TRL takes seconds, and what most commands do in a test takes a tenth of
one. `forked` runs the same command line in a process of its own; whatever it starts as `python -m MODULE`
(the worker that runs checks, the process that answers gold questions) is forked from it in turn. Where the
interpreter is the point (what is imported, an environment that is read at import), `fresh` is to be used.

No test waits by the clock: `HANG` is there for a command that would never end, and each command that a test
leaves running is killed with all that it started.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import psutil

HANG = 3600.0
"""Seconds after which a command is taken for hung. They take seconds; a slow machine may take minutes."""

_running: list["Started"] = []


class Started(ABC):
    """A process that leads a session of its own, with whatever it starts."""

    def __init__(self, words: Sequence[str], pid: int | None) -> None:
        """It runs these words."""
        assert pid is not None
        self._words, self.pid = tuple(words), pid
        _running.append(self)

    @abstractmethod
    def poll(self) -> int | None:
        """The exit code, below 0 for a signal; None while it runs."""

    @abstractmethod
    def _join(self, seconds: float) -> None:
        """Wait until it has ended, or so long."""

    def wait(self) -> int:
        """The exit code, once there is one."""
        self._join(HANG)
        code = self.poll()
        if code is None:
            self.end()
            raise AssertionError(f"{' '.join(self._words)} hung: it was killed after {HANG:.0f} s")
        return code

    def until(self, holds: Callable[[], object], said: Callable[[], str] = str) -> None:
        """Wait until something holds; fails, with what was said, where the process ends before."""
        hung = time.monotonic() + HANG
        while not holds():
            assert self.poll() is None, f"it ended too soon: {said()}"
            assert time.monotonic() < hung, f"{' '.join(self._words)} hung: {said()}"
            time.sleep(0.002)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """Kill it and all that it started, sessions of their own among them, if it still runs."""
        if self.poll() is None:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(self.pid)
                for one in (process, *process.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
            self._join(HANG)


def wait_for_end(process: psutil.Process) -> None:
    """Wait until a process that is not this one's child has ended, reaped or not."""
    hung = time.monotonic() + HANG
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < hung, f"{process} lives on"
            time.sleep(0.01)


def end_all() -> None:
    """Kill the commands that a test left running."""
    while _running:
        _running.pop().end()


def fresh(
    words: Sequence[str], folder: Path, out: Path, err: Path, environment: Mapping[str, str] | None = None
) -> Started:
    """Start a command in a folder, in an interpreter of its own; what it prints is appended to two files."""
    with out.open("ab") as stdout, err.open("ab") as stderr:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=_interruptible,
            start_new_session=True,
        )
    return _Fresh(words, process)


def _interruptible() -> None:
    """A shell that runs the tests in the background lets its children ignore Ctrl-C; these must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class _Fresh(Started):
    def __init__(self, words: Sequence[str], process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        super().__init__(words, process.pid)

    def poll(self) -> int | None:
        return self._process.poll()

    def _join(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)


def forked(
    words: Sequence[str], folder: Path, out: Path, err: Path, environment: Mapping[str, str] | None = None
) -> Started:
    """Start `python -m ftcheck ...` as `fresh` does, but forked from a process with its libraries.

    In place of ftcheck a module of the tests may be named that ends in it.
    """
    assert list(words[:2]) == [sys.executable, "-m"], words
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preload"])
    known = {**os.environ, **(environment or {})}
    process = context.Process(target=_run, args=(list(words[2:]), str(folder), str(out), str(err), known))
    process.start()
    return _Forked(words, process)


class _Forked(Started):
    def __init__(self, words: Sequence[str], process: Any) -> None:
        self._process = process
        super().__init__(words, process.pid)

    def poll(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def _join(self, seconds: float) -> None:
        self._process.join(seconds)


# --- in the forked process ------------------------------------------------------------------------------


def _run(words: list[str], folder: str, out: str, err: str, environment: dict[str, str]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in ((1, out), (2, err)):
        said = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(said, number)
        os.close(said)
    os.chdir(folder)
    sys.path.insert(0, folder)
    _become(words, environment)
    subprocess.Popen = _ForkingPopen  # type: ignore[assignment, misc]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _become(words: list[str], environment: Mapping[str, str]) -> None:
    """Streams, arguments and environment as a fresh interpreter would have them."""
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = words
    os.environ.clear()
    os.environ.update(environment)
    if "torch" in sys.modules and environment.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))


class _ForkingPopen(subprocess.Popen[Any]):
    """Runs `python -P -m MODULE` in a fork of this process; every other command as it stands."""

    def __init__(self, args: Any, **given: Any) -> None:
        if list(args[:3]) == [sys.executable, "-P", "-m"]:
            environment = given.get("env") or dict(os.environ)
            given["preexec_fn"] = partial(_instead_of_executing, list(args[3:]), environment)
            sys.stdout.flush()
            sys.stderr.flush()
        super().__init__(args, **given)


def _instead_of_executing(words: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Run the module. Its streams are in their places; closing all others tells `Popen` that it began."""
    code = 1
    try:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        _become(words, environment)
        sys.modules.pop(words[0], None)
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            atexit._run_exitfuncs()
            sys.stdout.flush()
        os._exit(code)
