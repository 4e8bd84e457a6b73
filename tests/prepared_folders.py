"""Folders of prepared rows as trainers write them, from the sample job `mapper` or from ids of one's own.

`trl` is what TRL's own SFTTrainer makes of rows; the layouts of axolotl and LLaMA-Factory are written as
their sources document them (axolotl 0.19, `utils/data/shared.py`; LLaMA-Factory 0.9.5, `data/loader.py` and
`data/processor/supervised.py`), neither of which installs beside the pinned libraries.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.places import POLICIES
from tests.plugins.preparation.trl_side import Fed, prepare, quiet

MAPPER = POLICIES / "samples/mapper/train.jsonl"
MODEL = POLICIES / "samples/models/mapper-tiny"
HASH = "0123456789abcdef0123456789abcdef"
"""Stands for the md5 that axolotl names a prepared data set by."""


def lines(count: int, first: int = 0) -> list[str]:
    """Lines of the sample's training rows."""
    return MAPPER.read_text(encoding="utf-8").splitlines()[first : first + count]


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """The sample's training rows."""
    return [json.loads(line) for line in lines(count, first)]


def trl(chosen: Sequence[Mapping[str, Any]], folder: Path, **training: Any) -> list[Fed]:
    """Ids and labels that TRL feeds of rows, for the sample's model."""
    from transformers import AutoTokenizer

    return prepare(AutoTokenizer.from_pretrained(str(MODEL)), list(map(dict, chosen)), folder, **training)


def columns(fed: Sequence[Fed]) -> dict[str, list[Any]]:
    """Rows as columns `input_ids`, `labels` and `attention_mask`, as nearly all trainers store them."""
    return {
        "input_ids": [ids for ids, _ in fed],
        "labels": [labels for _, labels in fed],
        "attention_mask": [[1] * len(ids) for ids, _ in fed],
    }


def save(path: Path, table: Mapping[str, Sequence[Any]], *, shards: int = 1) -> Path:
    """A folder as `Dataset.save_to_disk` writes it."""
    from datasets import Dataset

    with quiet():
        Dataset.from_dict(dict(table)).save_to_disk(str(path), num_shards=shards)
    return path


def save_dict(path: Path, splits: Mapping[str, Mapping[str, Sequence[Any]]]) -> Path:
    """A folder as `DatasetDict.save_to_disk` writes it."""
    from datasets import Dataset, DatasetDict

    with quiet():
        parts = {name: Dataset.from_dict(dict(table)) for name, table in splits.items()}
        DatasetDict(parts).save_to_disk(str(path))
    return path


def packed(fed: Sequence[Fed], size: int, *, by: str = "position_ids") -> dict[str, list[Any]]:
    """The rows in order, several in one as long as they fit into `size`; told apart `by` a column.

    `attention_mask` numbers the sequences from 1 and pads to `size` + 1, as LLaMA-Factory's neat_packing
    does; `position_ids` pads likewise, with position 0, as its plain packing does.
    """
    blocks: list[list[Fed]] = [[]]
    for one in fed:
        if sum(len(ids) for ids, _ in blocks[-1]) + len(one[0]) > size:
            blocks.append([])
        blocks[-1].append(one)
    made: dict[str, list[Any]] = {"input_ids": [], "labels": [], "attention_mask": []}
    if by == "position_ids":
        made[by] = []
    for block in blocks:
        pads = size + 1 - sum(len(ids) for ids, _ in block)
        made["input_ids"].append([i for ids, _ in block for i in ids] + [0] * pads)
        made["labels"].append([i for _, labels in block for i in labels] + [-100] * pads)
        numbered = [number for number, (ids, _) in enumerate(block, start=1) for _ in ids] + [0] * pads
        made["attention_mask"].append(numbered if by == "attention_mask" else [1] * (size + 1))
        if by == "position_ids":
            made[by].append([place for ids, _ in block for place in range(len(ids))] + [0] * pads)
    return made
