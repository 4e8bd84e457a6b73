"""The files of rows that another program prepared: what `save_to_disk` wrote, .arrow and Parquet files.

Only names and JSON are looked at here; `ftcheck_plugins.stored` reads the rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck import digest
from ftcheck.errors import InputError
from ftcheck.inputs import bounded
from ftcheck.paths import near

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
"""What datasets' `save_to_disk` writes beside its shards; the last one for a DatasetDict."""
SUFFIXES = (".arrow", ".parquet")
SCRATCH = ("cache-", "tmp")
"""How files begin that datasets' `map` leaves beside the shards: they are no part of the data set."""
TRAIN = "train"
EVALUATION = ("validation", "test", "eval", "valid", "dev")
"""Names of splits with evaluation rows; LLaMA-Factory's `validation_NAME` are meant by the first."""
MD5 = re.compile(r"[0-9a-f]{32}")
"""The name that axolotl gives a prepared data set."""
AGAIN = "remove the folder and prepare it again: a trainer takes it as it is"


@dataclass(frozen=True, slots=True)
class PreparedFolder:
    """The files of rows by split (`train`, and one for evaluation where there is one), and all others."""

    path: str
    splits: Mapping[str, tuple[str, ...]]
    about: tuple[str, ...] = ()

    @property
    def evaluation(self) -> str | None:
        """The split with evaluation rows; None: the folder has none."""
        return next((name for name in self.splits if name != TRAIN), None)

    def digest(self) -> str | None:
        """Digest over the names and bytes of all its files; None if one cannot be read."""
        root = Path(self.path)
        rows = [name for names in self.splits.values() for name in names]
        files = sorted(map(Path, (*self.about, *rows)))
        if files == [root]:
            return digest.of_file(root)
        found = {one.relative_to(root).as_posix(): digest.of_file(one) for one in files}
        return digest.of_json(found) if all(found.values()) else None


@dataclass(frozen=True)
class StoredRows:
    """What is known of rows that were read prepared, beside their ids.

    `framework` wrote them, as far as their columns and their place tell (None: unknown). `apart` is the
    column by which sequences that are packed into one row were told apart, `BOS` or `EOS`; None where no row
    is packed. `shifted`: the labels stood one place to the left. `blocks` are the tokens of each row as it is
    stored, with padding, where rows are packed; `padding` counts tokens that are nothing but padding. `other`
    are sequences (indices from 0) with a label that is another token than its own, `displaced` those of them
    most of whose labels are, `padded` those whose padding is in the loss, `hidden` those beside tokens that
    attention_mask hides and that are no padding. `written` is when the newest of the files was (seconds since
    1970).
    """

    path: str
    framework: str | None
    columns: tuple[str, ...]
    apart: str | None = None
    shifted: bool = False
    padding: int = 0
    other: tuple[int, ...] = ()
    displaced: tuple[int, ...] = ()
    padded: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    written: float = 0.0
    blocks: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def textless(self) -> str:
        """Why what stands in the rows is unknown."""
        return f"rows are read prepared from {near(self.path)}: their text is not known"


def find(path: str) -> PreparedFolder:
    """The files that a folder, or one .arrow or Parquet file, stands for. Raises `InputError`."""
    try:
        return _found(path)
    except OSError as error:
        raise InputError(f"{path[:200]}: cannot be read: {bounded.told(error)}") from error


def _found(path: str) -> PreparedFolder:
    root = Path(path)
    if root.is_file():
        if root.suffix not in SUFFIXES:
            raise InputError(f"{path}: neither a folder nor an .arrow or Parquet file of prepared rows")
        return PreparedFolder(path, {TRAIN: (path,)})
    if not root.is_dir():
        raise InputError(f"{path}: no such folder: prepare the rows first, or correct the path")
    if (root / SPLITS).is_file():
        return _dict(root)
    if (root / STATE).is_file() or (root / INFO).is_file() or _unfinished(root):
        files, about = _saved(root)
        return PreparedFolder(path, {TRAIN: files}, about)
    return _loose(root)


def beside(path: str) -> frozenset[str]:
    """Data sets that lie beside one that axolotl named by its settings: it names another one by others."""
    root = Path(path)
    if not MD5.fullmatch(root.name) or not root.parent.is_dir():
        return frozenset()
    return frozenset(one.name for one in root.parent.iterdir() if one != root and is_saved(one))


