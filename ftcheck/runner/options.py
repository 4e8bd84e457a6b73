"""What the command line asks of a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck.runner.select import Selection
from ftcheck.runner.timeouts import Limits

if TYPE_CHECKING:
    from ftcheck.policy.made import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for. `policy` is a file, or was made of arguments; `max_blocking` ends the
    run after so many. With `shares` the worker serves several policies, and holds what jobs have in common.
    """

    policy: "str | Made"
    overrides: tuple[str, ...] = ()
    selection: Selection = field(default_factory=Selection)
    only_last_failed: bool = False
    max_blocking: int | None = None
    outputs: tuple[str, ...] = ()
    offline: bool = False
    workers: int | None = None
    rules_dirs: tuple[Path, ...] = ()
    show_content: bool = False
    exit_zero: bool = False
    cache: bool = True
    shares: bool = False
    engine: str = "local"
    ray_address: str | None = None
    limits: Limits = field(default_factory=Limits)
