"""Which files a setting stands for: data files by path or glob, folders of models in the hub's cache."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

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


def is_hub_data(stated: str) -> bool:
    """Whether a `data.train` value names a hub data set: no data suffix, no path, no glob, not there."""
    path = Path(stated)
    local = path.is_absolute() or stated.startswith((".", "~")) or path.exists() or glob.has_magic(stated)
    return not local and path.suffix not in DATA_SUFFIXES and stated.count("/") <= 1


def expand(stated: str | Sequence[str]) -> list[str]:
    """Paths that a path, a glob or a list of them names, each glob's in sorted order.

    A path that is not there stays as it is; a glob that matches nothing gives nothing.
    """
    paths: list[str] = []
    for one in [stated] if isinstance(stated, str) else stated:
        if glob.has_magic(one) and not Path(one).exists():
            paths.extend(sorted(glob.glob(one, recursive=True)))
        else:
            paths.append(one)
    return paths


def model_folder(name: str, revision: str | None = None) -> Path | None:
    """The local folder of a model or tokenizer: itself, or its snapshot in the hub's cache; else None."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    repository = hub_cache() / ("models--" + name.replace("/", "--"))
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text(encoding="ascii").strip() if reference.is_file() else (revision or "")
    snapshot = repository / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def hub_cache() -> Path:
    """Where huggingface_hub keeps its cache (its own environment variables)."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/huggingface"
    return Path(home).expanduser() / "hub"


def existing_folder(folder: Path) -> Path:
    """The folder, or the nearest existing one above it."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
