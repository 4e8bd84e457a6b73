"""What batches without packing are padded with: the share of tokens that is computed and thrown away."""

from typing import TYPE_CHECKING, Any

from ftcheck.packing.lengths import histogram
from ftcheck.settings import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

SORTED = 50
"""transformers sorts so many batches at a time by length."""


def expected_padding(job: Job, fed: "NDArray[Any]") -> float:
    """Share of padding in the job's batches, without packing."""
    if job.training.padding_free or not len(fed):
        return 0.0
    sampled = job.training.extra.get("train_sampling_strategy")
    estimate = padding_by_length if sampled == "group_by_length" else padding
    return estimate(fed, job.training.per_device_train_batch_size)


def padding(fed: "NDArray[Any]", batch: int) -> float:
    """Share of padding that is to be expected in shuffled batches, each padded to its longest row."""
    import numpy as np

    counts = histogram(fed)
    below = np.cumsum(counts) / len(fed)
    longest = float((np.diff(np.concatenate([[0.0], below**batch])) * np.arange(len(counts))).sum())
    return 1 - float(fed.mean()) / longest if longest else 0.0


def padding_by_length(fed: "NDArray[Any]", batch: int) -> float:
    """The same with train_sampling_strategy group_by_length: sorted in groups of fifty batches."""
    import numpy as np

    group = batch * max(1, min(len(fed) // (batch * 4), SORTED))
    drawn = np.random.default_rng(0).permutation(fed)
    computed = 0
    for start in range(0, len(drawn), group):
        by_length = np.sort(drawn[start : start + group])[::-1]
        computed += int(by_length[::batch].sum()) * batch
    return 1 - float(fed.sum()) / computed if computed else 0.0
