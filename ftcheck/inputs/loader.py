"""What opens one input."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Loader:
    """Opens one input, lazily. `needs` are the argument names of `open`: other inputs.

    A loader that asks (itself, or through what it needs) for `job` is opened once a job, any other
    once a run. It raises `ftcheck.InputError` when there is nothing to open.
    """

    name: str
    open: Callable[..., Any]
    needs: tuple[str, ...] = field(default=())


def loader(name: str) -> Callable[[Callable[..., Any]], Loader]:
    """Turn a function into a loader for the input `name`; its argument names are the inputs it needs."""

    def decorate(func: Callable[..., Any]) -> Loader:
        return Loader(name=name, open=func, needs=tuple(inspect.signature(func).parameters))

    return decorate
