"""Inside a pipeline of Ray Data: the histogram of lengths as an aggregation (extra `[ray]`).

from ftcheck.packing.ray_data import LengthHistogram, histogram_of

found = histogram_of(data.aggregate(LengthHistogram("input_ids")))
found.percentile(95), found.above(1024), found.tokens
"""

from collections.abc import Mapping
from itertools import zip_longest

from ftcheck.errors import MissingDependency
from ftcheck.packing.lengths import Histogram, histogram

try:
    from ray.data.aggregate import AggregateFnV2
    from ray.data.block import Block, BlockAccessor
except ImportError as error:
    raise MissingDependency("ftcheck.packing.ray_data needs the library ray", "ray") from error

NAME = "length_histogram"


class LengthHistogram(AggregateFnV2):  # type: ignore[misc]  # ray ships no types for it
    """How many rows have each length: entry `n` of the result counts those of `n` tokens.

    It adds up exactly, block by block, in any order; what travels is one number a length.
    """

    def __init__(self, on: str, name: str = NAME) -> None:
        """`on` is a column of token ids (lists) or of lengths (integers); rows where it is null do not count.

        `name` is that of the result's column.
        """
        super().__init__(name, list, on=on, ignore_nulls=True)

    def aggregate_block(self, block: Block) -> list[int]:
        """The counts of a block's rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = BlockAccessor.for_block(block).to_arrow().column(self.get_target_column())
        kind = column.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            column = pc.list_value_length(column)
        elif not pa.types.is_integer(kind):
            raise TypeError(f"column '{self.get_target_column()}' holds {kind}, not token ids or lengths")
        counts: list[int] = histogram(column.drop_null().to_numpy()).tolist()
        return counts

    def combine(self, current_accumulator: list[int], new: list[int]) -> list[int]:
        """The counts of both."""
        return [one + other for one, other in zip_longest(current_accumulator, new, fillvalue=0)]


def histogram_of(result: Mapping[str, list[int]], name: str = NAME) -> Histogram:
    """The result of `data.aggregate(LengthHistogram(...))` as a histogram that can be asked."""
    import numpy as np

    return Histogram(np.asarray(result[name], dtype=np.int64))
