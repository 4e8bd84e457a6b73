"""What is to be said of rendered conversations: each observer looks at the rows of a batch, text in hand.

An observer gives codes with the rows (by index in the batch) that they hold for; they stand among
`Rows.remarks`. It runs on every row of every job, in the processes that share the work: it looks at what it
can tell of all texts at once before it looks at single rows.
"""

from collections.abc import Callable, Iterator, Sequence

from ftcheck_plugins.preparation.thought_rendering import thoughts
from ftcheck_plugins.preparation.tool_rendering import rendered_tools, written_calls
from ftcheck_plugins.reading.row_formats import Example

Observer = Callable[[Sequence[Example], Sequence[str | None]], Iterator[tuple[str, int]]]
"""Takes rows and their texts as rendered (None: the template raised); gives codes and rows."""


OBSERVERS: tuple[Observer, ...] = (thoughts, rendered_tools, written_calls)


def remarks(examples: Sequence[Example], texts: Sequence[str | None]) -> dict[str, list[int]]:
    """What all observers say of these rows: codes, each with its rows in order."""
    found: dict[str, list[int]] = {}
    for observer in OBSERVERS:
        for code, row in observer(examples, texts):
            found.setdefault(code, []).append(row)
    return found
