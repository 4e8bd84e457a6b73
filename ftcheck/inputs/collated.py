"""What a collator makes of the labels of a few rows: the record behind the input `collated`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Collated:
    """Two rows of different length as one padded batch: what was in the loss before, and is after.

    `rows` count from 0. `stops` are stop tokens in the loss before collating, `stops_lost` those that are
    not in it afterwards; `trained_lost` and `masked_trained` count tokens of any kind that left the loss,
    or came into it. `pads` are padding tokens, `pads_trained` those of them in the loss. `problem` says
    why the collator could not make a batch.
    """

    collator: str
    rows: tuple[int, ...] = ()
    stops: int = 0
    stops_lost: int = 0
    trained_lost: int = 0
    masked_trained: int = 0
    pads: int = 0
    pads_trained: int = 0
    problem: str | None = None