def is_saved(root: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote."""
    return any((root / name).is_file() for name in (STATE, SPLITS))


def _unfinished(root: Path) -> bool:
    """Whether there are shards, as `save_to_disk` names them, without the files that it writes at the end."""
    return any(root.glob("data-*-of-*.arrow"))


def _dict(root: Path) -> PreparedFolder:
    """A DatasetDict: a folder for each split."""
    stated = _object(root / SPLITS).get("splits")
    if not isinstance(stated, list) or not all(isinstance(one, str) for one in stated):
        raise InputError(f"{root / SPLITS}: names no splits: {AGAIN}")
    chosen = _splits(root, stated)
    splits, about = {}, [str(root / SPLITS)]
    for split, names in chosen.items():
        parts = [_saved(root / name) for name in names]
        splits[split] = tuple(file for files, _ in parts for file in files)
        about += [one for _, more in parts for one in more]
    return PreparedFolder(str(root), splits, tuple(about))


def _splits(root: Path, stated: list[str]) -> dict[str, tuple[str, ...]]:
    """The splits for training and for evaluation, by the names that datasets and the frameworks give them."""
    train = TRAIN if TRAIN in stated else stated[0] if len(stated) == 1 else None
    if train is None:
        named = ", ".join(stated) or "nothing"
        raise InputError(f"{root / SPLITS}: has no split 'train', but {named}: name the folder of one split")
    chosen: dict[str, tuple[str, ...]] = {TRAIN: (train,)}
    for name in EVALUATION:
        found = tuple(one for one in stated if one == name or one.startswith(f"{name}_"))
        if found:
            return chosen | {name: found}
    return chosen


def _saved(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The shards of one data set, and the JSON files beside them. Raises `InputError` for half of one."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is named by {folder.parent / SPLITS} and not there: {AGAIN}")
    for name in (STATE, INFO):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: half written: {name}, which is written last, is missing: {AGAIN}")
    state = _object(folder / STATE)
    shown, stated = state.get("_format_columns"), state.get("_data_files")
    if isinstance(shown, list) and "labels" not in shown and not state.get("_output_all_columns"):
        _refuse_hidden(folder, shown)
    listed = stated if isinstance(stated, list) else []
    names = [str(one.get("filename")) for one in listed if isinstance(one, dict)]
    if not names:
        raise InputError(f"{folder / STATE}: names no files of rows: {AGAIN}")
    for name in names:
        if os.path.basename(name) != name:
            raise InputError(f"{folder / STATE}: {name} is not a file of this folder: {AGAIN}")
        if not (folder / name).is_file():
            raise InputError(f"{folder}: half written: {name}, named by {STATE}, is missing: {AGAIN}")
    return tuple(str(folder / one) for one in names), (str(folder / STATE), str(folder / INFO))


def _refuse_hidden(folder: Path, shown: list[Any]) -> None:
    """Raise `InputError` where the labels are among the columns that a data set's format does not show."""
    features = _object(folder / INFO).get("features")
    if isinstance(features, dict) and "labels" in features:
        named = ", ".join(map(str, shown))
        raise InputError(
            f"{folder / STATE}: its format shows a trainer {named} alone, and hides the labels: save the data"
            " set again after reset_format()"
        )


def _loose(root: Path) -> PreparedFolder:
    """A folder of .arrow or Parquet files, or of one data set, as axolotl's `last_run_prepared` is."""
    files = sorted(_row_files(root))
    if len({Path(one).suffix for one in files}) > 1:
        raise InputError(f"{root}: has .arrow and Parquet files: name the folder or file that is trained")
    if files:
        splits = {TRAIN: tuple(one for one in files if not _evaluates(one))}
        rest = tuple(one for one in files if _evaluates(one))
        if not splits[TRAIN]:
            raise InputError(f"{root}: no file with training rows, only {', '.join(map(_name, rest))}")
        return PreparedFolder(str(root), splits | ({EVALUATION[0]: rest} if rest else {}))
    inner = sorted(filter(is_saved, root.iterdir()))
    if len(inner) == 1:
        return _found(str(inner[0]))
    if inner:
        named = ", ".join(one.name for one in inner[:5])
        raise InputError(f"{root}: has {len(inner)} prepared data sets ({named}): name one of them")
    raise InputError(f"{root}: no prepared rows in it: neither {STATE} nor an .arrow or Parquet file")


def _row_files(root: Path) -> Iterator[str]:
    for one in root.iterdir():
        if one.suffix in SUFFIXES and one.is_file() and not one.name.startswith(SCRATCH):
            yield str(one)


def _evaluates(file: str) -> bool:
    """Whether a file's name says that its rows are for evaluation: `test-00000-of-00001.parquet`."""
    return _name(file).split("-")[0].split(".")[0] in EVALUATION


def _name(file: str) -> str:
    return os.path.basename(file)


def _object(path: Path) -> dict[str, Any]:
    try:
        return bounded.read_object(path)
    except ValueError as error:
        raise InputError(f"{error}: {AGAIN}") from error
