"""The processes of one training, as `accelerate launch` or `torchrun` started them: the first one decides.

Without a launcher there is one process, and nothing here opens a connection. Objects go between the
processes of one training only, over the group that torch has made for them.
"""

import contextlib
import functools
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from ftcheck.errors import FtcheckError
from ftcheck.exit_codes import ExitCode

LAUNCHER = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
"""What a launcher sets, and what a process must not inherit that is none of the training's."""

PATIENCE = timedelta(days=2)
"""How long processes wait for one another: the first one's checks may take hours."""

Decided = TypeVar("Decided")
Value = TypeVar("Value")


class EndedElsewhere(FtcheckError):
    """Another process of this training ended it; the words are its own."""

    code = "training"

    def __init__(self, message: str, exit_code: int) -> None:
        """`exit_code` is the one that the other process ends with."""
        super().__init__(message)
        self.exit_code = ExitCode(exit_code)


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str
    exit_code: int


def rank() -> int:
    """This process's number; 0 without a launcher."""
    return _number("RANK", 0)


def count() -> int:
    """How many processes there are; 1 without a launcher."""
    return _number("WORLD_SIZE", 1)


def is_main() -> bool:
    """Whether this is the process that decides, writes and prints."""
    return rank() == 0


def leads_node() -> bool:
    """Whether this is the first process on its machine."""
    return _number("LOCAL_RANK", 0) == 0


def node() -> str:
    """This machine among those of the training: `node 1 (gpu7)`."""
    number = _number("GROUP_RANK", rank() // max(1, _number("LOCAL_WORLD_SIZE", 1)))
    return f"node {number} ({socket.gethostname()})"


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


def without_launcher(environment: dict[str, str]) -> dict[str, str]:
    """An environment for a process that takes no part in the training."""
    dropped = ("TORCHELASTIC_", "ACCELERATE_")
    return {
        name: value
        for name, value in environment.items()
        if name not in LAUNCHER and not name.startswith(dropped)
    }


def decided(decide: Callable[[], Decided]) -> Decided:
    """What the first process decides, in all of them. Where it fails there, all of them fail alike."""
    if count() == 1:
        return decide()
    if not is_main():
        found = _shared(None)
        if isinstance(found, _Failure):
            raise EndedElsewhere(found.message, found.exit_code)
        decision: Decided = found
        return decision
    try:
        decision = decide()
    except BaseException as error:
        _shared(_Failure(_words(error), _exit_code(error)))
        raise
    _shared(decision)
    return decision


def _shared(value: Any) -> Any:
    import torch.distributed as dist

    box = [value]
    with _parted():
        dist.broadcast_object_list(box, src=0, group=_group())
    return box[0]


def gathered(value: Value) -> list[Value]:
    """What each process has to say, in their order, in all of them; all of them must ask."""
    if count() == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * count()
    with _parted():
        dist.all_gather_object(found, value, group=_group())
    return found


def any_of(flag: bool) -> bool:
    """Whether it holds in one of the processes; all of them must ask."""
    if count() == 1:
        return flag
    import torch
    import torch.distributed as dist

    found = torch.tensor([int(flag)])
    with _parted():
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=_group())
    return bool(found.item())


def wait() -> None:
    """Go on when all have come this far."""
    any_of(False)


@contextlib.contextmanager
def _parted() -> Iterator[None]:
    """Where another process is gone, its own last word, or that it is gone."""
    try:
        yield
    except RuntimeError as error:
        words = f"another process of this training has ended ({_words(error)})"
        raise (ended_elsewhere() or EndedElsewhere(words, ExitCode.TRAINING)) from error


@functools.cache
def _group() -> Any:
    """The group over which the processes agree: on the CPU, whatever trains, and patient."""
    import torch.distributed as dist

    _join()
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def _join() -> None:
    """Meet the others, through accelerate: it chooses the backend in which the training will go on."""
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    if not dist.is_initialized():
        PartialState(cpu=not torch.cuda.is_available())


@contextlib.contextmanager
def together() -> Iterator[None]:
    """All of one training, from the first word to the last: who fails tells the others why.

    A mistake of the user's that another process than the first finds is the first one's to tell: it is
    raised as `EndedElsewhere`. At the end the launcher stops who is still there with SIGTERM; that must not
    change how they end.
    """
    if count() == 1:
        yield
        return
    _group()
    try:
        yield
    except BaseException as error:
        left = not isinstance(error, EndedElsewhere) and _leave_word(error)
        if left and not is_main() and isinstance(error, FtcheckError):
            raise EndedElsewhere(_words(error), _exit_code(error)) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _part()


def _part() -> None:
    """Close the groups: threads that still wait for the others would abort the process at its end."""
    import torch.distributed as dist

    with contextlib.suppress(Exception):
        dist.destroy_process_group()


def _leave_word(error: BaseException) -> bool:
    """Tell the others how this process ends; whether they can hear it."""
    with contextlib.suppress(Exception):
        word = {"message": _words(error), "exit_code": _exit_code(error)}
        _store().set(f"ftcheck/ended/{rank()}", json.dumps(word))
        return True
    return False


def ended_elsewhere(seconds: float = 1.0) -> EndedElsewhere | None:
    """How another process ended this training; None if none has said so within some time."""
    if count() == 1:
        return None
    import time

    until = time.monotonic() + seconds
    while (found := _word_of_another()) is None and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _word_of_another() -> EndedElsewhere | None:
    with contextlib.suppress(Exception):
        for other in range(count()):
            key = f"ftcheck/ended/{other}"
            if other != rank() and _store().check([key]):
                word = json.loads(_store().get(key))
                return EndedElsewhere(f"process {other}: {word['message']}", word["exit_code"])
    return None


def _store() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _exit_code(error: BaseException) -> int:
    if isinstance(error, FtcheckError):
        return int(error.exit_code)
    return int(ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.TRAINING)
