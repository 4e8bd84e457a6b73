"""Counts the tokens of messages' own words, for the plan: reads the rows once more, in a stream."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftcheck.dedup.fingerprints import text_of
from ftcheck.digest import of_bytes
from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.role_tokens import RoleTokens, Words, nothing
from ftcheck.packing.lengths import Histogram
from ftcheck.records import Progress
from ftcheck.settings import Job
from ftcheck_plugins.model.tokenizer import ChatTokenizer
from ftcheck_plugins.preparation.batches import batches
from ftcheck_plugins.preparation.preparation import source_of
from ftcheck_plugins.preparation.prepared_cache import CacheSlot, Result
from ftcheck_plugins.preparation.processes import uncollected
from ftcheck_plugins.preparation.rendering import Differs
from ftcheck_plugins.preparation.token_engines import Engine, Reference
from ftcheck_plugins.reading import files, row_formats
from ftcheck_plugins.reading.raw_rows import RawRow
from ftcheck_plugins.reading.row_formats import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST = 200_000
"""Of more conversations than this, so many are drawn."""
WORTH = 500_000
"""Tokens from which it pays to load the fast engine: fewer are counted by then."""
BESIDE = ("tool_calls", "function_call", "reasoning_content", "thinking", "reasoning")
"""Keys of a message whose text a template may write beside its content."""


@loader("role_tokens")
def role_tokens(job: Job, run: Run, prepared: Prepared, inputs: Any) -> RoleTokens | None:
    """Words of the conversations that are fed, by role and turn; None where no row is a conversation.

    What an earlier run counted in the same rows is taken from the cache; else `inputs` open the tokenizer.
    Raises `InputError` where the files are not those any more that were prepared.
    """
    import numpy as np

    good = (prepared.used & (prepared.rows.turns > 0)).nonzero()[0]
    if not len(good):
        return None
    drawn = good
    if len(good) > MOST:
        drawn = np.sort(np.random.default_rng(0).choice(good, MOST, replace=False))
    source = source_of(job, "train", run)
    kept = Result(CacheSlot(job, run, source, inputs, "train"), "words", of_bytes(drawn.tobytes()))
    found = _read(kept.read())
    if found is None:
        found = _counted(job, run, prepared, inputs, drawn)
        kept.keep(_written(found), rows=found.rows, tokens=found.tokens)
    return replace(found, total=len(good))


def _written(found: RoleTokens) -> dict[str, Any]:
    """As JSON."""
    numbers = {name: getattr(found, name) for name in ("rows", "tokens", "beside", "short")}
    parts = {
        kind: [[one.name, one.counts.counts.tolist()] for one in some]
        for kind, some in (("roles", found.roles), ("turns", found.turns))
    }
    return {**numbers, **parts, "rest": found.rest.counts.tolist()}


def _read(kept: Any) -> RoleTokens | None:
    """What `_written` made, if it is that."""
    import numpy as np

    def histogram(counts: list[int]) -> Histogram:
        return Histogram(np.array(counts, dtype=np.int64))

    def parts(stated: list[list[Any]]) -> tuple[Words, ...]:
        return tuple(Words(name, histogram(counts)) for name, counts in stated)

    try:
        return RoleTokens(
            rows=kept["rows"],
            tokens=kept["tokens"],
            roles=parts(kept["roles"]),
            turns=parts(kept["turns"]),
            rest=histogram(kept["rest"]),
            beside=kept["beside"],
            short=kept["short"],
            total=kept["rows"],
        )
    except (KeyError, TypeError, ValueError):
        return None


def _counted(job: Job, run: Run, prepared: Prepared, inputs: Any, drawn: "NDArray[np.int64]") -> RoleTokens:
    tokenizer = inputs.get("tokenizer")
    if not isinstance(tokenizer, ChatTokenizer):
        raise InputError(f"counting tokens per role needs a transformers tokenizer, not {tokenizer!r}")
    reference = Reference(tokenizer.backend)
    worth = int(prepared.length[drawn].sum()) >= WORTH
    with uncollected():
        try:
            return _Count(job, run, prepared, Engine(reference, fast=worth)).of(drawn)
        except Differs:
            return _Count(job, run, prepared, Engine(reference, fast=False)).of(drawn)


@dataclass(frozen=True)
class _Count:
    """One pass over some rows of a job."""

    job: Job
    run: Run
    prepared: Prepared
    engine: Engine

    def of(self, drawn: "NDArray[np.int64]") -> RoleTokens:
        """What is said in these rows, by index and in data order. Raises `Differs`."""
        table = self.prepared.rows
        columns = (drawn, table.file[drawn], table.offset[drawn])
        wanted = list(zip(*(one.tolist() for one in columns), strict=True))
        source = source_of(self.job, "train", self.run)
        found, seen = nothing(), 0
        for raws in batches(files.rows_at(source, wanted, offline=self.run.offline)):
            found = found.merge(self._batch(raws, drawn[seen : seen + len(raws)]))
            seen += len(raws)
            self._tell(seen, len(drawn))
        if seen < len(drawn):
            raise self._changed()
        self._tell(seen, len(drawn), finished=True)
        return found

    def _batch(self, raws: Sequence[RawRow], rows: "NDArray[np.int64]") -> RoleTokens:
        import numpy as np

        examples = [self._example(raw) for raw in raws]
        turns = [turn for one in examples for turn in one.turns]
        return RoleTokens.of(
            [turn["role"] for turn in turns],
            self._words([text_of(turn.get("content")) for turn in turns]),
            np.array([len(one.turns) for one in examples], dtype=np.int64),
            self.prepared.length[rows].astype(np.int64),
            beside=sum(map(_has_more, examples)),
        )

    def _words(self, texts: Sequence[str]) -> "NDArray[np.int64]":
        """Tokens of each text; one that comes again (a system prompt) is encoded once."""
        import numpy as np

        places: dict[str, int] = {}
        which = [places.setdefault(text, len(places)) for text in texts]
        lengths: NDArray[np.int64] = np.diff(self.engine.encode(list(places), special=False).starts)
        return lengths[which]

    def _example(self, raw: RawRow) -> Example:
        layout, text_field = self.prepared.rows.format, self.job.training.dataset_text_field
        made = row_formats.example(raw.data, layout, text_field) if raw.data is not None else None
        if not isinstance(made, Example) or not made.turns:
            raise self._changed()
        return made

    def _changed(self) -> InputError:
        return InputError(f"data.train of job {self.job.label} changed after it was prepared: run again")

    def _tell(self, seen: int, total: int, *, finished: bool = False) -> None:
        self.run.report(Progress(f"role tokens of {self.job.label}", seen, total, "rows", finished))


def _has_more(made: Example) -> bool:
    """Whether a row has more to render than its messages' words: tools, calls, thoughts."""
    return bool(made.tools) or any(
        len(turn) > 2 and any(turn.get(key) for key in BESIDE) for turn in made.turns
    )
