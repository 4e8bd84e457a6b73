"""What the process environment says about hub, trackers, processes and shared memory; no secret is kept."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Environment:
    """What a training started here would find. Sizes in bytes; None: cannot be told, or not there.

    `hub_token` says whether there is a token, `offline` whether the hub's libraries were told to stay
    offline. `hub_cache` is where downloads go, `cache_free` what is free there. `wandb` is how wandb would
    start: with a `key`, `offline`, `disabled`, or (None) by asking for a login. `world_size` is the number
    of processes that a launcher started, `shm` the size of /dev/shm.
    """

    hub_token: bool
    offline: bool
    hub_cache: str
    cache_free: int | None
    wandb: Literal["key", "offline", "disabled"] | None
    world_size: int | None
    shm: int | None
