"""What each trainer reads: the columns of its rows, who packs them, and the lines of its configuration.

Read from their source: TRL 1.16 (`trainer/sft_trainer.py`), axolotl 0.18.0 (`utils/data`, 2026-07-24),
LLaMA-Factory (`data/loader.py`, `data/collator.py`, 2026-08-18).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck.extension.exporters import StoredSplit
from ftcheck.label_digest import IGNORED
from ftcheck.packing.truncation import of_evaluation
from ftcheck.settings import Job, Training

TRAIN, EVALUATION = "train", "validation"
Example = Mapping[str, Any]
Splits = Mapping[str, StoredSplit]


@dataclass(frozen=True, slots=True)
class Block:
    """How long a packed example is, and what it is filled up with."""

    capacity: int
    padding: int


class Target(ABC):
    """A trainer that reads a folder of ids. `title` is how it writes itself."""

    name: str
    title: str
    hints: tuple[str, ...] = ()
    """What the lines cannot say, a comment each."""
    foreign: tuple[str, ...] = ()
    """Keys of its configuration that would bring other rows in, or leave some out."""
    pads = False
    """Whether blocks are filled up with padding."""

    @abstractmethod
    def packed(self, training: Training, split: Training) -> bool:
        """Whether a split holds packed blocks; else rows, which the trainer may pack itself.

        `split` is `training` as it applies to the split.
        """

    @abstractmethod
    def columns(self, *, packed: bool) -> Mapping[str, str]:
        """Its columns, all lists, and the type of their numbers."""

    @abstractmethod
    def example(self, example: Example, block: Block | None) -> Example:
        """A row, or a packed block with `seq_lengths`, with the columns that it shall have."""

    @abstractmethod
    def lines(self, job: Job, folder: Path, splits: Splits) -> dict[str, Any]:
        """The keys that make the trainer read the folder, and train what lies in it."""

    def problem(self, split: Training, longest: int) -> str | None:
        """Why the trainer cannot train these rows as they were checked; None if it can."""
        if split.packing and split.max_length is None:
            return "training.packing needs training.max_length, the length of a block"
        return None


class Trl(Target):
    """TRL's SFTTrainer takes rows with `labels` as they are. Blocks are those that were planned; what TRL
    plans or shuffles itself is left to it, on rows that it cannot cut any more.
    """

    name = "trl"
    title = "TRL"
    foreign = ("datasets", "dataset_streaming")
    hints = ('In Python: datasets.load_from_disk(the folder)["train"], and the other keys for SFTConfig.',)

    def packed(self, training: Training, split: Training) -> bool:
        """Blocks, unless TRL packs."""
        return split.packing and not _trl_prepares(training)

    def columns(self, *, packed: bool) -> Mapping[str, str]:
        """Positions come from `seq_lengths`; TRL makes the attention mask."""
        names = ("input_ids", "labels", *(("seq_lengths",) if packed else ()))
        return dict.fromkeys(names, "int32")

    def example(self, example: Example, block: Block | None) -> Example:
        """As it is."""
        return example

    def lines(self, job: Job, folder: Path, splits: Splits) -> dict[str, Any]:
        """Arguments of SFTConfig; `dataset_…` without kwargs are those of `trl sft`."""
        training = job.training
        lines: dict[str, Any] = {"dataset_name": str(folder), "dataset_train_split": TRAIN}
        if EVALUATION in splits:
            lines["dataset_test_split"] = EVALUATION
        packing: dict[str, Any] = {"packing": training.packing}
        if training.packing:
            packing["packing_strategy"] = training.packing_strategy
        if "eval_packing" in training.extra:
            packing["eval_packing"] = of_evaluation(training).packing
        if _trl_prepares(training):
            lines |= {"max_length": training.max_length, "truncation_mode": training.truncation_mode}
            shuffled = bool(training.extra.get("shuffle_dataset"))
            lines |= {"shuffle_dataset": shuffled, "seed": training.seed}
        else:
            lines |= {"max_length": training.max_length if training.packing else None}
            lines["dataset_kwargs"] = {"skip_prepare_dataset": True}
        return {**lines, **packing, "assistant_only_loss": False}


def _trl_prepares(training: Training) -> bool:
    """Whether the job asks for what TRL does while it prepares rows: its own plan, or its shuffling."""
    if training.extra.get("shuffle_dataset") and not training.packing:
        return True
    packs = training.packing or of_evaluation(training).packing
    return packs and (training.packing_planner == "trl" or training.packing_strategy == "wrapped")


class Axolotl(Target):
    """axolotl takes a data set with these three columns as it is, drops rows outside of a range of lengths,
    and packs while it trains.
    """

    name = "axolotl"
    title = "axolotl"
    foreign = (
        "pretraining_dataset",
        "streaming",
        "skip_prepare_dataset",
        "dataset_shard_num",
        "dataset_shard_idx",
        "eval_sequence_len",
        "push_dataset_to_hub",
    )

    def packed(self, training: Training, split: Training) -> bool:
        """It packs rows in its sampler."""
        return False

    def columns(self, *, packed: bool) -> Mapping[str, str]:
        """All three, or the rows would be tokenised."""
        return {"input_ids": "int32", "attention_mask": "int8", "labels": "int32"}

    def example(self, example: Example, block: Block | None) -> Example:
        """With every token attended."""
        return {**example, "attention_mask": _ones(example)}

    def lines(self, job: Job, folder: Path, splits: Splits) -> dict[str, Any]:
        """Its cache must not outlive the folder, so it lies there: its hash leaves out the data's bytes."""
        training = job.training
        longest = max(split.longest for split in splits.values())
        lines: dict[str, Any] = {"datasets": [_entry(folder, TRAIN)]}
        if EVALUATION in splits:
            lines["test_datasets"] = [_entry(folder, EVALUATION)]
        lines |= {
            "val_set_size": 0,
            "dataset_prepared_path": str(folder / "axolotl"),
            "shuffle_merged_datasets": False,
            "dataset_exact_deduplication": False,
            "sequence_len": max(training.max_length or 0, longest),
            "min_sample_len": 1,
            "excess_length_strategy": "raise",
            "sample_packing": training.packing,
        }
        if EVALUATION in splits:
            lines["eval_sample_packing"] = of_evaluation(training).packing
        return lines

    def problem(self, split: Training, longest: int) -> str | None:
        """Its packing keeps rows whole and apart."""
        if not split.packing:
            return None
        limit = split.max_length
        if split.packing_strategy != "wrapped" and limit is not None and longest > limit:
            return (
                f"the longest row has {longest:,} tokens, more than training.max_length ({limit:,}), and"
                " axolotl splits none: set training.packing_strategy: bfd"
            )
        return super().problem(split, longest) or _joined(split, self.title)


