"""One split of rows as datasets' `save_to_disk` leaves it, which TRL, axolotl and LLaMA-Factory open.

A shard as an Arrow stream, `state.json` that names it, `dataset_info.json`. No schema is stated: datasets
takes it from the shard, in each of its versions. Written with pyarrow alone.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ftcheck import digest
from ftcheck.extension.exporters import StoredSplit
from ftcheck.label_digest import IGNORED, LabelDigest
from ftcheck_trainers import dataset

SHARD = "data-00000-of-00001.arrow"


def write(
    folder: Path,
    examples: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str],
    written: Callable[[int], None],
    *,
    packed: bool,
) -> StoredSplit:
    """Write a split and read it back: what is told of it is what lies on the disk. Raises `OSError`."""
    folder.mkdir()
    dataset.write_examples(examples, folder / SHARD, columns, written)
    found = read(folder, packed=packed)
    state: dict[str, Any] = {
        "_data_files": [{"filename": SHARD}],
        # By this datasets finds what it cached: other rows must not be taken for these.
        "_fingerprint": found.digest.removeprefix("sha256:")[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": folder.name,
    }
    info = {"citation": "", "description": "", "homepage": "", "license": ""}
    for name, value in (("state.json", state), ("dataset_info.json", info)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return found


def read(folder: Path, *, packed: bool) -> StoredSplit:
    """What lies in a split that `write` wrote. Raises `OSError`, `pyarrow.ArrowInvalid`."""
    import numpy as np
    import pyarrow as pa

    label_digest = LabelDigest()
    examples = tokens = trained = longest = 0
    with pa.memory_map(str(folder / SHARD)) as source:
        for batch in pa.ipc.open_stream(source):
            lengths = np.diff(_numbers(batch.column("input_ids").offsets))
            ids, labels = (_numbers(batch.column(name).values) for name in ("input_ids", "labels"))
            label_digest.add_flat(lengths, ids, labels)
            examples += batch.num_rows
            tokens += _attended(batch, len(ids))
            trained += int((labels != IGNORED).sum())
            longest = max(longest, int(lengths.max(initial=0)))
    return StoredSplit(
        examples, tokens, trained, longest, label_digest.text(), str(digest.of_file(folder / SHARD)), packed
    )


def _attended(batch: Any, tokens: int) -> int:
    """Tokens that are no padding."""
    import numpy as np

    if "attention_mask" not in batch.schema.names:
        return tokens
    return int(np.count_nonzero(_numbers(batch.column("attention_mask").values)))


def _numbers(array: Any) -> Any:
    """An Arrow array of numbers where it lies. Not by `to_numpy`, which imports pandas where there is one."""
    import numpy as np

    kind = np.dtype(str(array.type))
    if not len(array):
        return np.zeros(0, dtype=kind)
    return np.frombuffer(
        array.buffers()[-1], dtype=kind, count=len(array), offset=array.offset * kind.itemsize
    )
