"""The digest over ids and labels of what is fed."""

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


IGNORED = -100
"""The label of a token that is not in the loss."""


class LabelDigest:
    """sha256 over the sha256 of all rows' lengths, of their ids and of their labels (little-endian int32).

    Three streams in data order: rows that lie behind one another are digested where they lie.
    """

    def __init__(self) -> None:
        """Start with no rows."""
        self._lengths, self._ids, self._labels = (hashlib.sha256() for _ in range(3))

    def add(self, ids: Any, labels: Any) -> None:
        """Add one row; `ids` and `labels` are integer sequences of one length. Raises `ValueError`."""
        import numpy as np

        if len(ids) != len(labels):
            raise ValueError(f"a row with {len(ids)} ids and {len(labels)} labels")
        self.add_flat(np.array([len(ids)]), np.asarray(ids), np.asarray(labels))

    def add_many(
        self,
        ids: "NDArray[np.int32]",
        mask: "NDArray[np.bool_]",
        starts: "NDArray[np.int64]",
        stops: "NDArray[np.int64]",
    ) -> None:
        """Add the rows that lie in `ids` from `starts` to `stops`; the loss sees what `mask` marks."""
        import numpy as np

        if not len(starts):
            return
        lengths = stops - starts
        taken: Any = slice(int(starts[0]), int(stops[-1]))
        if not np.array_equal(starts[1:], stops[:-1]):
            before = np.cumsum(lengths) - lengths
            taken = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)
        found, marked = ids[taken], mask[taken]
        self.add_flat(lengths, found, found if marked.all() else np.where(marked, found, IGNORED))

    def add_flat(self, lengths: "NDArray[Any]", ids: "NDArray[Any]", labels: "NDArray[Any]") -> None:
        """Add rows of these lengths, whose ids and labels lie one behind the other."""
        import numpy as np

        hashers = (self._lengths, self._ids, self._labels)
        for hasher, values in zip(hashers, (lengths, ids, labels), strict=True):
            hasher.update(np.ascontiguousarray(values, dtype="<i4").data)

    def text(self) -> str:
        """The digest of all rows so far."""
        parts = b"".join(one.digest() for one in (self._lengths, self._ids, self._labels))
        return "sha256:" + hashlib.sha256(parts).hexdigest()
