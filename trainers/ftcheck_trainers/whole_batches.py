"""Rows that do not divide evenly among processes: the last batch is filled with what nothing is learnt from.

accelerate 1.15 (data_loader.py, `BatchSamplerShard`) repeats rows from the beginning of the epoch, which
would be learnt twice. Where losses are divided by the tokens of the whole step, a row without a token in the
loss adds nothing: the step is the one that a single process takes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck.settings import Training

FILLER_TOKENS = 2
"""Tokens of the row that fills: the least that has a next token to predict."""


def fills(training: Training) -> bool:
    """Whether a row without a token in the loss changes no step: losses are divided by the step's tokens."""
    extra = training.extra
    averaged = extra.get("average_tokens_across_devices") is not False
    others = ("label_smoothing_factor", "dataloader_drop_last")
    otherwise = any(extra.get(key) for key in others) or _accelerator(training, "dispatch_batches")
    return averaged and not otherwise


def splits(training: Training) -> bool:
    """Whether the processes share each batch, so that a step takes a batch of one process alone."""
    return _accelerator(training, "split_batches")


def _accelerator(training: Training, key: str) -> bool:
    config = training.extra.get("accelerator_config")
    return isinstance(config, Mapping) and bool(config.get(key))


def missing(blocks: int, batch: int, processes: int) -> int:
    """Rows or blocks that an epoch lacks of whole batches for all processes."""
    return -blocks % (batch * processes) if processes > 1 else 0


def with_filler(blocks: Any) -> Any:
    """The rows or blocks, and after the last one a short row of which no token is in the loss."""
    from datasets import Dataset, concatenate_datasets

    ids = list(blocks[0]["input_ids"][:FILLER_TOKENS])
    row: dict[str, list[Any]] = {"input_ids": [ids], "labels": [[-100] * len(ids)]}
    if "seq_lengths" in blocks.column_names:
        row["seq_lengths"] = [[len(ids)]]
    return concatenate_datasets([blocks, Dataset.from_dict(row, features=blocks.features)])


def complete(loader: Any, filler: int) -> int:
    """Let the processes of an accelerate `DataLoader` share whole batches, filled with the row `filler`.

    Returns how many times it is fed in an epoch; 0, and nothing is changed, where accelerate shares no
    batches of one size (`train_sampling_strategy: batch_rebalance` shares them itself).
    """
    shard = loader.batch_sampler
    if getattr(shard, "num_processes", 1) == 1 or shard.split_batches or shard.batch_size is None:
        return 0
    count = missing(filler, shard.batch_size, shard.num_processes)
    shard.batch_sampler = _Completed(shard.batch_sampler, filler, shard.num_processes)
    # accelerate cuts what it gathers of the last batch to what it takes for its rows.
    loader.dataset.total_dataset_length = filler + count
    return count


class _Completed:
    """Batches of row numbers, of one size, as many as all processes need."""

    drop_last = False

    def __init__(self, batches: Any, filler: int, processes: int) -> None:
        self._batches, self._filler, self._processes = batches, filler, processes
        self.batch_size: int = batches.batch_size

    @property
    def sampler(self) -> Any:
        return self._batches.sampler

    def __len__(self) -> int:
        return -(-len(self._batches) // self._processes) * self._processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield [*batch, *[self._filler] * (self.batch_size - len(batch))]
        for _ in range(len(self) - len(self._batches)):
            yield [self._filler] * self.batch_size
