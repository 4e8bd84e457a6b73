"""Reads the process environment: hub, trackers, processes, shared memory. Secrets are asked for, not kept."""

import netrc
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ftcheck.inputs import bounded
from ftcheck.inputs.environment import Environment
from ftcheck.inputs.loader import loader
from ftcheck.paths import hub_cache

TRUE = frozenset({"1", "ON", "YES", "TRUE"})
"""What huggingface_hub reads as yes."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
SHARED_MEMORY = Path("/dev/shm")
WANDB_SERVER = "https://api.wandb.ai"

Wandb = Literal["key", "offline", "disabled"]


@loader("environment")
def environment() -> Environment:
    """What a training started in this environment would find."""
    from huggingface_hub import get_token

    cache = hub_cache()
    return Environment(
        hub_token=bool(get_token()),
        offline=any(_is_true(os.environ.get(name)) for name in OFFLINE),
        hub_cache=str(cache),
        cache_free=_free(cache),
        wandb=wandb_mode(os.environ),
        world_size=_number(os.environ.get("WORLD_SIZE")),
        shm=_size(SHARED_MEMORY),
    )


def _is_true(value: str | None) -> bool:
    return (value or "").strip().upper() in TRUE


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.strip().isdigit() else None


def _free(folder: Path) -> int | None:
    """Bytes free where the folder lies, or will lie."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _size(folder: Path) -> int | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


def wandb_mode(environment: Mapping[str, str]) -> Wandb | None:
    """How wandb would start: its mode, else with a key from the environment or ~/.netrc, else None."""
    mode = environment.get("WANDB_MODE", "").strip().lower()
    if mode == "disabled" or _is_true(environment.get("WANDB_DISABLED")):
        return "disabled"
    if mode in ("offline", "dryrun"):
        return "offline"
    return "key" if environment.get("WANDB_API_KEY") or _in_netrc(environment) else None


def _in_netrc(environment: Mapping[str, str]) -> bool:
    stated = environment.get("NETRC")
    files = [Path(stated)] if stated else [Path(bounded.expanded(one)) for one in ("~/.netrc", "~/_netrc")]
    host = urlsplit(environment.get("WANDB_BASE_URL") or WANDB_SERVER).hostname or ""
    for path in files:
        try:
            if host in netrc.netrc(path).hosts:
                return True
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
    return False