def _entry(folder: Path, split: str) -> dict[str, Any]:
    return {"path": str(folder), "split": split, "type": None}


class LlamaFactory(Target):
    """LLaMA-Factory prepares nothing where its `tokenized_path` exists: it is packed here, as it would."""

    name = "llama-factory"
    title = "LLaMA-Factory"
    pads = True
    hints = ("dataset (and eval_dataset, if it evaluates) must stay set; they are not read.",)

    def packed(self, training: Training, split: Training) -> bool:
        """It packs while it tokenises."""
        return split.packing

    def columns(self, *, packed: bool) -> Mapping[str, str]:
        """Not one more: its collator gets all there are."""
        if not packed:
            return {"input_ids": "int32", "attention_mask": "int8", "labels": "int32"}
        return dict.fromkeys(("input_ids", "attention_mask", "position_ids", "labels"), "int32")

    def example(self, example: Example, block: Block | None) -> Example:
        """A block's attention mask numbers its rows from 1; it is filled up with padding (0), because the
        collator does not pad `position_ids`.
        """
        import numpy as np

        if block is None:
            return {**example, "attention_mask": _ones(example)}
        lengths = np.asarray(example["seq_lengths"])
        spare = block.capacity - int(lengths.sum())
        numbers = np.repeat(np.arange(1, len(lengths) + 1), lengths)
        positions = np.concatenate([np.arange(length) for length in lengths])
        return {
            "input_ids": np.pad(example["input_ids"], (0, spare), constant_values=block.padding),
            "attention_mask": np.pad(numbers, (0, spare)),
            "position_ids": np.pad(positions, (0, spare)),
            "labels": np.pad(example["labels"], (0, spare), constant_values=IGNORED),
        }

    def lines(self, job: Job, folder: Path, splits: Splits) -> dict[str, Any]:
        """`neat_packing` keeps the rows of a block apart."""
        training = job.training
        lines: dict[str, Any] = {"tokenized_path": str(folder), "streaming": False}
        if training.packing:
            lines["cutoff_len"] = training.max_length
        return {**lines, "packing": training.packing, "neat_packing": training.packing}

    def problem(self, split: Training, longest: int) -> str | None:
        """Rows in a block are kept apart."""
        return super().problem(split, longest) or _joined(split, self.title)


def _joined(split: Training, title: str) -> str | None:
    """Why rows that are joined without a boundary cannot be had."""
    if split.packing and split.packing_strategy == "wrapped":
        return f"{title} keeps packed rows apart, which wrapped does not: set training.packing_strategy: bfd"
    return None


def _ones(example: Example) -> Any:
    import numpy as np

    return np.ones(len(example["input_ids"]), dtype=np.int8)


TARGETS: tuple[Target, ...] = (Axolotl(), LlamaFactory(), Trl())
