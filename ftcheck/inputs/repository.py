"""What is known about a job's base model before it is loaded: where it lies, and whether it can be had."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository, or the folder, that `model.name` stands for.

    `local`: the name is a folder's. `cached`: config and all weights lie in the hub's cache. `found`,
    `gated` and `size` (bytes to download) are the hub's answer, None where it gave none; `problem` says
    why. `close` is a name much like it, in the hub's cache.
    """

    name: str
    local: bool
    cached: bool
    found: bool | None
    gated: bool | None
    size: int | None
    problem: str | None = None
    close: str | None = None
