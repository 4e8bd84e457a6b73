"""Which files a setting stands for: data files by path or glob, folders of models in the hub's cache."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ftcheck.inputs import bounded
from ftcheck.inputs.remote_files import is_remote, matching

DATA_SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
REFERENCE = 1024
"""Bytes of a file that names a commit: 40 digits, and a line break."""
COMMIT = re.compile(r"[A-Za-z0-9._-]+")
TEMPLATE_FOLDER = "additional_chat_templates"
"""Where a tokenizer's named templates lie, beside its own."""


def near(path: str) -> str:
    """A path as messages and reports name it: relative below the current folder, else as it is."""
    if not os.path.isabs(path):
        return path
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):
        return path
    return path if relative.startswith(os.pardir) else relative


def in_repository() -> str:
    """The current folder from the top of its git repository; empty at the top, and in no repository."""
    try:
        here = Path.cwd()
    except OSError:
        return ""
    top = next((one for one in (here, *here.parents) if os.path.exists(one / ".git")), here)
    return "" if top == here else here.relative_to(top).as_posix()


def is_hub_data(stated: str) -> bool:
    """Whether a `data.train` value names a hub data set: no data suffix, no path, no glob, not there."""
    path = Path(stated)
    local = (
        path.is_absolute()
        or stated.startswith((".", "~"))
        or os.path.exists(stated)
        or glob.has_magic(stated)
    )
    return not local and path.suffix not in DATA_SUFFIXES and stated.count("/") <= 1


def expand(stated: str | Sequence[str]) -> list[str]:
    """Paths that a path, a glob or a list of them names, each glob's in sorted order.

    A path that is not there stays as it is; a glob that matches nothing gives nothing. Raises `OSError` for a
    glob behind a URL that nobody can list.
    """
    paths: list[str] = []
    for one in [stated] if isinstance(stated, str) else stated:
        if is_remote(one):
            paths.extend(matching(one))
        elif glob.has_magic(one) and not os.path.exists(one):
            paths.extend(sorted(glob.glob(one, recursive=True)))
        else:
            paths.append(one)
    return paths


def model_folder(name: str, revision: str | None = None) -> Path | None:
    """The local folder of a model or tokenizer: itself, or its snapshot in the hub's cache; else None."""
    folder = Path(bounded.expanded(name))
    if is_folder(folder):
        return folder
    repository = hub_cache() / ("models--" + name.replace("/", "--"))
    reference = repository / "refs" / (revision or "main")
    commit = _commit(reference) or revision or ""
    snapshot = repository / "snapshots" / commit
    return snapshot if commit and is_folder(snapshot) else None


def is_folder(path: Path) -> bool:
    """Whether a folder is there; not for a name that no file system takes."""
    return os.path.isdir(path)


def _commit(reference: Path) -> str:
    """The commit that a reference names; empty where there is none, or none that can be read."""
    try:
        found = bounded.read(reference, REFERENCE).decode("ascii").strip()
    except (OSError, ValueError):
        return ""
    return found if COMMIT.fullmatch(found) else ""


def hub_cache() -> Path:
    """Where huggingface_hub keeps its cache (its own environment variables)."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/huggingface"
    return Path(bounded.expanded(home)) / "hub"


def existing_folder(folder: Path) -> Path:
    """The folder, or the nearest existing one above it."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
