"""The worker as a process: started, spoken to, listened to, measured, killed."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ftcheck.offline import OFFLINE
from ftcheck.ranks import without_launcher

if TYPE_CHECKING:
    import psutil

    from ftcheck.runner.worker_setup import Setup


class Worker:
    """One worker process, its events, and what it printed."""

    def __init__(self, folder: Path, *, offline: bool = False, workers: int | None = None) -> None:
        """Starts the process: it loads its libraries while it waits for `begin`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._log = _new_log(folder)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ftcheck.runner.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(offline, workers),
                start_new_session=os.name == "posix",
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        self._began = False
        self._events: queue.Queue[Mapping[str, Any]] = queue.Queue()
        reading = (self._process.stdout, self._events)
        self._reader = threading.Thread(target=_read, args=reading, daemon=True)
        self._reader.start()

    def begin(self, setup: "Setup") -> None:
        """Hand it the set-up."""
        from ftcheck.runner.worker_setup import pack

        self._began = True
        self._write(pack(setup))

    def __enter__(self) -> "Worker":
        """Use it in a `with` block: leaving the block lets it go."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let it go."""
        self.end()

    def send(self, index: int) -> None:
        """Ask for a check, by its number in the plan."""
        self._write(str(index))

    def _write(self, line: str) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
        except OSError:
            """It died; its end of the event stream says so."""

    def event(self, seconds: float) -> Mapping[str, Any] | None:
        """The next event, or None after some time without one."""
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None

    def memory(self, free: int = 0) -> int:
        """Bytes of memory that the worker and its children really use: see `memory_of`."""
        return memory_of(self._process.pid, free)

    def kill(self) -> None:
        """Stop it and everything it started, now."""
        try:
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        except OSError:
            """It was gone already."""
        self._process.wait()
        self._close()

    def end(self) -> None:
        """Let it go: it ends when its stdin closes; one that was never needed need not come to that."""
        if not self._began:
            self.kill()
            return
        self._shut_stdin()
        try:
            self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def _close(self) -> None:
        """Close our ends of its pipes; the reader ends with the process."""
        self._shut_stdin()
        self._reader.join(timeout=5)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _shut_stdin(self) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            """What was still to be written has no reader."""

    def how_it_ended(self) -> str:
        """The exit code or the signal, in words."""
        code = self._process.wait()
        self._close()
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def last_words(self) -> str:
        """The end of what it printed."""
        try:
            return self._log.read_bytes()[-8000:].decode("utf-8", "replace")
        except OSError:
            return ""


def _new_log(folder: Path) -> Path:
    number = len(list(folder.glob("worker-*.log"))) + 1
    return folder / f"worker-{number}.log"


def _environment(offline: bool, workers: int | None) -> dict[str, str]:
    """The worker's environment: no network where --offline says so, threads as --workers says."""
    environment = without_launcher({**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "true"})
    environment.setdefault("TRANSFORMERS_VERBOSITY", "error")
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if offline:
        environment |= OFFLINE
    if workers is not None:
        environment["RAYON_NUM_THREADS"] = str(workers)
    return environment


def _read(stream: IO[str] | None, events: "queue.Queue[Mapping[str, Any]]") -> None:
    """Events from the worker's lines, and one of our own when the stream ends."""
    for line in stream or ():
        try:
            events.put(json.loads(line))
        except ValueError:
            break
    events.put({"event": "died"})


def memory_of(pid: int, free: int = 0) -> int:
    """Bytes of memory that a process and its children use; 0 for one that is gone.

    What forked processes share is counted once (PSS) where the system tells; elsewhere, and where even the
    sum of what each of them has resident (RSS) is no more than `free`, it is that sum: PSS costs
    milliseconds for each process, RSS does not.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    resident = sum(_bytes(one, "memory_info", "rss") or 0 for one in family)
    if resident <= free:
        return resident
    shares = [_bytes(one, "memory_full_info", "pss") for one in family]
    return resident if None in shares else sum(one or 0 for one in shares)


def _bytes(process: "psutil.Process", asked: str, name: str) -> int | None:
    """A figure of a process's memory: 0 if it is gone, None where the system does not tell."""
    import psutil

    try:
        figure: int | None = getattr(getattr(process, asked)(), name, None)
        return figure
    except psutil.NoSuchProcess:
        return 0
    except (psutil.Error, OSError):
        return None


def memory_left() -> float:
    """Share of the machine's memory that is still to be had, 0 to 1."""
    import psutil

    memory = psutil.virtual_memory()
    return float(memory.available / memory.total)
