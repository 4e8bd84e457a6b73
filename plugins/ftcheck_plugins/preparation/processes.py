"""The rows of a data set as batches, in order: made here, or by several processes that share the work.

A file of JSON lines is cut into pieces of bytes, one of Parquet into pieces of rows. The first ones are done
here, until it is known which engines will be used; the others by forked processes, each of which takes every
n-th piece and sends what it made through a pipe. So the tokenizer is in memory once, and what waits to be
written is never more than what the pipes hold. Files of object storage are read in one process: the client's
connections and threads do not survive a fork.

A fork copies no thread but the one that forks, and locks that others hold stay locked: so it is done on
Linux only, from the main thread, and not where CUDA is in use. The check worker's one other thread sleeps in
a read of stdin, which no child touches; the tokenizers library is told not to use its threads, torch is not
called. `--workers 1` keeps all the work in one process.
"""

import contextlib
import gc
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck_plugins.preparation.batches import Batch, BatchMaker, batches
from ftcheck_plugins.reading import files
from ftcheck_plugins.reading.files import Lines, Source
from ftcheck_plugins.reading.parquet_rows import RowGroups
from ftcheck_plugins.reading.raw_rows import RawRow

Piece = Lines | RowGroups
PIECE = 1 << 19
"""Bytes of one piece."""
WORTH = 4 << 20
"""Bytes that must be left for it to be worth starting processes."""
COLLECTED_EVERY = 16
"""Pieces after which a process looks for cycles: a row makes none unless it goes wrong."""
PIPE = 1 << 20
"""Bytes that a pipe holds: a piece that is made, so that the next one can be begun. Linux allows no more."""
MOST = 16
"""Processes that share the work; beyond that, one that writes has no time for more."""


def made(source: Source, maker: BatchMaker, run: Run) -> Iterator[Batch]:
    """All rows of a data set as batches, in order. Raises what making them raises."""
    count = _processes(run)
    pieces = files.pieces(source, PIECE) if count > 1 else None
    if pieces is None:
        yield from _here(batches(files.stream(source, offline=run.offline)), maker)
        return
    numbering = _Numbering()
    done = 0
    while done < len(pieces) and not (maker.settled and _bytes(pieces[done:]) >= WORTH):
        for batch in _here(batches(iter(pieces[done])), maker):
            yield numbering.moved(batch)
        numbering.passed(pieces[done].count)
        done += 1
    if done < len(pieces):
        yield from _shared(pieces[done:], maker, count, numbering)


def _processes(run: Run) -> int:
    """How many processes may share the work."""
    main = threading.current_thread() is threading.main_thread()
    if not sys.platform.startswith("linux") or not main or _on_gpu():
        return 1
    return min(MOST, run.workers or len(os.sched_getaffinity(0)))


def _on_gpu() -> bool:
    """Whether this process has been at work on a GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _bytes(pieces: Sequence[Piece]) -> int:
    return sum(piece.size for piece in pieces)


def _here(stream: Iterator[Sequence[RawRow]], maker: BatchMaker) -> Iterator[Batch]:
    for raws in stream:
        with uncollected():
            batch = maker.make(raws)
        yield batch


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Look for cycles afterwards, and among its own objects: not among all of torch's, again and again."""
    if not gc.isenabled():
        yield
        return
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        gc.enable()


class _Numbering:
    """Each piece counts its lines from 1: this adds those before it in its file."""

    def __init__(self) -> None:
        self._file = -1
        self._before = 0

    def moved(self, batch: Batch) -> Batch:
        """The batch with lines as they are counted in the whole file."""
        file = int(batch.columns["file"][0])
        if file != self._file:
            self._file, self._before = file, 0
        batch.columns["line"] += self._before
        return batch

    def passed(self, lines: int) -> None:
        """A piece of so many lines is done."""
        self._before += lines


def _shared(pieces: Sequence[Piece], maker: BatchMaker, count: int, numbering: _Numbering) -> Iterator[Batch]:
    """The batches of these pieces, made by `count` processes."""
    helpers = [_Helper(pieces[n::count], maker) for n in range(min(count, len(pieces)))]
    try:
        for n in range(len(pieces)):
            batch, lines = helpers[n % count].piece()
            if batch is not None:
                yield numbering.moved(batch)
            numbering.passed(lines)
    finally:
        for helper in helpers:
            helper.end()


class _Helper:
    """A forked process that makes batches of some pieces."""

    def __init__(self, pieces: Sequence[Piece], maker: BatchMaker) -> None:
        import fcntl

        self._results, sending = Pipe(duplex=False)
        with contextlib.suppress(OSError):  # the system's limit is lower: it waits for the reader more often
            fcntl.fcntl(sending.fileno(), fcntl.F_SETPIPE_SZ, PIPE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # see the module's docstring
            self._pid = os.fork()
        if self._pid == 0:
            # multiprocessing.Process would close stdin here, and wait for ever: it is being read.
            try:
                _help(sending, pieces, maker)
            finally:
                os._exit(0)
        sending.close()

    def piece(self) -> tuple[Batch | None, int]:
        """The rows of its next piece, if it has any, and its lines. Raises what it ran into there."""
        try:
            told: tuple[Batch | None, int] | BaseException = self._results.recv()
        except EOFError:
            raise InputError(f"a worker process of the preparation ended: {self._how_it_ended()}") from None
        if isinstance(told, BaseException):
            raise told
        return told

    def _how_it_ended(self) -> str:
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def end(self) -> None:
        """Stop it, whatever it does."""
        self._results.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _help(sending: Connection, pieces: Sequence[Piece], maker: BatchMaker) -> None:
    """Send the rows of each piece as one batch, with its number of lines, or what went wrong.

    A piece is made before any of it is sent: a full pipe would keep the others from working.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.freeze()
    gc.disable()
    parent = os.getppid()
    try:
        for number, piece in enumerate(pieces, start=1):
            raws = list(piece)
            sending.send((maker.make(raws) if raws else None, piece.count))
            del raws
            if number % COLLECTED_EVERY == 0:
                gc.collect()
            if os.getppid() != parent:
                return
    except BrokenPipeError:
        """Nobody wants the rest."""
    except BaseException as error:
        sending.send(sendable(error))


def sendable(error: BaseException) -> BaseException:
    """The error, or one in its words where it does not survive the way."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # its own, made just now
        return error if type(copy) is type(error) and str(copy) == str(error) else InputError(str(error))
    except Exception:
        return InputError(f"{type(error).__name__}: {error}")
