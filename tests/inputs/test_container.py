"""Inputs are opened once, whatever comes of it, and a failure keeps nothing alive."""

import errno
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import DiskFull, InputError, MissingDependency, Problem
from ftcheck.inputs.container import Inputs, Run, Store
from ftcheck.inputs.loader import Loader
from ftcheck.testing import job


class Big:
    """Something that a loader holds while it fails."""


def inputs_of(open_: Callable[[], Any], jobs: int = 2) -> list[Inputs]:
    shared = Store()
    loaders = {"machine": Loader("machine", open_)}
    return [Inputs(loaders, {}, job(f"job{n}"), shared) for n in range(jobs)]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        InputError("no file", [Problem("no file", "a.json", 3)]),
        MissingDependency("it needs torch", "train"),
    ],
    ids=["bug", "input", "dependency"],
)
def test_a_host_input_that_fails_is_opened_once_and_says_the_same_to_every_job(error: Exception) -> None:
    opened: list[int] = []

    def open_() -> None:
        opened.append(1)
        raise error

    said = []
    for one in inputs_of(open_) * 2:
        with pytest.raises(InputError if isinstance(error, RuntimeError) else type(error)) as caught:
            one.get("machine")
        said.append((type(caught.value).__name__, str(caught.value)))

    assert len(opened) == 1
    assert len(set(said)) == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ],
    ids=["the system's", "Arrow's"],
)
def test_a_full_disk_is_no_input_that_cannot_be_read(error: OSError, tmp_path: Path) -> None:
    def open_() -> None:
        raise error

    one = Inputs({"machine": Loader("machine", open_)}, {"run": Run(folder=tmp_path)}, job("job"))

    with pytest.raises(DiskFull, match="no space left for input 'machine': free space, or set TMPDIR"):
        one.get("machine")


def test_a_failure_does_not_keep_what_the_loader_held() -> None:
    held: list[weakref.ref[Big]] = []

    def open_() -> None:
        big = Big()
        held.append(weakref.ref(big))
        raise RuntimeError("a bug")

    [one] = inputs_of(open_, jobs=1)
    with pytest.raises(InputError):
        one.get("machine")
    gc.collect()

    assert held[0]() is None
    with pytest.raises(InputError, match="RuntimeError: a bug") as caught:
        one.get("machine")
    assert "in open_" in caught.value.trace, "the traceback is kept as text"
