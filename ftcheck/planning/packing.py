"""What packing makes of the rows at a length, and what padding costs without it."""

from typing import TYPE_CHECKING, Any

from ftcheck.inputs.prepared import Prepared
from ftcheck.packing.plans import as_axolotl, as_llama_factory, best_fit
from ftcheck.planning.records import Grouping, Packing
from ftcheck.settings import Job, Training

if TYPE_CHECKING:
    from numpy.typing import NDArray

PACKED = 400_000
"""Of more sequences than this, so many are drawn to tell what other trainers make of them."""


def packing(prepared: Prepared, job: Job, length: int) -> Packing:
    """Blocks of `length` tokens by every way there is, as the rule `packing-efficiency` counts them."""
    from ftcheck.estimate.blocks import packed
    from ftcheck.packing.padding import padding, padding_by_length

    found, batch = packed(prepared, job, length), job.training.per_device_train_batch_size
    fed = prepared.fed(length)
    return Packing(
        used=job.training.packing,
        length=length,
        sequences=found.sequences,
        tokens=found.tokens,
        trl=found.trl,
        best_fit=found.best_fit,
        planned=found.planned,
        lower_bound=found.lower_bound,
        padding=padding(fed, batch),
        padding_by_length=padding_by_length(fed, batch),
        others=groupings(fed, length),
    )


def groupings(lengths: "NDArray[Any]", capacity: int) -> tuple[Grouping, ...]:
    """What axolotl and LLaMA-Factory make of these sequences, none of them longer than `capacity` tokens.

    LLaMA-Factory takes them in this order, axolotl in a drawn one (seeded). Of very many a drawn part is
    packed, and nothing scaled up.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    some = lengths = lengths[lengths > 0]
    if len(lengths) > PACKED:
        some = lengths[np.sort(rng.choice(len(lengths), PACKED, replace=False))]
    blocks = {
        "axolotl": (as_axolotl(rng.permutation(some), capacity), some),
        "LLaMA-Factory": (as_llama_factory(some, capacity), some.clip(max=capacity - 1)),
    }
    return tuple(
        Grouping(name, count, int(held.sum()) / max(1, count * capacity), len(some), len(lengths))
        for name, (count, held) in blocks.items()
    )


def planned_blocks(prepared: Prepared, job: Job, length: int) -> int:
    """How many blocks `training.packing_planner` makes of the rows, as the rules count them."""
    from ftcheck.estimate.blocks import packed

    return packed(prepared, job, length).planned


def blocks_at(lengths: "NDArray[Any]", training: Training) -> int:
    """How many blocks best-fit makes of sequences at this max_length; cutting or splitting as TRL does.

    What `packing_planner: trl` would make is more; what the optimal planner makes may be a little less.
    """
    capacity = training.max_length
    if capacity is None:
        raise ValueError("packing requires max_length")
    if training.packing_strategy == "wrapped":
        return -(-int(lengths.sum()) // capacity)
    if training.packing_strategy == "bfd_split":
        import numpy as np

        whole = np.repeat(capacity, int((lengths // capacity).sum()))
        return best_fit(np.concatenate([whole, lengths % capacity]).astype(np.int64), capacity).blocks
    return best_fit(lengths.clip(max=capacity), capacity).blocks


def computed(lengths: "NDArray[Any]", job: Job, blocks: int | None) -> int:
    """Tokens of one epoch that are computed: blocks x max_length, or rows with the padding to be expected."""
    from ftcheck.packing.padding import expected_padding

    limit = job.training.max_length
    if blocks is not None and limit is not None:
        return blocks * limit
    fed = lengths if limit is None else lengths.clip(max=limit)
    return round(int(fed.sum()) / (1 - expected_padding(job, fed))) if len(fed) else 0
